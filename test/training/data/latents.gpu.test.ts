/** Folders of latents: what the encoder gives, to the bit, however often interrupted; and the batches that training gets of them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../../engine/engine.ts';
import { ConfigError, DataError, InterruptedError, NonFiniteError } from '../../../engine/errors.ts';
import { normals } from '../../../engine/philox.ts';
import { parseSafetensors, serializeSafetensors } from '../../../formats/safetensors.ts';
import { type Autoencoder, createAutoencoder } from '../../../model/autoencoder/autoencoder.ts';
import { type ImportedAutoencoder, importAutoencoder } from '../../../model/autoencoder/import.ts';
import { originOf } from '../../../model/autoencoder/origin.ts';
import { spreadWarning } from '../../../model/autoencoder/spread.ts';
import { parseModelConfig } from '../../../model/config.ts';
import { paramsByName } from '../../../model/params.ts';
import { readBatches } from '../../../training/batches.ts';
import { datasetOf, type StreamedDataset, toUnit, toUnitFlipped } from '../../../training/data/dataset.ts';
import { type EncodeOptions, encodeLatents } from '../../../training/data/encode.ts';
import { fingerprint } from '../../../training/data/fingerprint.node.ts';
import { LATENTS_INDEX, type LatentsFolder, readLatentsIndex } from '../../../training/data/latents.ts';
import { openTrainingData } from '../../../training/data/open.ts';
import { dataOrder } from '../../../training/data/order.ts';
import { holdOut } from '../../../training/held-out.ts';
import { createTrainer, type TrainerOptions } from '../../../training/trainer.ts';
import { foreignWeights, importedKl, smallTiny } from '../../support/autoencoder.ts';
import { testEngine } from '../../support/engine.ts';
import { bits, setBits, tinyModel, tinyTrain } from '../../support/tiny.ts';

vi.setConfig({ testTimeout: 600_000 });

const scratch = mkdtempSync(join(tmpdir(), 'odelt-latents-'));
const at = (...path: string[]) => join(scratch, ...path);
const [SIDE, COUNT, SHARD] = [6, 10, 4];
/** Every picture a class of its own, so that labels tell which is which. */
const pictures = datasetOf({
  ...{ name: 'pictures', height: SIDE, width: SIDE, channels: 3, classes: COUNT },
  pixels: Uint8Array.from({ length: COUNT * SIDE * SIDE * 3 }, (_, i) => (i * i * 37 + i * 91) % 256),
  labels: Uint8Array.from({ length: COUNT }, (_, i) => i),
});
/** Picture i as the encoder takes it. */
function picture(i: number, mirrored: boolean) {
  const values = new Float32Array(SIDE * SIDE * 3);
  if (mirrored) toUnitFlipped(pictures.image(i), SIDE, 3, values);
  else toUnit(pictures.image(i), values);
  return { values, shape: [1, SIDE, SIDE, 3] as const };
}

let engine: Engine;
let imported: ImportedAutoencoder;
let kl: Autoencoder;
let whole: LatentsFolder;
let data: StreamedDataset;
/** What the encoder gives for each picture, and for each mirrored one. */
let expected: { mean: Float32Array; logvar: Float32Array }[][];
const options = async (name: string, more: Partial<EncodeOptions> = {}): Promise<EncodeOptions> => ({
  ...{ folder: at(name), origin: await originOf(imported), flip: true, shard: SHARD, ...more },
});
const encode = async (name: string, more: Partial<EncodeOptions> = {}) =>
  encodeLatents(kl, pictures, await options(name, more));
const open = async (name: string) => (await openTrainingData(at(name))) as StreamedDataset;
const files = (name: string) =>
  readdirSync(at(name))
    .sort()
    .map((file) => [file, readFileSync(at(name, file)).toString('base64')]);

beforeAll(async () => {
  engine = await testEngine();
  imported = await importedKl();
  kl = await createAutoencoder(engine, imported, { halves: ['encoder'] });
  whole = await encode('whole');
  data = await open('whole');
  expected = [];
  for (let i = 0; i < COUNT; i++) {
    const both = [await kl.encode(picture(i, false)), await kl.encode(picture(i, true))];
    expected.push(both.map(({ gaussian }) => gaussian!));
  }
}, 600_000);
afterAll(() => {
  engine.dispose();
  rmSync(scratch, { recursive: true });
});

describe('encoding', () => {
  it("gives the encoder's means and log variances to the bit, of mirrored pictures too, with their labels", () => {
    const seen = new Set<number>();
    expect(whole.shards.map(({ count }) => count)).toEqual([4, 4, 2]);
    for (const { file, count, bytes } of whole.shards) {
      const stored = readFileSync(at('whole', file));
      expect(stored.length).toBe(bytes);
      const tensors = parseSafetensors(stored);
      expect(tensors.shape('mean')).toEqual([count, 3, 3, 4]);
      tensors.integers('labels').forEach((label, k) => {
        seen.add(label);
        for (const [side, ending] of ['', '.mirrored'].entries()) {
          for (const part of ['mean', 'logvar'] as const) {
            const row = tensors.floats(part + ending).subarray(36 * k, 36 * k + 36);
            expect(bits(row)).toBe(bits(expected[label]![side]![part]));
          }
        }
      });
    }
    expect(seen.size).toBe(COUNT);
    // In a shuffled order.
    expect([...seen]).not.toEqual([...seen].sort((a, b) => a - b));
  });

  it('knows how far the scaled means spread', () => {
    const all = expected.flat().flatMap(({ mean }) => Array.from(mean, (x) => (x - 0.25) * 0.5));
    const mean = all.reduce((a, b) => a + b) / all.length;
    const deviation = Math.sqrt(all.reduce((a, x) => a + (x - mean) ** 2, 0) / all.length);
    expect(data.spread!.mean).toBeCloseTo(mean, 6);
    expect(data.spread!.deviation).toBeCloseTo(deviation, 6);
    expect(spreadWarning('x', { mean: 0.1, deviation: 1.3 }, 0.5)).toBeUndefined();
    expect(spreadWarning('x', { mean: 0.1, deviation: 5.5 }, 1)).toContain('factor is 1; it would be about 0.182');
  });

  it('interrupted at any picture and gone on with, gives the same bytes', async () => {
    for (const last of [2, 5]) {
      const stop = new AbortController();
      const onProgress = (done: number) => done >= last && stop.abort();
      const error = await encode('parts', { signal: stop.signal, onProgress }).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(InterruptedError);
      expect((error as InterruptedError).hint).toContain(`after the ${last < 4 ? 0 : 4} pictures`);
    }
    await expect(open('parts')).rejects.toThrow('holds the latents of 4 of 10 pictures');
    const told: number[] = [];
    await encode('parts', { onProgress: (done) => told.push(done) });
    expect(told).toEqual([4, 5, 6, 7, 8, 9, 10]);
    expect(files('parts')).toEqual(files('whole'));
    // A shard that was damaged since is made again, with those after it.
    truncateSync(at('parts', whole.shards[1]!.file), 100);
    await encode('parts');
    expect(files('parts')).toEqual(files('whole'));
  });

  it('refuses a folder of anything else before it encodes', async () => {
    await expect(encode('whole', { flip: false, shard: 5 })).rejects.toThrow(
      /holds other latents; what differs: flips \(true, now false\), shard \(4, now 5\)$/,
    );
    const repaired = { ...pictures, image: (i: number) => pictures.image(i === 3 ? 4 : i) };
    const differs = await encodeLatents(kl, repaired, await options('whole')).catch((e: unknown) => e);
    expect(differs).toMatchObject({
      message: `${at('whole')} holds other latents; what differs: pictures ('pictures', now 'pictures')`,
      hint: expect.stringContaining(`go on with "pixels": "${fingerprint(repaired).pixels}" in its latents.json`),
    });
    const other = { ...(await originOf(imported)), encoder: '0' };
    await expect(encode('whole', { origin: other })).rejects.toThrow('what differs: autoencoder');
    const odd = { ...pictures, height: 5, width: 5, image: (i: number) => pictures.image(i).subarray(0, 75) };
    await expect(encodeLatents(kl, odd, await options('odd'))).rejects.toThrow(
      "'pictures' are 5 x 5: no multiple of the autoencoder's 2 pixels",
    );
    await expect(encodeLatents(kl, data, await options('again'))).rejects.toThrow(ConfigError);
    writeFileSync(at('file.txt'), 'mine');
    await expect(encode('.')).rejects.toThrow('holds other files');
  });

  it('keeps one sample of each Gaussian where it is told to, the same after an interruption, which is read as it is', async () => {
    const recorded = await encode('samples', { samples: 3 });
    expect(recorded.recipe).toMatchObject({ samples: 3, gaussian: false, flips: true });
    const read = await open('samples');
    const reader = read.open();
    const all: number[] = [];
    for (let i = 0; i < COUNT; i++) {
      for (const [side, mirrored] of [false, true].entries()) {
        const { mean, logvar } = expected[read.label(i)]![side]!;
        const noise = normals({ seed: 3, stream: 0x6f6e6365, step: 2 * i + side }, 36);
        const drawn = mean.map((m, j) => m + Math.exp(logvar[j]! / 2) * noise[j]!);
        const wanted = drawn.map((x) => (x - 0.25) * 0.5);
        for (const position of [i, COUNT + i]) {
          const found = await reader.read(i, { seed: 1, position, mirrored });
          expect(bits(found as Float32Array)).toBe(bits(wanted));
        }
        all.push(...wanted);
      }
    }
    await reader.close();
    expect(read.spread!.mean).toBeCloseTo(all.reduce((a, b) => a + b) / all.length, 6);
    const stop = new AbortController();
    const onProgress = (done: number) => done >= 5 && stop.abort();
    await expect(encode('again', { samples: 3, signal: stop.signal, onProgress })).rejects.toThrow(InterruptedError);
    await encode('again', { samples: 3 });
    expect(files('again')).toEqual(files('samples'));
    await expect(encode('samples', { samples: 4 })).rejects.toThrow('what differs: samples (3, now 4)');
    await expect(encode('samples')).rejects.toThrow('what differs: samples (3, now none)');
    await expect(encode('other', { samples: -1 })).rejects.toThrow('the seed of samples is -1');
  });

  it('names the picture of which no finite latents come, and keeps what was whole', async () => {
    // The sixth picture in the order of shards, by its label.
    const file = parseSafetensors(readFileSync(at('whole', whole.shards[1]!.file)));
    const label = file.integers('labels')[1]!;
    const nan = new Float32Array(pictures.image(label).length).fill(Number.NaN);
    const spoilt: StreamedDataset = {
      ...{ ...pictures, elements: 'numbers', paired: false, identity: 'spoilt' },
      open: () => ({ read: async (i) => (i === label ? nan : picture(i, false).values), close: async () => {} }),
    };
    const error = await encodeLatents(kl, spoilt, { ...(await options('nan')), flip: false }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as Error).message).toBe(
      `picture ${label} of 'pictures': the autoencoder's encoder gave no finite numbers`,
    );
    const { shards } = await readLatentsIndex(at('nan'));
    expect(shards.map(({ count }) => count)).toEqual([4]);
    // As halves: mean, beyond 65504, of an encoder whose last bias is.
    const large = await importedKl();
    paramsByName(large.params).get('quant_conv.bias')!.fill(7e4);
    const autoencoder = await createAutoencoder(engine, large, { halves: ['encoder'] });
    const half = encodeLatents(autoencoder, pictures, { ...(await options('half')), dtype: 'F16' });
    await expect(half).rejects.toThrow(/^picture \d of 'pictures': its latents are beyond what f16 holds$/);
    autoencoder.dispose();
  });

  it('of the TAESD family gives latents, which are read scaled', async () => {
    const config = { _class_name: 'AutoencoderTiny', scaling_factor: 2, shift_factor: -0.5 };
    const tiny = await importAutoencoder([foreignWeights(smallTiny())], config);
    const autoencoder = await createAutoencoder(engine, tiny, { halves: ['encoder'] });
    const origin = await originOf(tiny);
    expect([origin.decoder, origin.scaling]).toEqual([null, { factor: 2, shift: -0.5 }]);
    await encodeLatents(autoencoder, pictures, { folder: at('tiny'), origin });
    const drawn = encodeLatents(autoencoder, pictures, { folder: at('none'), origin, samples: 0 });
    await expect(drawn).rejects.toThrow('the TAESD family gives latents');
    const read = await open('tiny');
    const reader = read.open();
    for (let i = 0; i < COUNT; i++) {
      const { latents } = await autoencoder.encode(picture(read.label(i), false));
      const draw = { seed: 1, position: i, mirrored: false };
      expect(bits((await reader.read(i, draw)) as Float32Array)).toBe(bits(latents.values));
    }
    await reader.close();
    expect(() => readBatches(read, { seed: 1, flip: true })).toThrow('which are not mirrored');
    autoencoder.dispose();
  });
});

/** Batches of 4 from sample `first` on: latents and labels. */
async function batches(from: StreamedDataset, first: number, count: number, maxAhead?: number) {
  const reader = readBatches(from, { seed: 7, flip: true, first, maxAhead });
  const out: { images: string; labels: number[] }[] = [];
  for (let k = 0; k < count; k++) {
    const [images, labels] = [new Float32Array(4 * 36), new Uint32Array(4)];
    await reader.next(images, labels);
    out.push({ images: bits(images), labels: [...labels] });
  }
  await reader.close();
  return out;
}

describe('training', () => {
  it('gets a new draw of each Gaussian every time, scaled, in an order of seed and shards', async () => {
    expect(data).toMatchObject({ height: 3, width: 3, channels: 4, classes: COUNT, count: COUNT, flips: true });
    expect(data.groups).toEqual({ sizes: [4, 4, 2], together: 3 });
    const order = dataOrder({ count: COUNT, seed: 7, flip: true, groups: data.groups });
    const sample = (n: number) => {
      const { index, flip } = order.at(n);
      const { mean, logvar } = expected[data.label(index)]![Number(flip)]!;
      const noise = normals({ seed: 7, stream: 0x6c617465, step: n }, 36);
      const drawn = mean.map((m, j) => m + Math.exp(logvar[j]! / 2) * noise[j]!);
      return { flip, label: data.label(index), values: drawn.map((x) => (x - 0.25) * 0.5) };
    };
    const samples = Array.from({ length: 20 }, (_, n) => sample(n));
    expect(new Set(samples.map(({ flip }) => flip)).size).toBe(2);
    const wanted = Array.from({ length: 5 }, (_, k) => {
      const own = samples.slice(4 * k, 4 * k + 4);
      const images = bits(Float32Array.from(own.flatMap(({ values }) => [...values])));
      return { images, labels: own.map(({ label }) => label) };
    });
    expect(await batches(data, 0, 5)).toEqual(wanted);
    expect(await batches(data, 8, 3, 1)).toEqual(wanted.slice(2));
  });

  it('goes on bit for bit where it was interrupted', async () => {
    const model = parseModelConfig({ ...tinyModel, imageSize: 3, channels: 4, patch: 3, classes: COUNT });
    const train = { ...tinyTrain, steps: 3, flip: true };
    const trained = async (last: number, from?: TrainerOptions['from']) => {
      const trainer = await createTrainer(engine, { model, train, data, from });
      for await (const { step } of trainer.run()) if (step === last) break;
      const sets = await trainer.snapshot();
      trainer.dispose();
      return sets;
    };
    const sets = await trained(2);
    expect(setBits({ ...(await trained(3, { sets, step: 2 })) })).toEqual(setBits({ ...(await trained(3)) }));
  });

  it('holds whole pictures out, which are drawn like others, or are means', async () => {
    const { train, held } = holdOut(data, 0.3);
    expect([train.count, held.count]).toEqual([7, 3]);
    const reader = (held as StreamedDataset).open();
    for (let i = 0; i < 3; i++) {
      const { mean } = expected[held.label(i)]![0]!;
      expect(bits((await reader.read(i)) as Float32Array)).toBe(bits(mean.map((x) => (x - 0.25) * 0.5)));
    }
    await reader.close();
    expect(await batches(held as StreamedDataset, 0, 1)).toHaveLength(1);
  });

  it('names a file that is not as it was', async () => {
    const reads = async (name: string, i = 0) => (await open(name)).open().read(i);
    const first = whole.shards[0]!.file;
    const copy = async (name: string) => {
      await encode(name);
      return at(name, first);
    };
    const cut = await copy('cut');
    truncateSync(cut, 500);
    await expect(open('cut')).rejects.toThrow(DataError);
    await expect(open('cut')).rejects.toThrow(first);
    rmSync(cut);
    await expect(open('cut')).rejects.toThrow(`${first} cannot be read: there is no such file`);
    const { header, floats, integers } = parseSafetensors(readFileSync(at('whole', first)));
    const tensors = [...header.tensors.values()].map(({ name, shape }) =>
      name === 'labels'
        ? ({ name, shape, dtype: 'I32', values: integers(name) } as const)
        : ({ name, shape, dtype: 'F32', values: floats(name) } as const),
    );
    (tensors[0]!.values as Float32Array)[40] = Number.NaN;
    writeFileSync(cut, serializeSafetensors(tensors));
    await expect(reads('cut')).rejects.toThrow('mean of its picture 1 holds NaN');
    // One bit, which leaves a finite number; that of another picture's, too.
    const bytes = readFileSync(at('whole', first));
    bytes[bytes.length - 8 * SHARD - 5]! ^= 0x20;
    writeFileSync(cut, bytes);
    for (const i of [0, 3]) {
      await expect(reads('cut', i)).rejects.toMatchObject({
        code: 'data',
        message: expect.stringMatching(
          `^${cut} is damaged: its SHA-256 is [0-9a-f]{64}, latents.json says ${whole.shards[0]!.sha256}$`,
        ),
        hint: expect.stringContaining('encode the pictures again'),
      });
    }
    expect((await reads('cut', SHARD)).length).toBe(36);
    writeFileSync(at('cut', LATENTS_INDEX), '{}');
    await expect(open('cut')).rejects.toThrow("latents.json has the format undefined; 'odelt latents 1' is known");
  });
});
