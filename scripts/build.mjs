/** Bundles the library and the command into dist/ with esbuild; WGSL is inlined as text. */
import { build } from 'esbuild';

const common = {
  bundle: true,
  format: 'esm',
  target: 'es2022',
  loader: { '.wgsl': 'text' },
  sourcemap: true,
  logLevel: 'warning',
  outdir: 'dist',
};
await build({
  ...common,
  platform: 'node',
  packages: 'external',
  entryPoints: { cli: 'cli/main.ts' },
  banner: { js: '#!/usr/bin/env node' },
});
