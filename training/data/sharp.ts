/** Loads sharp, which decodes pictures: when a folder of them is read, and not before. */
import type Sharp from 'sharp';
import { UnsupportedError } from '../../engine/errors.ts';

/** Imports sharp. Its libraries for each platform are optional packages, which npm may leave out. @throws UnsupportedError */
export async function loadSharp(load: () => Promise<{ default: typeof Sharp }> = () => import('sharp')) {
  try {
    return (await load()).default;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    const reason = missing ? 'is not installed' : 'has no library for this platform';
    throw new UnsupportedError(`pictures in folders are decoded by the package sharp, which ${reason}`, {
      hint: 'npm install --include=optional; or use IDX or CIFAR-10 files, or in a program decode them yourself, for datasetOf',
      cause,
    });
  }
}
