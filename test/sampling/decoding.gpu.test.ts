/** Samples of a model of latents, decoded: the pictures, and the memory of sampler and decoder one after the other, to the byte. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { InterruptedError, LimitError } from '../../engine/errors.ts';
import { autoencoderPeak, createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import type { ImportedAutoencoder } from '../../model/autoencoder/import.ts';
import { spreadProblem } from '../../model/autoencoder/spread.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { estimateSampling } from '../../sampling/budget.ts';
import { chooseDecoded, decodeSamples } from '../../sampling/decoding.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { smallKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { latentModel, latentParams } from '../support/latents.ts';
import { importedTaesd } from '../support/taesd.ts';
import { bits } from '../support/tiny.ts';

const [config, params] = [latentModel, latentParams()];
const request = { labels: [0, 2], steps: 2, guidance: 2 };
const wanted = { blocks: 4, batch: 2 } as const;

let engine: Engine;
let imported: ImportedAutoencoder;
/** Without a limit to speak of. */
let whole: Awaited<ReturnType<typeof drawn>>;
beforeAll(async () => {
  engine = await testEngine();
  imported = await importedTaesd();
  whole = await drawn(1e9);
}, 600_000);
afterAll(() => engine.dispose());

/** Draws and decodes within `limit`, on an engine that holds nothing. */
async function drawn(limit: number) {
  engine.releaseReadback();
  expect(engine.memory.report().live).toBe(0);
  engine.memory.resetPeak();
  try {
    engine.memory.limit = limit;
    const choice = await chooseDecoded(engine, config, wanted, imported, request, limit);
    const { settings } = choice.sampling;
    const model = new ResidentModel(engine, config, memorySource(params), settings);
    const sampler = new Sampler(engine, model, settings);
    const samples = await sampler.sample({ ...request, blocks: settings.blocks, seed: 5 });
    sampler.dispose();
    model.dispose();
    const told: number[] = [];
    const layers: string[] = [];
    const pictures = await decodeSamples(engine, imported, samples, {
      choice: choice.decoder,
      onPicture: ({ done }) => told.push(done),
      onLayer: ({ done, total }) => layers.push(`${done}/${total}`),
    });
    expect(told).toEqual([1, 2]);
    // Of both pictures, in any number of bands.
    const all = 2 * imported.network.decoder!.length;
    expect(layers).toEqual(Array.from({ length: all }, (_, i) => `${i + 1}/${all}`));
    const { peak, live } = engine.memory.report();
    return { choice, samples, pictures, peak, live };
  } finally {
    engine.memory.limit = Number.POSITIVE_INFINITY;
  }
}

it('are the pictures of the latents, and the peak is the larger of the two, to the byte', async () => {
  const { choice, samples, pictures, peak, live } = whole;
  expect(choice.decoder).toMatchObject({ precision: 'f32', bands: 1, rows: 24 });
  const autoencoder = await createAutoencoder(engine, imported);
  const want = await autoencoder.decode(samples);
  autoencoder.dispose();
  expect(pictures.shape).toEqual([2, 24, 24, 3]);
  expect(bits(pictures.values)).toBe(bits(want.values));
  const sampling = await estimateSampling(engine, config, { ...wanted, precision: 'f32' }, request);
  const decoding = await autoencoderPeak(engine, imported.network, 'decoder', [12, 12]);
  expect(choice.peak).toBe(Math.max(sampling.peak, decoding));
  expect([peak, live]).toEqual([choice.peak, 0]);
}, 600_000);

it('fit the smallest limit that is named, and no byte less', async () => {
  const refused = await chooseDecoded(engine, config, wanted, imported, request, 1000).catch((error) => error);
  expect(refused).toBeInstanceOf(LimitError);
  const { asked } = refused as LimitError;
  const least = await drawn(asked);
  expect(least.peak).toBe(asked);
  expect(least.choice.decoder.bands).toBeGreaterThan(1);
  expect(asked).toBeLessThan(whole.peak);
  const less = await chooseDecoded(engine, config, wanted, imported, request, asked - 1).catch((error) => error);
  expect([less.code, less.asked]).toEqual(['limit', asked]);
}, 600_000);

it('of another scale are warned of, and decoding stops when it is told to', async () => {
  const spread = (by: number) =>
    spreadProblem(
      Float32Array.from([-1, 1, -1, 1], (v) => by * v + 7),
      smallKl().scaling.factor,
    );
  expect([spread(1), spread(0.41), spread(2.4)]).toEqual([undefined, undefined, undefined]);
  expect(spread(1 / 0.18215)).toContain("the samples' deviation is 5.49;");
  expect(spread(0.39)).toContain('its factor is 0.5');
  const latents = { values: new Float32Array(16), shape: [1, 2, 2, 4] } as const;
  const choice = { precision: 'f32', rows: 4 } as const;
  await expect(decodeSamples(engine, imported, latents, { choice, signal: AbortSignal.abort() })).rejects.toThrow(
    InterruptedError,
  );
});
