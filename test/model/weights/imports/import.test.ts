/** Weights of other programs as ours: names, orders, what must be given, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../../../engine/errors.ts';
import { bytesSource } from '../../../../formats/byte-source.ts';
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from '../../../../formats/half.ts';
import { serializeSafetensors, type TensorToWrite } from '../../../../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../../../../model/config.ts';
import { initParams, paramEntries, paramsByName } from '../../../../model/params.ts';
import { ditTensors } from '../../../../model/weights/imports/dit-export.ts';
import type { ModelHints } from '../../../../model/weights/imports/foreign.ts';
import { importState, importWeights } from '../../../../model/weights/imports/import.ts';
import { isSafetensors, openCheckpointFile } from '../../../../model/weights/imports/open.node.ts';
import { openCheckpoint } from '../../../../model/weights/imports/open.ts';
import { modelTensors } from '../../../../model/weights/model-file.ts';
import {
  call,
  dict,
  dtype,
  floats,
  global,
  int,
  ndarray,
  pickle,
  raw,
  tensor,
  torchFile,
  tuple,
} from '../../../support/pickle.ts';

const CONFIG: ModelConfig = parseModelConfig({
  ...{ imageSize: 4, channels: 3, patch: 2, width: 8, heads: 2, depth: 2, classes: 3, mlpRatio: 2 },
  ...{ lengths: { min: 1, group: 1 } },
});
const HINTS: ModelHints = { heads: 2, imageSize: 4, lengths: { min: 1, group: 1 } };
const CONVENTIONAL: ModelConfig = parseModelConfig({ ...CONFIG, lengths: null, ignoreDt: true });

const folder = mkdtempSync(join(tmpdir(), 'odelt-import-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Parameters of which none is zero or like another. */
function params(config: ModelConfig, seed = 1) {
  const set = initParams(config, seed);
  let n = 0;
  for (const { values } of paramEntries(set))
    for (let i = 0; i < values.length; i++) values[i] = Math.fround(Math.sin(seed + ++n));
  return set;
}

const open = (bytes: Uint8Array, file = 'x') => openCheckpoint(bytesSource(bytes), file);
const safetensors = (tensors: readonly TensorToWrite[]) => serializeSafetensors(tensors);
const tree = (config: ModelConfig, seed: number, change: (name: string) => boolean = () => false) => {
  const root = new Map<string, unknown>();
  for (const { spec, values } of paramEntries(params(config, seed))) {
    if (change(spec.name)) continue;
    const path = spec.name.split('/');
    let at = root;
    for (const part of path.slice(0, -1)) {
      if (!at.has(part)) at.set(part, new Map());
      at = at.get(part) as Map<string, unknown>;
    }
    at.set(path.at(-1)!, ndarray(dtype('f4'), spec.shape, new Uint8Array(values.slice().buffer)));
  }
  const written = (node: unknown): Uint8Array =>
    node instanceof Map
      ? dict(Object.fromEntries([...node].map(([key, value]) => [key, written(value)])))
      : (node as Uint8Array);
  return written(root);
};
const fails = async (work: Promise<unknown>): Promise<Error & { hint?: string }> =>
  work.then(
    () => new Error('it was imported'),
    (error: Error) => error,
  );

describe("the reference's pickles", () => {
  const state = (inner: Record<string, Uint8Array>) =>
    pickle(dict({ params: tree(CONFIG, 1), params_ema: tree(CONFIG, 2), step: int(7), ...inner }));
  const adam = raw(
    global('optax._src.transform.ScaleByAdamState'),
    tuple(int(7), tree(CONFIG, 3), tree(CONFIG, 4)),
    0x81,
  );
  const opt_state = tuple(tuple(adam, raw(global('optax._src.base.EmptyState'), ')', 0x81)));

  it('give the set that is asked for', async () => {
    const checkpoint = await open(state({}));
    for (const [which, seed] of [
      ['raw', 1],
      ['ema', 2],
    ] as const) {
      const { config, params: found, names, weights } = await importWeights(checkpoint, which, HINTS);
      expect(weights).toBe(which);
      expect([config, names, checkpoint.step]).toEqual([CONFIG, 'flax', 7]);
      expect(found.groups).toEqual(params(CONFIG, seed).groups);
    }
  });

  it('of shortcut-models have one level more, and no lengths', async () => {
    const conventional = { ...CONFIG, lengths: null };
    const checkpoint = await open(pickle(dict({ train_state: dict({ params: tree(conventional, 1), step: int(2) }) })));
    const { config, params: found } = await importWeights(checkpoint, 'ema', { heads: 2, imageSize: 4 });
    expect(config).toEqual(conventional);
    expect(found.groups).toEqual(params(conventional, 1).groups);
    const error = await fails(importWeights(checkpoint, 'ema', HINTS));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('x is a conventional model: it always runs all its blocks');
  });

  it('keep their optimiser where it is wanted', async () => {
    const { config, step, sets } = await importState(await open(state({ opt_state })), HINTS);
    expect([config, step]).toEqual([CONFIG, 7]);
    const found = [sets.params, sets.ema, sets.m, sets.v].map(({ groups }) => groups);
    expect(found).toEqual([1, 2, 3, 4].map((seed) => params(CONFIG, seed).groups));
    const error = await fails(importState(await open(state({})), HINTS));
    expect(error.message).toContain('does not hold all of params, params_ema, opt_state with Adam and step');
  });

  it.each([
    [{ imageSize: 4, lengths: HINTS.lengths }, 'x does not say how many heads its attention has', 'give --heads N'],
    [{ heads: 2, lengths: HINTS.lengths }, 'x does not say how large its pictures are', /^give --image-size N/],
    [
      { heads: 2, imageSize: 4 },
      'x does not say which numbers of blocks it was trained for',
      /^give --lengths MIN,GROUP/,
    ],
    [{ ...HINTS, heads: 3 }, 'model.heads must be a divisor of width (8); found 3', /width \/ heads/],
  ])('of which %j is known ask for the rest', async (hints, message, hint) => {
    const error = await fails(importWeights(await open(state({})), 'raw', hints));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe(message);
    expect(error.hint).toMatch(hint);
  });

  it('of another network are refused by the first tensor that does not fit', async () => {
    const without = (leaf: string) => pickle(dict({ params: tree(CONFIG, 1, (name) => name === leaf) }));
    const error = async (file: Uint8Array) =>
      (await fails(open(file).then((found) => importWeights(found, 'raw', HINTS)))).message;
    expect(await error(without('DiTBlock_1/Dense_3/bias'))).toBe('x: there is no tensor DiTBlock_1/Dense_3/bias');
    expect(await error(pickle(dict({ params: dict({ a: ndarray(dtype('f4'), [1], floats(1)) }) })))).toContain(
      'have names of neither the Flax reference nor DiT: a',
    );
    expect(await error(pickle(dict({ weights: int(1) })))).toBe('x: the pickle holds no params; it has weights');
    // Nothing reads the table of log-variances: it may be missing.
    expect(await error(without('Embed_0/embedding'))).toBe('it was imported');
    const more = dict({ ...{ Extra: ndarray(dtype('f4'), [1], floats(1)) } });
    const stranger = raw(tree(CONFIG, 1), '(', raw(0x8c, 5, 'Extra'), more, 'u');
    expect(await error(pickle(dict({ params: stranger })))).toBe('x: nothing here has a use for Extra/Extra');
  });
});

describe("weights with PyTorch's names", () => {
  const written = params(CONVENTIONAL, 5);
  // DiT has no step embedder: ours is a constant, which its time embedder takes.
  for (const { spec, values } of paramEntries(written)) {
    if (spec.name.startsWith('TimestepEmbedder_1') || spec.name === 'Embed_0/embedding') values.fill(0);
  }
  const tensors = ditTensors(CONVENTIONAL, written, 'F32');

  it('come back as they were', async () => {
    const { config, params: found } = await importWeights(await open(safetensors(tensors)), 'raw', {
      heads: 2,
      program: 'sit',
    });
    expect(config).toEqual(CONVENTIONAL);
    expect(found.groups).toEqual(written.groups);
  });

  const halves = (values: Float32Array) => fromHalf(toHalf(values));
  const bfloats = (values: Float32Array) => fromBfloat16(toBfloat16(values));
  /** The tensors as they are stored in a type, or rounded and stored in another. */
  const stored = (dtype: 'F32' | 'F16' | 'BF16', change: (values: Float32Array) => Float32Array = (values) => values) =>
    tensors.map((t): TensorToWrite => ({ ...t, dtype, values: change(t.values as Float32Array) }));
  const imported = async (file: readonly TensorToWrite[]) =>
    importWeights(await open(safetensors(file)), 'raw', { heads: 2, program: 'sit' });

  it.each([
    ['f16', stored('F16'), halves],
    ['bf16', stored('BF16'), bfloats],
    ['f32 that were halves once', stored('F32', halves), halves],
    ['f32 that were bf16 once', stored('F32', bfloats), bfloats],
    ['f16 that were bf16 once', stored('F16', bfloats), bfloats],
  ])('come back from %s as near as those are, positions included', async (_, file, round) => {
    const { params: found } = await imported(file);
    // The factor of queries, 2, changes no digit.
    expect(found.groups).toEqual(written.groups.map(round));
  });

  it('are refused where positions are farther off than their type explains', async () => {
    const off = (dtype: 'F32' | 'F16' | 'BF16', by: number) =>
      stored(dtype).map((t): TensorToWrite => {
        if (t.name !== 'pos_embed') return t;
        // One value, of sin(1) = 0.841: half the distance of halves there is 0.00024, of bf16 0.00195.
        const values = (t.values as Float32Array).map((x, i) => (i === 8 ? x + by : x));
        return { ...t, dtype, values } as TensorToWrite;
      });
    for (const [dtype, by] of [
      ['F32', 2e-5],
      ['F16', 6e-4],
      ['BF16', 5e-3],
    ] as const) {
      expect((await fails(imported(off(dtype, by)))).message).toContain('pos_embed is not the table of sines and');
    }
  });

  it('say how a DiT takes its time', async () => {
    const { config } = await importWeights(await open(safetensors(tensors)), 'raw', { heads: 2, program: 'dit' });
    expect(config).toEqual({ ...CONVENTIONAL, timeScale: 1000, predicts: 'noise' });
  });

  it('are split and turned as DiT has them', async () => {
    const of = new Map(tensors.map((t) => [t.name, t.values as Float32Array]));
    const ours = paramsByName(written);
    // Rows of qkv are the outputs of query, key, value; ours are Dense_2, Dense_1, Dense_3, inputs first, queries times the root of 4.
    const qkv = of.get('blocks.1.attn.qkv.weight')!;
    expect(qkv[3 * 8 + 5]! * 2).toBe(ours.get('DiTBlock_1/Dense_2/kernel')![5 * 8 + 3]);
    expect(qkv[64 + 3 * 8 + 5]).toBe(ours.get('DiTBlock_1/Dense_1/kernel')![5 * 8 + 3]);
    expect(qkv[128 + 3 * 8 + 5]).toBe(ours.get('DiTBlock_1/Dense_3/kernel')![5 * 8 + 3]);
    // [width, channels, row, column] of the patches.
    expect(of.get('x_embedder.proj.weight')![((6 * 3 + 2) * 2 + 1) * 2]).toBe(
      ours.get('PatchEmbed_0/Conv_0/kernel')![((1 * 2 + 0) * 3 + 2) * 8 + 6],
    );
  });

  it('that also give variances lose them, pixel by pixel', async () => {
    const [weight, bias] = ['weight', 'bias'].map(
      (name) => tensors.find((t) => t.name === `final_layer.linear.${name}`)!,
    );
    const doubled = (from: Float32Array, columns: number) => {
      const out = new Float32Array(2 * from.length).fill(99);
      for (let pixel = 0; pixel < 4; pixel++)
        out.set(from.subarray(pixel * 3 * columns, (pixel + 1) * 3 * columns), pixel * 6 * columns);
      return out;
    };
    const sigma = tensors.map((t): TensorToWrite => {
      if (t === weight) return { ...t, dtype: 'F32', shape: [24, 8], values: doubled(t.values as Float32Array, 8) };
      return t === bias ? { ...t, dtype: 'F32', shape: [24], values: doubled(t.values as Float32Array, 1) } : t;
    });
    const { params: found } = await importWeights(await open(safetensors(sigma)), 'raw', { heads: 2, program: 'sit' });
    expect(found.groups).toEqual(written.groups);
  });

  it('are found in files of torch.save: transposed views, averages, and the names of DataParallel', async () => {
    const storages: Record<string, Uint8Array> = {};
    const entries = tensors.map(({ name, shape, values }, i) => {
      storages[i] = new Uint8Array((values as Float32Array).slice().buffer);
      return [`module.${name}`, shape, i] as const;
    });
    const state = (transpose: string) =>
      dict(
        Object.fromEntries(
          entries.map(([name, shape, i]) => {
            const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
            const count = strides[0]! * shape[0]!;
            return [name, tensor({ key: String(i), count }, shape, name === transpose ? strides.reverse() : strides)];
          }),
        ),
      );
    const file = (transpose: string) => torchFile(dict({ model: state('none'), ema: state(transpose) }), storages);
    const read = async (transpose: string) =>
      (await importWeights(await open(file(transpose)), 'ema', { heads: 2, program: 'sit' })).params;
    expect((await read('none')).groups).toEqual(written.groups);
    const turned = paramsByName(await read('module.t_embedder.mlp.2.weight')).get('TimestepEmbedder_0/Dense_1/kernel')!;
    const straight = paramsByName(written).get('TimestepEmbedder_0/Dense_1/kernel')!;
    expect(turned).toEqual(straight.map((_, i) => straight[(i % 8) * 8 + Math.floor(i / 8)]!));
    expect(turned).not.toEqual(straight);
  });

  it.each(['_orig_mod.', 'module._orig_mod.', '_orig_mod.module.', 'module.'])(
    'are found behind %s',
    async (before) => {
      const { params: found } = await imported(tensors.map((t) => ({ ...t, name: `${before}${t.name}` })));
      expect(found.groups).toEqual(written.groups);
      const inner = await imported(
        tensors.map((t) => ({ ...t, name: t.name.replace(/^(blocks\.\d\.)/, '$1_orig_mod.') })),
      );
      expect(inner.params.groups).toEqual(written.groups);
    },
  );

  it('ask for what they do not say, and are refused where positions were learned', async () => {
    const checkpoint = await open(safetensors(tensors));
    const error = await fails(importWeights(checkpoint, 'raw', { heads: 2 }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.hint).toBe('give --from dit or --from sit');
    const learned = tensors.map(
      (t): TensorToWrite =>
        t.name === 'pos_embed' ? { ...t, dtype: 'F32', values: (t.values as Float32Array).map((x) => x + 0.01) } : t,
    );
    const refused = await fails(importWeights(await open(safetensors(learned)), 'raw', { heads: 2, program: 'sit' }));
    expect(refused).toBeInstanceOf(CheckpointError);
    expect(refused.message).toContain('pos_embed is not the table of sines and cosines (value 0 is 0.00999');
    const other = await fails(importWeights(checkpoint, 'raw', { heads: 2, program: 'sit', imageSize: 8 }));
    expect(other.message).toBe('x: pos_embed is of pictures of 4 pixels a side; 8 were asked for');
  });

  it('cannot be those of a model that chooses its blocks or steps', () => {
    expect(() => ditTensors(CONFIG, params(CONFIG), 'F32')).toThrow('DiT always runs all its blocks');
    const stepped = { ...CONVENTIONAL, ignoreDt: false };
    expect(() => ditTensors(stepped, params(stepped), 'F32')).toThrow('DiT knows no step sizes');
    const data: ModelConfig = { ...CONVENTIONAL, predicts: 'data' };
    expect(() => ditTensors(data, params(data), 'F32')).toThrow("this model's is the picture");
  });

  it('take a constant step embedding into the bias of the time', () => {
    const set = params(CONVENTIONAL, 6);
    const of = paramsByName(set);
    of.get('TimestepEmbedder_1/Dense_0/kernel')!.fill(0);
    of.get('TimestepEmbedder_1/Dense_0/bias')!.fill(2);
    of.get('TimestepEmbedder_1/Dense_1/kernel')!.fill(0.25);
    const bias = ditTensors(CONVENTIONAL, set, 'F32').find(({ name }) => name === 't_embedder.mlp.2.bias')!.values;
    const silu = 2 / (1 + Math.exp(-2));
    of.get('TimestepEmbedder_0/Dense_1/bias')!.forEach((value, i) => {
      expect(bias[i]).toBeCloseTo(value + 8 * 0.25 * silu + of.get('TimestepEmbedder_1/Dense_1/bias')![i]!, 5);
    });
  });
});

describe('safetensors', () => {
  const all = modelTensors(params(CONFIG));

  it('with Flax names need no description of ours', async () => {
    const { config, params: found } = await importWeights(await open(safetensors(all)), 'ema', HINTS);
    expect(config).toEqual(CONFIG);
    expect(found.groups).toEqual(params(CONFIG).groups);
  });

  it('with eight-bit floats are refused only where these are weights', async () => {
    const written = serializeSafetensors(all);
    const plain = await open(written);
    const named = (type: string, name: string) => {
      const tensor = plain.raw!.tensors.get(name)!;
      return new Map(plain.raw!.tensors).set(name, { ...tensor, type: type as 'F8_E4M3' });
    };
    const refused = { ...plain, raw: { ...plain.raw!, tensors: named('F8_E4M3', 'DiTBlock_1/Dense_3/bias') } };
    const error = await fails(importWeights(refused, 'raw', HINTS));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({
      message: 'x: DiTBlock_1/Dense_3/bias holds F8_E4M3, which is not read here',
      hint: 'store it as F16, BF16 or F32',
    });
  });

  it('in many files are put together by their index', async () => {
    const [first, second] = [all.slice(0, 20), all.slice(20)];
    writeFileSync(join(folder, 'model-1-of-2.safetensors'), safetensors(first));
    writeFileSync(join(folder, 'model-2-of-2.safetensors'), safetensors(second));
    const map = Object.fromEntries(all.map(({ name }, i) => [name, `model-${i < 20 ? 1 : 2}-of-2.safetensors`]));
    const index = join(folder, 'model.safetensors.index.json');
    const write = (weight_map: object) => writeFileSync(index, JSON.stringify({ metadata: {}, weight_map }));
    write(map);
    const checkpoint = await openCheckpointFile(index);
    expect((await importWeights(checkpoint, 'raw', HINTS)).params.groups).toEqual(params(CONFIG).groups);
    await checkpoint.close();
    write({ ...map, 'Embed_0/embedding': '../../etc/passwd' });
    expect((await fails(openCheckpointFile(index))).message).toContain(
      'it puts Embed_0/embedding into "../../etc/passwd", which is no name of a file beside it',
    );
    write({ ...map, more: 'model-1-of-2.safetensors' });
    expect((await fails(openCheckpointFile(index))).message).toContain(
      'it puts more into model-1-of-2.safetensors, which does not hold it',
    );
    write({ ...map, more: 'gone.safetensors' });
    expect((await fails(openCheckpointFile(index))).message).toContain(
      'gone.safetensors cannot be read: there is no such file',
    );
    write({});
    expect((await fails(openCheckpointFile(index))).message).toContain('it has no weight_map');
  });
});

describe('a file', () => {
  it('of another kind is told by its first bytes', async () => {
    expect((await fails(open(raw('GIF89a and more')))).message).toBe(
      'x is no checkpoint that can be read: it begins with 47 49 46 38 39 61 20 61',
    );
    expect((await fails(open(raw()))).message).toContain('it begins with nothing');
    const old = raw(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.');
    expect((await fails(open(old))).message).toBe('x: it was written by torch.save before PyTorch 1.6');
  });

  // A header may be padded with spaces: 0x80 begins a pickle, 'PK' a zip file, '{' JSON.
  it.each([0x1080, 0x4b50, 0x1f7b])(
    'of safetensors with a header of %d bytes is not taken for another',
    async (length) => {
      const plain = Buffer.from(safetensors(modelTensors(params(CONFIG))));
      const header = plain.subarray(8, 8 + plain.readUInt32LE());
      const own = Buffer.from(header.toString().trimEnd().padEnd(length));
      expect(own).toHaveLength(length);
      const first = Buffer.alloc(8);
      first.writeUInt32LE(length);
      const path = join(folder, `${length}.safetensors`);
      writeFileSync(path, Buffer.concat([first, own, plain.subarray(8 + header.length)]));
      expect(await isSafetensors(path)).toBe(true);
      const checkpoint = await openCheckpointFile(path);
      const { params: found } = await importWeights(checkpoint, 'ema', HINTS);
      await checkpoint.close();
      expect([checkpoint.kind, found.groups]).toEqual(['safetensors', params(CONFIG).groups]);
    },
  );

  it('whose tensors share bytes to seem larger than it is is refused', async () => {
    const deep = { ...CONVENTIONAL, depth: 12 };
    const entries = ditTensors(deep, params(deep), 'F32');
    // Every tensor lies in the same 2,048 numbers, but for the positions, which are compared.
    const state = dict(
      Object.fromEntries(
        entries.map(({ name, shape }) => {
          const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
          const storage = name === 'pos_embed' ? { key: '1', count: 32 } : { key: '0', count: 2048 };
          return [name, tensor(storage, shape, strides)];
        }),
      ),
    );
    const positions = new Uint8Array((entries[0]!.values as Float32Array).slice().buffer);
    const file = torchFile(state, { 0: new Uint8Array(8192), 1: positions });
    const error = await fails(open(file).then((found) => importWeights(found, 'raw', { heads: 2, program: 'sit' })));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/^x: its tensors take \d+ bytes, the file has \d+$/);
  });

  it('that calls something is refused before anything is imported', async () => {
    const error = await fails(open(pickle(dict({ params: call('os.system', raw(0x8c, 2, 'ls')) })), 'evil.pkl'));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain("evil.pkl: the pickle names os.system, which is no part of a checkpoint's weights");
  });
});
