/** Data sets on disk: folders of small pictures, and files as CIFAR-10 has them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';

/** A folder with `count` PNGs of varying sizes in each class, in colour unless `grey`. */
export async function pictureFolder(
  path: string,
  classes: readonly string[],
  count: number,
  grey = false,
): Promise<void> {
  for (const [label, name] of classes.entries()) {
    mkdirSync(join(path, name), { recursive: true });
    for (let i = 0; i < count; i++) {
      const [width, height] = [20 + 3 * i, 50 - i];
      const channels = grey ? 1 : 3;
      const pixels = Uint8Array.from(
        { length: width * height * channels },
        (_, k) => (k * 7 + i * 31 + label * 90) % 256,
      );
      const raw = { width, height, channels } as const;
      await sharp(pixels, { raw })
        .png()
        .toFile(join(path, name, `${i}.png`));
    }
  }
}

/** A folder with a first training batch of CIFAR-10 of `count` records. */
export function cifarFolder(path: string, count: number): void {
  mkdirSync(path, { recursive: true });
  const records = Uint8Array.from({ length: 3073 * count }, (_, k) =>
    k % 3073 === 0 ? (k / 3073) % 10 : (k * 13) % 256,
  );
  writeFileSync(join(path, 'data_batch_1.bin'), records);
}
