/** The page and odelt's worker, which esbuild does not find by itself, into dist/: node build.mjs */
import { copyFileSync } from 'node:fs';
import { build } from 'esbuild';

await build({
  entryPoints: { main: 'main.js', worker: 'odelt/worker/module' },
  outdir: 'dist',
  bundle: true,
  minify: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
});
copyFileSync('index.html', 'dist/index.html');
