/** Runs what documents and examples show, as a user's program would: under Node, with the package's sources in the place of the built package. */
import { copyFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { ROOT, run, textOf } from './repository.ts';

/** Bundles a module that imports 'odelt' into `outfile`, runs it in the repository's root, and returns what it prints. */
export async function runModule(file: string, outfile: string, ...parameters: string[]): Promise<string> {
  const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> };
  await build({
    entryPoints: [file],
    outfile,
    bundle: true,
    // As scripts/build.mjs has it: packages that are built in give what browsers take, too.
    platform: 'neutral',
    mainFields: ['module', 'main'],
    format: 'esm',
    target: 'es2022',
    loader: { '.wgsl': 'text' },
    alias: {
      ...Object.fromEntries(['node', 'ops', 'bench', 'jax'].map((name) => [`odelt/${name}`, join(ROOT, `${name}.ts`)])),
      odelt: join(ROOT, 'node.ts'),
    },
    external: ['node:*', ...[...Object.keys(dependencies), 'webgpu', 'koffi'].flatMap((name) => [name, `${name}/*`])],
    logLevel: 'silent',
  });
  // Started by its URL, so nothing imports it.
  copyFileSync(join(ROOT, 'training/data/decode-worker.js'), join(dirname(outfile), 'decode-worker.js'));
  const { stdout } = await run(process.execPath, [outfile, ...parameters], { cwd: ROOT, timeout: 110_000 });
  return stdout;
}
