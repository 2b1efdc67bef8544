/** Linear algebra by OpenBLAS against our own code, where there is an OpenBLAS; and what is said where there is none. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError, NonFiniteError, UnsupportedError } from '../../engine/errors.ts';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import { frechetDistance, measuredFrechet } from '../../evaluation/frechet.ts';
import { type LinearAlgebra, ownAlgebra } from '../../evaluation/linear-algebra.ts';
import { openLinearAlgebra } from '../../evaluation/openblas.node.ts';
import { parseSafetensors } from '../../formats/safetensors.ts';
import { FIXTURES, relativeError } from '../support/golden.ts';
import { normals } from '../support/normals.ts';

const there = await openLinearAlgebra('openblas').catch((error: UnsupportedError) => error.message);
const openblas = typeof there === 'string' ? undefined : there;
if (!openblas) console.warn(`not compared with OpenBLAS: ${there}`);

const features = (rows: number, width: number, seed: number, spread: (i: number) => number) => {
  const normal = normals(seed);
  return Float32Array.from({ length: rows * width }, (_, i) => normal() * spread(i % width) + 0.1 * (i % width));
};

describe.runIf(openblas)('OpenBLAS', () => {
  const blas = openblas as LinearAlgebra;

  it('says which it is', () => {
    expect(blas.name).toMatch(/^openblas \d+\.\d+\.\d+$/);
  });

  it.each([1, 2, 5, 64, 130])('gives the statistics and the distance of our own code, %d wide', (width) => {
    const [a, b] = [3 * width + 7, 4 * width + 70].map((rows, seed) =>
      features(rows, width, seed + 1, (i) => 1 / (1 + i)),
    ) as [Float32Array, Float32Array];
    const [own, theirs] = [ownAlgebra, blas].map((algebra) => {
      const [x, y] = [a, b].map((set) => featureStatistics(set, width, algebra)) as [
        ReturnType<typeof featureStatistics>,
        ReturnType<typeof featureStatistics>,
      ];
      return { covariance: x.covariance, fd: frechetDistance(x, y, { algebra }) };
    }) as [{ covariance: Float64Array; fd: number }, { covariance: Float64Array; fd: number }];
    expect(own.fd).toBeGreaterThan(0);
    expect(relativeError(theirs.covariance, own.covariance)).toBeLessThan(1e-12);
    expect(Math.abs(theirs.fd / own.fd - 1)).toBeLessThan(1e-6);
  });

  it('gives the same where a covariance has a lower rank', () => {
    const width = 40;
    const few = featureStatistics(
      features(17, width, 5, (i) => 1 + (i % 3)),
      width,
    );
    const many = featureStatistics(
      features(300, width, 6, () => 1),
      width,
    );
    for (const [a, b] of [
      [few, many],
      [few, few],
      [{ ...many, covariance: new Float64Array(width ** 2) }, many],
    ] as const) {
      const own = frechetDistance(a, b);
      const scale = Math.max(1, own);
      expect(Math.abs(frechetDistance(a, b, { algebra: blas }) - own) / scale).toBeLessThan(1e-6);
    }
  });

  it('gives the recorded distances', async () => {
    const tensors = parseSafetensors(await readFile(join(FIXTURES, 'fid.safetensors')), 'fid.safetensors');
    const recorded = JSON.parse(await readFile(join(FIXTURES, 'fid.json'), 'utf8')) as Record<
      string,
      { float64_eigen_without_offset: number }
    >;
    const pairs = Object.keys(recorded).filter((name) => name.includes(' vs '));
    expect(pairs.length).toBeGreaterThan(2);
    for (const pair of pairs) {
      const [a, b] = pair.split(' vs ').map((set) => ({
        ...featureStatistics(tensors.floats(`${set}/activations`), 64, blas),
        mean: Float64Array.from(tensors.floats(`${set}/mu`)),
      }));
      const wanted = recorded[pair]!.float64_eigen_without_offset;
      expect(Math.abs(frechetDistance(a!, b!, { algebra: blas }) - wanted), pair).toBeLessThan(1e-6);
    }
  });

  it('gives the same interval', async () => {
    const samples = features(60, 6, 7, () => 1);
    const real = featureStatistics(
      features(80, 6, 8, () => 2),
      6,
    );
    const own = await measuredFrechet(samples, real, { seed: 3, replicates: 20 });
    const theirs = await measuredFrechet(samples, real, { seed: 3, replicates: 20, algebra: blas });
    for (const key of ['value', 'low', 'high'] as const)
      expect(Math.abs(theirs[key]! / own[key]! - 1)).toBeLessThan(1e-6);
  });

  it('refuses numbers that are not finite', () => {
    const b = Float64Array.of(1, 0, 0, Number.NaN);
    expect(() => blas.rootTrace(Float64Array.of(1, 0, 0, 1), b, 2)).toThrow(NonFiniteError);
  });
});

describe('without OpenBLAS', () => {
  const before = process.env.ODELT_OPENBLAS;
  afterEach(() => {
    if (before === undefined) delete process.env.ODELT_OPENBLAS;
    else process.env.ODELT_OPENBLAS = before;
  });

  it('our own code is taken, unless the other is asked for', async () => {
    process.env.ODELT_OPENBLAS = '/nowhere/libopenblas.so.0';
    expect((await openLinearAlgebra('auto')).name).toBe('own');
    expect((await openLinearAlgebra('own')).name).toBe('own');
    const asked = openLinearAlgebra('openblas');
    await expect(asked).rejects.toThrow(UnsupportedError);
    await expect(asked).rejects.toThrow(/OpenBLAS cannot be used: .*(koffi|\/nowhere\/libopenblas\.so\.0)/);
    await expect(asked).rejects.toMatchObject({ hint: expect.stringContaining('--linear-algebra own') });
  });

  it('a library is not looked for in the current folder, nor is another library taken for it', async () => {
    process.env.ODELT_OPENBLAS = 'libopenblas.so.0';
    await expect(openLinearAlgebra('auto')).rejects.toThrow(ConfigError);
    await expect(openLinearAlgebra('auto')).rejects.toThrow(
      "ODELT_OPENBLAS is 'libopenblas.so.0'; it must be an absolute",
    );
  });
});
