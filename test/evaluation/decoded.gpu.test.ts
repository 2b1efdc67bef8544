/** Samples of a model of latents as pictures: sheets while it trains, and what is judged, are what the sampler and the decoder give. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import { drawCells } from '../../evaluation/draw.ts';
import { sampleSheet } from '../../evaluation/sample-sheet.ts';
import { createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import { createDecoder, type Decoder, foreignDecoder } from '../../model/autoencoder/decoder.ts';
import type { ImportedAutoencoder } from '../../model/autoencoder/import.ts';
import { originOf } from '../../model/autoencoder/origin.ts';
import { parseModelConfig } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { contactSheet, fromUnit } from '../../pictures/picture.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { importedKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { bits, tinyModel } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 600_000 });

const config = parseModelConfig({ ...tinyModel, imageSize: 4, channels: 4 });
const params = formulaParams(config, 5);
let engine: Engine;
let imported: ImportedAutoencoder;
let decoder: Decoder;
/** Three samples of T=2 at 2 and at 4 blocks, decoded by the autoencoder itself: values [3, 8, 8, 3]. */
const expected = new Map<number, Float32Array>();
beforeAll(async () => {
  engine = await testEngine();
  imported = await importedKl();
  decoder = await createDecoder(engine, config, imported);
  const whole = await createAutoencoder(engine, imported);
  const sampler = new Sampler(engine, new ResidentModel(engine, config, memorySource(params)), { batch: 3 });
  for (const blocks of [2, 4]) {
    const samples = await sampler.sample({ labels: [0, 1, 2], blocks, steps: 2, guidance: 1, seed: 0 });
    expect(samples.shape).toEqual([3, 4, 4, 4]);
    expected.set(blocks, (await whole.decode(samples)).values);
  }
  sampler.dispose();
  whole.dispose();
}, 600_000);
afterAll(() => {
  decoder.dispose();
  engine.dispose();
});

it('a sheet shows decoded samples', async () => {
  const options = { steps: [2], blocks: [2, 4], count: 3 };
  await expect(sampleSheet(engine, config, options)).rejects.toThrow('the model makes latents of 4 channels');
  const sheet = await sampleSheet(engine, config, { ...options, decoder });
  expect(sheet.peakBytes).toBeGreaterThan(decoder.peakBytes);
  const drawn = await sheet.draw(params, 'title');
  const wanted = contactSheet({
    ...{ title: 'title', rowLabels: ['L=2', 'L=4'], columnLabels: ['T=2'], textScale: 1 },
    grid: { columns: 2, scale: 2, pad: 2 },
    cell: (r) => fromUnit(expected.get([2, 4][r]!)!, 8, 8, 3),
  });
  expect([drawn.width, drawn.height]).toEqual([wanted.width, wanted.height]);
  expect(Buffer.from(drawn.pixels).equals(Buffer.from(wanted.pixels))).toBe(true);
});

it('cells are judged by decoded samples', async () => {
  const features = { name: 'as they are', width: 192, of: (images: Float32Array) => Float32Array.from(images) };
  const seen: string[] = [];
  const drawing = { config, source: memorySource(params), decoder, features, judges: null };
  const cells = [2, 4].map((blocks) => ({ steps: 2, blocks, guidance: 1, solver: 'euler' }));
  const provenance = { seed: 0, batch: 3, samples: 3 };
  await drawCells(engine, { ...drawing, provenance }, cells, (drawn) => void seen.push(bits(drawn.features)));
  expect(seen).toEqual([2, 4].map((blocks) => bits(expected.get(blocks)!)));
});

it('refuses a decoder of other latents, and tells one of other weights or scale', async () => {
  await expect(createDecoder(engine, { ...config, channels: 8 }, imported)).rejects.toThrow(
    'the model makes latents of 8 channels; the autoencoder decodes those of 4',
  );
  const { network } = imported;
  const blind = { ...imported, network: { ...network, decoder: null } };
  await expect(createDecoder(engine, config, blind)).rejects.toThrow(ConfigError);
  const own = await originOf(imported);
  expect(own.decoder).toBe(decoder.digest);
  expect(foreignDecoder(own, own)).toBeUndefined();
  expect(foreignDecoder(undefined, own)).toBeUndefined();
  // The encoder's file alone names no decoder: nothing is known against it.
  expect(foreignDecoder({ ...own, decoder: null }, { ...own, encoder: null })).toBeUndefined();
  expect(foreignDecoder({ ...own, encoder: '0' }, own)).toContain('come from another autoencoder');
  expect(foreignDecoder({ ...own, scaling: { factor: 1, shift: 0 } }, own)).toContain('scaled by 1 (shift 0), the dec');
});
