import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { bareWgsl } from './scripts/wgsl-text.mjs';

/**
 * Four projects, told apart by the names of their files: `NAME.test.ts` needs no GPU (nor a driver that plays one),
 * `NAME.process.test.ts` builds and starts the command again and again, `NAME.gpu.test.ts` wants an adapter,
 * `NAME.browser.test.ts` a Chromium.
 */
const project = (name: string, include: string, exclude: string[] = []) => ({
  extends: true as const,
  test: { name, include: [include], exclude: ['node_modules/**', ...exclude] },
});

/** Examples import the package by its name; tests give them the sources. */
const entry = (name: string) => fileURLToPath(new URL(`${name}.ts`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^odelt$/, replacement: entry('index') },
      { find: /^odelt\/(node|ops|bench|jax|worker)$/, replacement: entry('$1') },
    ],
  },
  plugins: [
    {
      // As it is shipped: digests of kernels are the built command's.
      name: 'wgsl-as-text',
      enforce: 'pre',
      load(id) {
        if (id.endsWith('.wgsl')) return `export default ${JSON.stringify(bareWgsl(readFileSync(id, 'utf8')))}`;
      },
    },
  ],
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 600_000,
    projects: [
      project('unit', 'test/**/*.test.ts', ['test/**/*.{process,gpu,browser}.test.ts']),
      project('process', 'test/**/*.process.test.ts'),
      project('gpu', 'test/**/*.gpu.test.ts'),
      project('browser', 'test/**/*.browser.test.ts'),
    ],
  },
});
