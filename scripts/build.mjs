/**
 * Bundles the library and the command with esbuild into dist/, or the folder given as argument; WGSL is inlined as text.
 * index.js (browsers) holds all it needs; node.js and cli.js import the package's dependencies.
 */
import { build } from 'esbuild';

const common = {
  bundle: true,
  format: 'esm',
  target: 'es2022',
  loader: { '.wgsl': 'text' },
  sourcemap: true,
  logLevel: 'warning',
  outdir: process.argv[2] ?? 'dist',
};
const forNode = { ...common, platform: 'node', packages: 'external' };
await Promise.all([
  build({ ...common, platform: 'browser', entryPoints: { index: 'index.ts' } }),
  build({ ...forNode, entryPoints: { node: 'node.ts' } }),
  build({ ...forNode, entryPoints: { cli: 'cli/main.ts' }, banner: { js: '#!/usr/bin/env node' } }),
]);
