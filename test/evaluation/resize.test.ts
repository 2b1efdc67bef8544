/** Bilinear resizing against weights worked out by hand, and against a plain sum over all old pixels. */
import { expect, it } from 'vitest';
import { resizeBilinear } from '../../evaluation/resize.ts';
import { normals } from '../support/normals.ts';

it('twice as large takes three quarters of the nearest and a quarter of the next, at the edge all of the edge', () => {
  const found = resizeBilinear(Float32Array.of(0, 4), { height: 1, width: 2 }, { height: 1, width: 4 }, 1);
  expect([...found]).toEqual([0, 1, 3, 4]);
});

it('half as large takes the two in the middle of each four: nothing is smoothed beyond', () => {
  const line = Float32Array.of(1, 2, 3, 4, 50, 6, 7, 8);
  expect([...resizeBilinear(line, { height: 8, width: 1 }, { height: 2, width: 1 }, 1)]).toEqual([2.5, 6.5]);
});

it('the same size leaves every bit', () => {
  const images = Float32Array.from({ length: 2 * 3 * 5 * 3 }, normals(1));
  expect(resizeBilinear(images, { height: 3, width: 5 }, { height: 3, width: 5 }, 3)).toEqual(images);
});

it.each([
  [{ height: 28, width: 28 }, { height: 299, width: 299 }, 1],
  [{ height: 5, width: 7 }, { height: 3, width: 11 }, 3],
])('%j to %j is the sum of all pixels by their triangles', (from, to, channels) => {
  // The definition (as of jax.image.resize without antialias): weights max(0, 1 - |distance|), divided by their sum within the picture.
  const weights = (n: number, m: number) =>
    Array.from({ length: m }, (_, i) => {
      const row = Array.from({ length: n }, (_, k) => Math.max(0, 1 - Math.abs(((i + 0.5) * n) / m - 0.5 - k)));
      const sum = row.reduce((a, b) => a + b);
      return row.map((w) => w / sum);
    });
  const images = Float32Array.from({ length: 2 * from.height * from.width * channels }, normals(2));
  const found = resizeBilinear(images, from, to, channels);
  const [down, across] = [weights(from.height, to.height), weights(from.width, to.width)];
  let worst = 0;
  const places = [0, 1, Math.floor(to.height / 2), to.height - 1];
  for (const i of [0, 1]) {
    for (const y of places) {
      for (let x = 0; x < to.width; x++) {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let r = 0; r < from.height; r++) {
            for (let k = 0; k < from.width; k++) {
              sum += down[y]![r]! * across[x]![k]! * images[((i * from.height + r) * from.width + k) * channels + c]!;
            }
          }
          worst = Math.max(worst, Math.abs(sum - found[((i * to.height + y) * to.width + x) * channels + c]!));
        }
      }
    }
  }
  expect(found.length).toBe(2 * to.height * to.width * channels);
  expect(worst).toBeLessThan(2e-7);
});
