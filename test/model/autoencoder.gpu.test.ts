/** Autoencoders of latents on an adapter, made of random weights: scales, batches, halves, memory; what verify holds them to is in test/verify. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, NonFiniteError, UsageError } from '../../engine/errors.ts';
import { Autoencoder, autoencoderPeak, createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import { gaussianOf } from '../../model/autoencoder/gaussian.ts';
import { type ImportedAutoencoder, importAutoencoder } from '../../model/autoencoder/import.ts';
import { paramsByName } from '../../model/params.ts';
import { foreignWeights, importedKl, SMALL_KL, smallKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { relativeError } from '../support/golden.ts';
import { normals } from '../support/normals.ts';
import { bits } from '../support/tiny.ts';

let engine: Engine;
let imported: ImportedAutoencoder;
let whole: Autoencoder;
beforeAll(async () => {
  engine = await testEngine();
  imported = await importedKl();
  whole = await createAutoencoder(engine, imported);
}, 600_000);
afterAll(() => engine.dispose());

const draw = (seed: number, ...shape: [number, number, number, number]) => {
  const normal = normals(seed);
  return { values: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => normal()), shape };
};
const latents = draw(1, 3, 3, 5, 4);
const pictures = draw(2, 2, 6, 10, 3);

describe('what a model of latents works on', () => {
  it('is (latent - shift) * factor, either way', async () => {
    const decoded = await whole.decode(latents);
    expect(decoded.shape).toEqual([3, 6, 10, 3]);
    const plain = { ...latents, values: latents.values.map((v) => v / 0.5 + 0.25) };
    expect(bits(decoded.values)).toBe(bits((await whole.raw('decoder', plain)).values));
    const { latents: encoded, gaussian } = await whole.encode(pictures);
    expect(encoded.shape).toEqual([2, 3, 5, 4]);
    const moments = await whole.raw('encoder', pictures);
    expect(moments.shape).toEqual([2, 3, 5, 8]);
    expect(gaussian).toEqual(gaussianOf(moments.values, 4));
    expect(encoded.values).toEqual(gaussian!.mean.map((v) => (v - 0.25) * 0.5));
  }, 600_000);

  it('has the same bits alone as beside others', async () => {
    const all = await whole.decode(latents);
    const size = latents.values.length / 3;
    const last = await whole.decode({ values: latents.values.slice(2 * size), shape: [1, 3, 5, 4] });
    expect(bits(last.values)).toBe(bits(all.values.slice((2 * all.values.length) / 3)));
  });
});

it('refuses what holds no finite numbers, with the picture and the half', async () => {
  const spoilt = await importedKl();
  // Finite weights, and a result beyond what float32 holds.
  for (const name of ['decoder.conv_out.bias', 'quant_conv.bias']) paramsByName(spoilt.params).get(name)!.fill(3e38);
  for (const name of ['decoder.conv_out.weight', 'quant_conv.weight'])
    for (const [at, value] of paramsByName(spoilt.params).get(name)!.entries())
      paramsByName(spoilt.params).get(name)![at] = 2e38 * Math.sign(value);
  const made = await createAutoencoder(engine, spoilt);
  try {
    for (const [half, work] of [
      ['decoder', made.decode(latents)],
      ['encoder', made.encode(pictures)],
    ] as const) {
      const error = await work.catch((e: unknown) => e);
      expect(error).toBeInstanceOf(NonFiniteError);
      expect((error as Error).message).toMatch(
        new RegExp(`^picture 0: the autoencoder's ${half} gave -?(NaN|Infinity)`),
      );
    }
  } finally {
    made.dispose();
  }
}, 600_000);

it('tells of each layer once it is done, each submitted by itself, in the same bits', async () => {
  const wanted = await whole.decode(latents);
  const told: [number, number, number][] = [];
  const before = engine.counters.submits;
  const onLayer = ({ done, total }: { done: number; total: number }) =>
    told.push([done, total, engine.counters.submits - before]);
  const decoded = await whole.decode(latents, { onLayer });
  expect(bits(decoded.values)).toBe(bits(wanted.values));
  const total = 3 * imported.network.decoder!.length;
  expect(told.map(([done, all]) => [done, all])).toEqual(Array.from({ length: total }, (_, i) => [i + 1, total]));
  const submits = told.map(([, , n]) => n);
  expect(submits.every((n, i) => n > (submits[i - 1] ?? 0))).toBe(true);
  // Another pass begins anew.
  expect(bits((await whole.decode(latents)).values)).toBe(bits(wanted.values));
}, 600_000);

it('weights as halves change pictures a little', async () => {
  const half = await createAutoencoder(engine, imported, { precision: 'f16', halves: ['decoder'] });
  const [got, want] = [await half.decode(latents), await whole.decode(latents)];
  const error = relativeError(got.values, want.values);
  expect(error).toBeGreaterThan(1e-5);
  expect(error).toBeLessThan(3e-3);
  await expect(half.encode(pictures)).rejects.toThrow('this autoencoder has no encoder');
  half.dispose();
}, 600_000);

it('the estimate of the peak is right but for read-back buffers that were there, at most 4 kB', async () => {
  for (const [half, shape] of [
    ['decoder', [1, 3, 5, 4]],
    ['encoder', [1, 6, 10, 3]],
  ] as const) {
    const [, height, width] = shape;
    const estimate = await autoencoderPeak(engine, imported.network, half, [height, width], { precision: 'f16' });
    const before = engine.memory.report().live;
    engine.memory.resetPeak();
    const made = await createAutoencoder(engine, imported, { precision: 'f16', halves: [half] });
    await made.raw(half, draw(3, ...(shape as [number, number, number, number])));
    // Read-back buffers stay, and may have been there.
    expect(estimate - (engine.memory.report().peak - before)).toBeGreaterThanOrEqual(0);
    expect(estimate - (engine.memory.report().peak - before)).toBeLessThanOrEqual(4096);
    made.dispose();
    made.dispose();
    await expect(made.raw(half, draw(3, ...(shape as [number, number, number, number])))).rejects.toThrow(UsageError);
  }
}, 600_000);

it('what does not fit is refused, with sizes and channels', async () => {
  const cases = [
    [whole.decode(draw(1, 1, 2, 2, 6)), "latents have 6 channels; this autoencoder's have 4"],
    [whole.encode(draw(1, 1, 6, 9, 3)), "pictures of 9 x 6 are no multiple of the autoencoder's 2 pixels"],
    [whole.encode(draw(1, 1, 6, 8, 1)), "pictures have 1 channels; this autoencoder's have 3"],
    [whole.decode({ values: new Float32Array(4), shape: [1, 2, 2, 4] }), '4 values for latents of shape [1,2,2,4]'],
    [whole.decode({ values: new Float32Array(0), shape: [1, 0, 2, 4] }), 'latents of shape [1,0,2,4]'],
  ] as const;
  for (const [promise, message] of cases) {
    await expect(promise).rejects.toThrow(ConfigError);
    await expect(promise).rejects.toThrow(message);
  }
  const decoder = await importAutoencoder(
    [foreignWeights(smallKl(), (name) => (/^(encoder|quant_conv)\./.test(name) ? null : name))],
    SMALL_KL,
  );
  const half = await createAutoencoder(engine, decoder);
  await expect(half.encode(pictures)).rejects.toThrow('this autoencoder has no encoder');
  half.dispose();
  await expect(createAutoencoder(engine, imported, { precision: 'int8' as 'f16' })).rejects.toThrow(
    "an autoencoder's weights cannot be stored as 'int8'",
  );
});

it('a signal that is aborted stops the compilation', async () => {
  const stopped = new Autoencoder(engine, imported.network, imported.params, { signal: AbortSignal.abort() });
  await expect(stopped.decode(latents)).rejects.toThrow(InterruptedError);
  stopped.dispose();
});
