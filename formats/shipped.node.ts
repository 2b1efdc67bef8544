/** The files that come with the package: beside its package.json, from the sources as from the build. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../engine/errors.ts';

interface Manifest {
  readonly name: string;
  readonly version: string;
}

/** The package's folder and what its package.json says. @throws UsageError where a bundler has taken the code out of it. */
function shippedPackage(): { root: string; manifest: Manifest } {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let root = start; ; root = dirname(root)) {
    const file = join(root, 'package.json');
    if (existsSync(file)) {
      const manifest = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
      if (manifest.name === 'odelt') return { root, manifest };
    }
    if (dirname(root) === root) {
      throw new UsageError(`odelt's own files are not above ${start}`, {
        hint: 'keep odelt out of your bundle (external), or name the files yourself',
      });
    }
  }
}

/** The package's version. @throws UsageError */
export const shippedVersion = (): string => shippedPackage().manifest.version;

/** Path of the model that comes with the package: Fashion-MNIST, the preset `tiny`. @throws UsageError in a bundle. */
export const shippedModel = (): string => join(shippedPackage().root, 'models', 'fashion-mnist.safetensors');

/** Path of the classifier that comes with the package, of Fashion-MNIST's classes (`readClassifier`). @throws UsageError in a bundle. */
export const shippedClassifier = (): string => join(shippedPackage().root, 'models', 'fashion-classifier.safetensors');

/** Folder of the 10,000 Fashion-MNIST test pictures, for `openDataset`. @throws UsageError in a bundle. */
export const shippedData = (): string => join(shippedPackage().root, 'data', 'fashion-mnist');

/** Folder of the reference's recordings, which `odelt verify` replays. @throws UsageError in a bundle. */
export const shippedGolden = (): string => join(shippedPackage().root, 'test', 'fixtures', 'golden');

/** Path of what a benchmark saved that comes with the package. @throws UsageError in a bundle. */
export const shippedBench = (name: string): string => join(shippedPackage().root, 'bench', 'results', name);
