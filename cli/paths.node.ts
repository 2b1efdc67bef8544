/** Where the files that come with the package are: beside its package.json, from the sources as from the bundle. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../engine/errors.ts';

function packageRoot(): string {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'package.json'))) {
    if (dirname(at) === at) throw new UsageError('package.json was not found above the program');
    at = dirname(at);
  }
  return at;
}

/** The 10,000 Fashion-MNIST test pictures. */
export const bundledData = (): string => join(packageRoot(), 'data', 'fashion-mnist');
export const bundledGolden = (): string => join(packageRoot(), 'test', 'fixtures', 'golden');
export const bundledModel = (): string => join(packageRoot(), 'models', 'fashion-mnist.safetensors');
