/** examples/train-mlp.mjs learns what the same training in float64 learns: losses from the first update to the last, and products. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { jaxNormal } from '../../engine/jax-random.ts';
import { prngKey } from '../../engine/threefry.ts';
import { runModule } from '../support/examples.ts';
import { ROOT, scratch } from '../support/repository.ts';

const [BATCH, HIDDEN] = [64, 8];
const normals = (seed: number, count: number) => Float64Array.from(jaxNormal(prngKey(seed), { count }));
const points = normals(0, 2 * BATCH);

/** Losses before each of `updates` updates by AdamW without decay, of x -> (x w1 + b1)^2 w2 + b2. */
function lossesInDoubles(updates: number): number[] {
  const params = [2 * HIDDEN, HIDDEN, HIDDEN, 1].map((size, i) => normals(1 + i, size).map((v) => 0.5 * v));
  const [w1, b1, w2, b2] = params as [Float64Array, Float64Array, Float64Array, Float64Array];
  const zeros = () => params.map(({ length }) => new Float64Array(length));
  const [m, v] = [zeros(), zeros()];
  const losses: number[] = [];
  for (let count = 1; count <= updates; count++) {
    const gradients = zeros();
    const [dw1, db1, dw2, db2] = gradients as typeof params as [Float64Array, Float64Array, Float64Array, Float64Array];
    let loss = 0;
    for (let row = 0; row < BATCH; row++) {
      const [x0, x1] = [points[2 * row]!, points[2 * row + 1]!];
      const h = b1.map((b, j) => x0 * w1[j]! + x1 * w1[HIDDEN + j]! + b);
      const error = h.reduce((sum, u, j) => sum + u * u * w2[j]!, b2[0]!) - Math.fround(x0 * x1);
      loss += error ** 2 / BATCH;
      const dy = (2 * error) / BATCH;
      db2[0]! += dy;
      h.forEach((u, j) => {
        dw2[j]! += dy * u * u;
        const dh = dy * w2[j]! * 2 * u;
        db1[j]! += dh;
        dw1[j]! += dh * x0;
        dw1[HIDDEN + j]! += dh * x1;
      });
    }
    losses.push(loss);
    gradients.forEach((gradient, p) => {
      gradient.forEach((g, i) => {
        m[p]![i] = 0.9 * m[p]![i]! + 0.1 * g;
        v[p]![i] = 0.999 * v[p]![i]! + 0.001 * g * g;
        const [mean, square] = [m[p]![i]! / (1 - 0.9 ** count), v[p]![i]! / (1 - 0.999 ** count)];
        params[p]![i]! -= (0.02 * mean) / (Math.sqrt(square) + 1e-8);
      });
    });
  }
  return losses;
}

it('trains as float64 does, and multiplies', async () => {
  const folder = scratch();
  try {
    const printed = await runModule(join(ROOT, 'examples/train-mlp.mjs'), join(folder, 'train-mlp.mjs'));
    const wanted = lossesInDoubles(200);
    const losses = Array.from(printed.matchAll(/^update (\d+): loss (\S+)$/gm), ([, n, loss]) => [
      Number(n),
      Number(loss),
    ]);
    expect(losses.map(([n]) => n)).toEqual([1, 50, 100, 150, 200]);
    for (const [n, loss] of losses) {
      // Printed with four digits; float32 rounds predictions of up to 5 by a few 1e-7.
      const root = Math.sqrt(wanted[n! - 1]!);
      expect(Math.abs(Math.sqrt(loss!) - root), `update ${n}`).toBeLessThan(3e-4 * root + 1e-6);
    }
    const products = Array.from(printed.matchAll(/^(\S+) \* (\S+) = (\S+)$/gm), (found) => found.slice(1).map(Number));
    expect(products.map(([a, b]) => [a, b])).toEqual(
      [0, 1, 2].map((i) => [0, 1].map((k) => Number(points[2 * i + k]!.toFixed(3)))),
    );
    products.forEach(([, , c], i) => {
      expect(Math.abs(c! - points[2 * i]! * points[2 * i + 1]!)).toBeLessThan(1e-3);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
