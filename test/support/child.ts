/** Programs that tests run as processes of their own: what they check is of a process, as its memory, its end or its directory. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { ROOT, run } from './repository.ts';

/** Bundles a program for Node, whose imports are relative to the repository's root, into `outfile`. */
export async function bundle(program: string, outfile: string): Promise<void> {
  await build({
    stdin: { contents: program, resolveDir: ROOT, loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['webgpu', 'sharp', 'koffi'],
    loader: { '.wgsl': 'text' },
    outfile,
  });
}

/** Runs a program where it finds the repository's packages, and returns what it prints. */
export async function runProgram(program: string, args: readonly string[] = []): Promise<string> {
  const outfile = join(ROOT, 'node_modules', '.cache', `odelt-test-${process.pid}-${Date.now()}.mjs`);
  await bundle(program, outfile);
  try {
    const { stdout } = await run(process.execPath, [...args, outfile], { timeout: 300_000 });
    return stdout;
  } finally {
    rmSync(outfile, { force: true });
  }
}
