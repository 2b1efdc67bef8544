/** The worker's decoder beside a model of latents: its pictures are the library's, to the bit, and what cannot be decoded is said. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import {
  CheckpointError,
  ConfigError,
  DeviceLostError,
  LimitError,
  OutOfMemoryError,
  UsageError,
} from '../../engine/errors.ts';
import type { ImportedAutoencoder } from '../../model/autoencoder/import.ts';
import { originOf } from '../../model/autoencoder/origin.ts';
import { spreadProblem } from '../../model/autoencoder/spread.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { decodeSamples } from '../../sampling/decoding.ts';
import { Sampler, type Samples } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { foreignWeights, importedKl, SMALL_KL, smallKl, smallTiny } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { latentModel, latentModelFile, latentParams, safetensorsOf, torchOf } from '../support/latents.ts';
import { ROOT } from '../support/repository.ts';
import { served } from '../support/served.ts';
import { importedTaesd, smallTaesd } from '../support/taesd.ts';
import { bits, tinyTrain } from '../support/tiny.ts';

const choice = { precision: 'f32', rows: 24 } as const;
const request = { labels: [0, 2], steps: 2, blocks: 4, guidance: 2, seed: 5 };

let engine: Engine;
let imported: ImportedAutoencoder;
let latents: Samples;
let wanted: Float32Array;
let model: Uint8Array<ArrayBuffer>;
let vae: Uint8Array<ArrayBuffer>;
beforeAll(async () => {
  engine = await testEngine();
  const resident = new ResidentModel(engine, latentModel, memorySource(latentParams()));
  latents = await new Sampler(engine, resident).sample(request);
  imported = await importedTaesd();
  wanted = (await decodeSamples(engine, imported, latents, { choice })).values;
  model = await latentModelFile();
  vae = await safetensorsOf(foreignWeights(smallTaesd()));
}, 600_000);
afterAll(() => engine.dispose());

it('samples are pictures once a decoder is loaded, of torch.save or at a URL, in any number of bands', async () => {
  const server = createServer((asked, response) => {
    const bytes = asked.url === '/vae.safetensors' ? vae : Buffer.from(JSON.stringify({ scaling_factor: 0.5 }));
    const [from, to] = /bytes=(\d+)-(\d+)/
      .exec(asked.headers.range ?? '')!
      .slice(1)
      .map(Number) as [number, number];
    const end = Math.min(to + 1, bytes.length);
    response.writeHead(206, { 'content-range': `bytes ${from}-${end - 1}/${bytes.length}` });
    response.end(bytes.subarray(from, end));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  onTestFinished(() => void server.close());
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const { worker } = served();
  await worker.load(model);
  expect(bits((await worker.sample(request)).values)).toBe(bits(latents.values));
  const half = foreignWeights(smallTaesd(), (name) => (name.startsWith('decoder.') ? name : null));
  const whole = await worker.loadDecoder(new Blob([await torchOf(half)]));
  const { why, ...told } = whole;
  expect(told).toEqual({
    ...{ shown: { imageSize: 24, channels: 3 }, precision: 'f32', bands: 1, rows: 24, peakBytes: expect.any(Number) },
  });
  expect(why).toMatch(/^decoder: f32 weights, pictures whole: [\d.]+ MB$/);
  const call = worker.sample(request);
  const progress = [];
  for await (const { done, total, decoded } of call) progress.push([done, total, decoded]);
  const { values, shape, milliseconds, decoded, peakBytes } = await call;
  expect([...shape]).toEqual([2, 24, 24, 3]);
  expect(bits(values)).toBe(bits(wanted));
  expect(progress).toEqual([
    [1, 2, undefined],
    [2, 2, undefined],
    [2, 2, 1],
    [2, 2, 2],
  ]);
  expect(decoded!.milliseconds).toBeLessThan(milliseconds);
  expect(decoded!.warning).toBe(spreadProblem(latents.values, 1));
  expect(decoded!.warning).toMatch(/^the samples' deviation is [\d.]+;/);

  // In bands, from a URL, and of half the scale: the decoder gets latents twice as large.
  const how = { precision: 'f32', config: `${at}/config.json` } as const;
  const small = await worker.loadDecoder(`${at}/vae.safetensors`, { ...how, maxBytes: 1000 }).catch((error) => error);
  expect(small).toBeInstanceOf(LimitError);
  const fits = await worker.loadDecoder(`${at}/vae.safetensors`, { ...how, maxBytes: small.asked, cache: false });
  expect(fits.peakBytes).toBe(small.asked);
  expect(fits.bands).toBeGreaterThan(1);
  const banded = await worker.sample(request);
  const twice = { ...latents, values: latents.values.map((value) => 2 * value) };
  expect(bits(banded.values)).toBe(bits((await decodeSamples(engine, imported, twice, { choice })).values));
  // The model's bytes are beside the decoder's, whichever it is.
  expect(banded.peakBytes - peakBytes).toBe(fits.peakBytes - whole.peakBytes);

  await worker.load(await latentModelFile(undefined, formulaParams(latentModel, 3)));
  expect((await worker.sample(request)).decoded).toBeUndefined();
  await worker.loadDecoder(vae);
  expect((await worker.sample(request)).decoded).not.toHaveProperty('warning');

  const { decoded: seen, ...inside } = await worker.inspect({ label: 0, steps: 2, blocks: 4, seed: 5, at: 1 });
  const points = Float32Array.from([inside.x, ...inside.lengths.map(({ picture }) => picture)].flatMap((x) => [...x]));
  const expected = await decodeSamples(engine, imported, { values: points, shape: [3, 12, 12, 4] }, { choice });
  expect([...seen!.shape]).toEqual([3, 24, 24, 3]);
  expect(bits(seen!.values)).toBe(bits(expected.values));
}, 600_000);

it('says what is no decoder for the model, and draws latents as before', async () => {
  const { worker, made } = served();
  const refused = (...given: Parameters<typeof worker.loadDecoder>) =>
    worker.loadDecoder(...given).catch((error: unknown) => error);
  const early = await refused(vae);
  expect(early).toBeInstanceOf(UsageError);
  expect(early).toMatchObject({ message: 'there is no model to decode for', hint: 'call load first' });
  await worker.load(model);
  const other = await refused(await safetensorsOf(foreignWeights(smallTiny())));
  expect(other).toBeInstanceOf(ConfigError);
  expect(other).toMatchObject({ message: 'the autoencoder has no decoder' });
  const stranger = await refused(new Blob([model]));
  expect(stranger).toBeInstanceOf(CheckpointError);
  expect((stranger as Error).message).toMatch(/^the autoencoder: its tensors have names of no autoencoder/);
  const text = await refused(new Blob(['no weights']));
  expect((text as Error).message).toMatch(/^the autoencoder is no checkpoint that can be read/);
  const config = await refused(vae, { config: new Blob(['{']) });
  expect(config).toBeInstanceOf(CheckpointError);
  expect(config).toMatchObject({ message: 'the configuration is no JSON' });
  const kind = await refused(vae, { config: SMALL_KL });
  expect((kind as Error).message).toMatch(/holds an AutoencoderTiny; the configuration is of 'AutoencoderKL'/);
  expect(bits((await worker.sample(request)).values)).toBe(bits(latents.values));

  // A model of one channel, and one that remembers another autoencoder.
  await worker.load(await readFile(join(ROOT, 'models/fashion-mnist.safetensors')));
  const channels = await refused(vae);
  expect(channels).toBeInstanceOf(ConfigError);
  expect(channels).toMatchObject({
    message: 'the model makes latents of 1 channels; the autoencoder decodes those of 4',
    hint: 'use the autoencoder that the latents were made with',
  });
  await worker.load(await latentModelFile(await originOf(await importedKl())));
  const { warning } = await worker.loadDecoder(vae);
  expect(warning).toMatch(/come from another autoencoder than this one/);
  const theirs = await worker.loadDecoder(await safetensorsOf(foreignWeights(smallKl())), { config: SMALL_KL });
  expect(theirs).not.toHaveProperty('warning');
  expect(made.length).toBe(1);
}, 600_000);

it('shows what a run on latents learns as pictures, those of its averaged weights', async () => {
  const { worker } = served();
  const data = {
    ...{ kind: 'numbers' as const, name: 'latents', height: 12, width: 12, channels: 4, classes: 3 },
    values: Float32Array.from({ length: 3 * 576 }, (_, i) => Math.sin(i)),
    labels: Uint8Array.of(0, 1, 2),
  };
  const train = { ...tinyTrain, batch: 4, steps: 1 };
  const run = (source: Uint8Array) =>
    worker.train({ model: latentModel, train, data, show: { every: 1, samples: [request], decoder: { source } } });
  const other = await safetensorsOf(foreignWeights(smallTaesd(3)));
  await expect(run(other)).rejects.toThrow('the autoencoder decodes those of 3');
  const call = run(vae);
  const shown = [];
  for await (const event of call) if (event.type === 'shown') shown.push(...event.samples);
  const { model: trained } = await call;
  await worker.load(trained);
  await worker.loadDecoder(vae);
  const { values, shape } = await worker.sample(request);
  expect(shown.map((samples) => [...samples.shape])).toEqual([[...shape]]);
  expect([...shape]).toEqual([2, 24, 24, 3]);
  expect(bits(shown[0]!.values)).toBe(bits(values));
}, 600_000);

it('takes less memory where the device has less than it would take, and stays where another does not fit', async () => {
  const { worker, made } = served();
  await worker.load(model);
  const { memory } = made[0]!;
  const before = memory.report().live;
  const whole = await worker.loadDecoder(vae);
  const taken = memory.report().live - before;
  await worker.load(model);
  expect(memory.report().live).toBe(before);
  memory.limit = before + taken - 1;
  const less = await worker.loadDecoder(vae);
  expect([less.precision, whole.bands, less.bands > 1]).toEqual(['f32', 1, true]);
  expect(less.peakBytes).toBeLessThan(whole.peakBytes);
  expect(memory.report().live).toBeLessThan(memory.limit);
  memory.limit = memory.report().live;
  const wider = await worker
    .loadDecoder(await safetensorsOf(foreignWeights(smallKl())), { config: SMALL_KL })
    .catch((e) => e);
  expect(wider).toBeInstanceOf(OutOfMemoryError);
  memory.limit = Number.POSITIVE_INFINITY;
  expect(bits((await worker.sample(request)).values)).toBe(bits(wanted));
}, 600_000);

it('is put on the next device where the GPU was lost', async () => {
  const { worker, made } = served({ losesAt: 4, losses: 1 });
  await worker.load(model);
  await worker.loadDecoder(vae);
  await expect(worker.sample(request)).rejects.toBeInstanceOf(DeviceLostError);
  expect(bits((await worker.sample(request)).values)).toBe(bits(wanted));
  expect(made.length).toBe(2);
}, 600_000);
