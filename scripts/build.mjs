/**
 * Builds the package into dist/, or the folder given: one ES module per source, so that bundlers keep only what is imported
 * (package.json says which modules have side effects). WGSL becomes modules of text without comments, JSON modules of data. Packages that
 * package.json lists as dependencies, optional and peer ones among them, stay imports; the others are built in, so that browsers can load
 * dist/index.js as it is, and their licences are in THIRD-PARTY-LICENSES.txt.
 *   node scripts/build.mjs [DIR] [--types]      --types: declarations beside the modules, too, and no file of an earlier build
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { bareWgsl } from './wgsl-text.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
// Workers are started by their URLs, so nothing imports them.
const WORKERS = ['web/module.ts', 'training/data/decode-worker.js'];
const ENTRIES = ['index.ts', 'node.ts', 'ops.ts', 'bench.ts', 'jax.ts', 'worker.ts', 'cli/main.ts', ...WORKERS];
const types = process.argv.includes('--types');
const outdir = resolve(process.argv.slice(2).find((argument) => argument !== '--types') ?? join(ROOT, 'dist'));
const { version, dependencies, optionalDependencies, peerDependencies } = JSON.parse(
  readFileSync(join(ROOT, 'package.json'), 'utf8'),
);

const common = {
  absWorkingDir: ROOT,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  mainFields: ['module', 'main'],
  loader: { '.wgsl': 'text' },
  external: ['node:*', ...Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })],
  logLevel: 'warning',
  outdir,
};

/** What a source becomes, relative to the output folder. */
const target = (source) =>
  source === 'cli/main.ts' ? 'cli.js' : /\.(wgsl|json)$/.test(source) ? `${source}.js` : source.replace(/\.ts$/, '.js');

/** Leaves imports of our own files as imports, of what they become. */
const separateModules = {
  name: 'separate-modules',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\// }, ({ path, importer, resolveDir, kind }) => {
      if (kind === 'entry-point' || importer.includes('node_modules')) return;
      const from = dirname(target(relative(ROOT, importer)));
      const to = relative(from, target(relative(ROOT, resolve(resolveDir, path))));
      return { path: to.startsWith('.') ? to : `./${to}`, external: true };
    });
  },
};

/** WGSL without what no compiler needs: a third of it is comments. */
const wgslText = {
  name: 'wgsl-text',
  setup({ onLoad }) {
    onLoad({ filter: /\.wgsl$/ }, ({ path }) => ({
      contents: bareWgsl(readFileSync(path, 'utf8')),
      loader: 'text',
    }));
  },
};

/**
 * Tells bundlers that contracts and kernels that nobody uses may go, with all that they call while they are made: annotations of
 * functions (`@__NO_SIDE_EFFECTS__`) are read within one file only, and modules are built apart.
 */
const unusedMayGo = {
  name: 'unused-may-go',
  setup({ onLoad }) {
    onLoad({ filter: /\/kernels\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8')
        .replace(/^(export const \w+Contract = )(contract<[\s\S]*?^\}\));$/gm, '$1/* @__PURE__ */ (() => $2)();')
        .replace(/^((?:export )?const \w+ = )(defineKernel\()/gm, '$1/* @__PURE__ */ $2'),
      loader: 'ts',
    }));
  },
};

/** Every source that the entries reach, and the files of packages that are built in. */
async function reached() {
  const { metafile } = await build({ ...common, entryPoints: ENTRIES, write: false, metafile: true });
  const inputs = Object.keys(metafile.inputs);
  const isOurs = (file) => !file.startsWith('node_modules/');
  return { sources: inputs.filter(isOurs), thirdParty: inputs.filter((file) => !isOurs(file)) };
}

/** The page of `odelt studio`, whole in its folder: its files, its script, and the worker that does its work. */
async function writeStudio() {
  const into = join(outdir, 'studio');
  if (existsSync(into)) rmSync(into, { recursive: true });
  await build({
    ...common,
    outdir: into,
    platform: 'browser',
    entryPoints: [
      { in: 'studio/page.ts', out: 'page' },
      { in: 'web/module.ts', out: 'module' },
    ],
    plugins: [wgslText],
    splitting: true,
    define: { ODELT_VERSION: JSON.stringify(version) },
    // Not identifiers, so that stacks can be read.
    minifyWhitespace: true,
    minifySyntax: true,
    chunkNames: '[name]-[hash]',
  });
  const served = readdirSync(join(ROOT, 'studio')).filter((name) => /\.(html|css|svg)$/.test(name));
  for (const name of served) copyFileSync(join(ROOT, 'studio', name), join(into, name));
}

function writeLicences(files) {
  const names = [...new Set(files.map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)[1]))].sort();
  const texts = names.map((name) => {
    const folder = join(ROOT, 'node_modules', name);
    const licence = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return `${name} ${version}\n\n${readFileSync(join(folder, licence), 'utf8').trim()}\n`;
  });
  writeFileSync(join(outdir, 'THIRD-PARTY-LICENSES.txt'), texts.join(`\n${'-'.repeat(80)}\n\n`));
}

/**
 * Declarations name the files that they import as the build does, and bring along names of WebGPU that a project may lack.
 */
function writeTypes() {
  execFileSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', join(ROOT, 'tsconfig.build.json'), '--outDir', outdir], {
    stdio: 'inherit',
  });
  const globals = readFileSync(join(ROOT, 'engine/webgpu.d.ts'), 'utf8');
  writeFileSync(join(outdir, 'engine/webgpu.d.ts'), globals);
  for (const name of readdirSync(outdir, { recursive: true }).filter((file) => file.endsWith('.d.ts'))) {
    if (name === join('engine', 'webgpu.d.ts')) continue;
    const file = join(outdir, name);
    const text = readFileSync(file, 'utf8').replace(/((?:from|import) ?\(?['"]\.[^'"]*)\.ts(['"])/g, '$1.js$2');
    const path = relative(dirname(file), join(outdir, 'engine/webgpu.d.ts'));
    const needs = /\bGPU[A-Z]?\w*/.test(text.replace(/\/\*.*?\*\//gs, ''));
    writeFileSync(
      file,
      needs ? `/// <reference path="${path.startsWith('.') ? path : `./${path}`}" />\n${text}` : text,
    );
  }
}

if (types && existsSync(outdir)) rmSync(outdir, { recursive: true });
const { sources, thirdParty } = await reached();
await build({
  ...common,
  entryPoints: sources.map((source) => ({ in: source, out: target(source).replace(/\.js$/, '') })),
  plugins: [separateModules, wgslText, unusedMayGo],
  splitting: true,
  chunkNames: 'third-party/[name]-[hash]',
  sourcemap: true,
});
writeLicences(thirdParty);
await writeStudio();
if (types) writeTypes();
