/** The folders of the sources: what each may import, and which files are in it. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './repository.ts';

const LIBRARY = {
  engine: [],
  cluster: ['engine'],
  formats: ['engine'],
  pictures: ['engine', 'formats'],
  kernels: ['engine'],
  model: ['engine', 'formats', 'kernels'],
  training: ['engine', 'cluster', 'formats', 'kernels', 'model'],
  sampling: ['engine', 'formats', 'kernels', 'model'],
  evaluation: ['engine', 'formats', 'kernels', 'model', 'training', 'sampling', 'pictures'],
  verify: ['engine', 'formats', 'kernels', 'model', 'training', 'sampling', 'evaluation'],
  bench: ['engine', 'cluster', 'formats', 'pictures', 'kernels', 'model', 'training', 'sampling', 'verify'],
  tuning: ['engine', 'formats', 'kernels', 'model', 'training', 'sampling', 'bench'],
};

/** What each folder may import of the others. Files at the root are the package's entries and come last. */
export const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  ...LIBRARY,
  web: Object.keys(LIBRARY),
  studio: [...Object.keys(LIBRARY), 'web'],
  cli: Object.keys(LIBRARY),
};

/** All TypeScript of these folders, relative to the root. */
export const sourceFiles: readonly string[] = Object.keys(ALLOWED).flatMap((folder) => {
  try {
    return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.includes('node_modules')) // bench/peers has its own
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
});
