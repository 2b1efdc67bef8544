/** Packed weights: every code is read exactly, the layout is what is computed, and a network differs from float32 only by its rounded weights. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { NonFiniteError, UsageError } from '../../engine/errors.ts';
import { byteSize, type DType, type Tensor, tensor } from '../../engine/tensor.ts';
import { fromHalf, toHalf } from '../../formats/half.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { gatherRows } from '../../kernels/gather.ts';
import { gatedLinear, linear } from '../../kernels/matmul/linear.ts';
import { matmul } from '../../kernels/matmul/sliced.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { type Activations, rowsPerGroup, velocity } from '../../model/dit.ts';
import { type ParamSet, paramEntries, paramLayout, zeroParams } from '../../model/params.ts';
import { type Precision, pack, quantizeColumns, storedGroup } from '../../model/weights/quantize.ts';
import { ResidentModel, uploadModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Weights } from '../../model/weights/weights.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { goldenModel, goldenTensors, relativeError } from '../support/golden.ts';
import { normals } from '../support/normals.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

/** A tensor over packed words. */
function packed(
  on: Engine,
  label: string,
  shape: readonly [number, ...number[]],
  dtype: DType,
  words: Uint32Array,
): Tensor {
  const whole = on.tensor(label, [words.length], { dtype: 'u32', data: words });
  return tensor(label, shape, dtype, whole.storage);
}

const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
const small: ModelConfig = preset('tiny', {
  imageSize: 8,
  patch: 2,
  channels: 3,
  width: 24,
  heads: 2,
  depth: 4,
  lengths: { min: 2, group: 2 },
});

/** The float32 values that packed weights stand for. */
function roundedParams(params: ParamSet, precision: Precision): ParamSet {
  const rounded = zeroParams(params.layout);
  const targets = [...paramEntries(rounded)];
  for (const [i, { spec, group, values }] of [...paramEntries(params)].entries()) {
    const { dtype } = storedGroup(params.layout.groups[group]!, precision).params.find((p) => p.spec === spec)!;
    const target = targets[i]!.values;
    if (dtype === 'f16') target.set(fromHalf(toHalf(values)));
    else if (dtype === 'i8') {
      const { bytes, scales } = quantizeColumns(values, spec.shape.at(-1)!);
      for (let j = 0; j < target.length; j++) target[j] = bytes[j]! * scales[j % scales.length]!;
    } else target.set(values);
  }
  return rounded;
}

describe('codes', () => {
  it('every half that is a number is read exactly', async () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => ((i & 0x7c00) === 0x7c00 ? 0 : i));
    const table = packed(engine, 'halves', [64, 1024], 'f16', new Uint32Array(halves.buffer));
    const indices = engine.tensor('indices', [64], {
      dtype: 'u32',
      data: Uint32Array.from({ length: 64 }, (_, i) => i),
    });
    const y = await eager(engine, async (ctx) => engine.read(gatherRows(ctx, table, indices)));
    expect(bits(y).equals(bits(fromHalf(halves)))).toBe(true);
    // An odd row length: rows start inside words.
    const odd = packed(engine, 'halves', [200, 327], 'f16', new Uint32Array(halves.buffer, 0, 32700));
    const pick = engine.tensor('indices', [3], { dtype: 'u32', data: Uint32Array.of(199, 0, 77) });
    const rows = await eager(engine, async (ctx) => engine.read(gatherRows(ctx, odd, pick)));
    const want = [199, 0, 77].flatMap((r) => [...fromHalf(halves.subarray(r * 327, (r + 1) * 327))]);
    expect(bits(rows).equals(bits(Float32Array.from(want)))).toBe(true);
  });

  for (const inputs of [1, 4]) {
    it(`every byte is read exactly (${inputs} inputs)`, async () => {
      const bytes = new Int8Array(inputs * 256).fill(55);
      const scales = Float32Array.from({ length: 256 }, (_, i) => (i % 3 === 0 ? 0.5 : 1));
      for (let i = 0; i < 256; i++) bytes[i] = i - 128;
      const words = new Uint32Array((bytes.length + 1024) / 4);
      new Int8Array(words.buffer).set(bytes);
      new Float32Array(words.buffer).set(scales, bytes.length / 4);
      const kernel = packed(engine, 'bytes', [inputs, 256], 'i8', words);
      const bias = engine.tensor('bias', [256]);
      const x = engine.tensor('x', [1, inputs], { data: Float32Array.of(1, 0, 0, 0).subarray(0, inputs) });
      const y = await eager(engine, async (ctx) => engine.read(linear(ctx, x, { kernel, bias })));
      expect([...y]).toEqual(Array.from({ length: 256 }, (_, i) => (i - 128) * scales[i]!));
    });
  }

  it('columns are quantised to the nearest of 255 levels of their own largest magnitude', () => {
    const { bytes, scales } = quantizeColumns(Float32Array.of(1, -2.54, 0, 0.5, 1.27, 0, -0.004, 0.009, 0), 3);
    expect([...bytes]).toEqual([127, -127, 0, 64, 64, 0, -1, 0, 0]);
    expect([...scales]).toEqual([Math.fround(1 / 127), Math.fround(Math.fround(2.54) / 127), 0]);
    const normal = normals(3);
    const values = Float32Array.from({ length: 90 * 7 }, normal);
    const q = quantizeColumns(values, 7);
    values.forEach(
      (v, i) => void expect(Math.abs(v - q.bytes[i]! * q.scales[i % 7]!)).toBeLessThan(0.501 * q.scales[i % 7]!),
    );
  });
});

describe('layout', () => {
  it('f32 lies as the layout says; packed matrices and biases follow each other at 256 bytes', () => {
    const layout = paramLayout(small);
    const groupOf = (name: string) => layout.groups.find((group) => group.name === name)!;
    for (const group of layout.groups) {
      const f32 = storedGroup(group, 'f32');
      expect(f32.parts).toEqual([4 * group.length]);
      expect(f32.params.map((p) => p.offset)).toEqual(group.specs.map((s) => 4 * s.offset));
    }
    const align = (n: number) => Math.ceil(n / 256) * 256;
    const [D, H] = [24, 96];
    const matrices = [
      [D, D],
      [D, D],
      [D, D],
      [D, D],
      [D, H],
      [H, D],
    ] as const;
    const biases = matrices.reduce((sum, [, n]) => sum + align(4 * n), 0);
    const f16 = matrices.reduce((sum, [k, n]) => sum + align(2 * k * n), biases);
    const int8 = matrices.reduce((sum, [k, n]) => sum + align(k * n + 4 * n), biases);
    expect(storedGroup(groupOf('block0'), 'f16').parts).toEqual([f16]);
    expect(storedGroup(groupOf('block0'), 'int8').parts).toEqual([int8]);
    const modulation = align(2 * D * 6 * D) + align(4 * 6 * D);
    expect(storedGroup(groupOf('block0.modulation'), 'int8').parts).toEqual([modulation]);
    const types = (name: string, precision: Precision) =>
      storedGroup(groupOf(name), precision).params.map(
        (p) => `${p.spec.shape.length > 1 ? 'matrix' : 'bias'} ${p.dtype}`,
      );
    expect(new Set(types('block3', 'int8'))).toEqual(new Set(['matrix i8', 'bias f32']));
    for (const name of ['patches', 'condition', 'block3.modulation', 'head', 'head.modulation']) {
      expect(new Set(types(name, 'int8'))).toEqual(new Set(['matrix f16', 'bias f32']));
    }
  });

  for (const precision of ['f16', 'int8'] as const) {
    it(`${precision}: the bytes on the GPU are the computed ones, at every number of blocks`, async () => {
      const kind = () => engine.memory.report().byKind.weights ?? 0;
      const before = kind();
      const model = new ResidentModel(engine, small, memorySource(formulaParams(small, 1)), { precision });
      const positions = byteSize(model.positions);
      const bytes = model.weights.layout.groups.map((g) => storedGroup(g, precision).parts[0]!);
      for (const length of [2, 4, 2]) {
        await model.require(model.groupsFor(length));
        const expected = model.groupsFor(length).reduce((sum, g) => sum + bytes[g]!, 0);
        expect(model.weights.bytes).toBe(expected);
        expect(kind() - before).toBe(expected + positions);
      }
      model.dispose();
      expect(kind()).toBe(before);
    });
  }

  it('halves of a file are stored as they are, and give the bytes that their floats give', () => {
    const params = formulaParams(small, 5);
    params.layout.groups.forEach((group, g) => {
      const halves = toHalf(params.groups[g]!);
      const floats = fromHalf(halves);
      for (const precision of ['f32', 'f16', 'int8'] as const) {
        for (const stored of storedGroup(group, precision).params) {
          const { spec, dtype } = stored;
          const words = pack(stored, halves);
          expect(words).toEqual(pack(stored, floats));
          expect(words.byteLength).toBe(
            Math.ceil(byteSize({ shape: [spec.size / spec.shape.at(-1)!, spec.shape.at(-1)!], dtype }) / 4) * 4,
          );
        }
      }
    });
  });
});

/** The packed model's velocity, the float32 model's, and that of a float32 model with the weights that the packed one stands for. */
async function velocities(precision: Precision, name: string, length: number) {
  const golden = await goldenModel(name);
  const f = await goldenTensors(golden, 'forward');
  const { config } = golden;
  const params = formulaParams(config, golden.seed, { strong: true });
  const shape = f.shape('x') as [number, ...number[]];
  const [B] = shape;
  const inputs = {
    x: engine.tensor('x', shape, { data: f.floats('x') }),
    t: engine.tensor('t', [B], { data: f.floats('t') }),
    step: engine.tensor('step', [B], { data: Float32Array.from(f.integers('dt_int')) }),
    labels: engine.tensor('labels', [B], { dtype: 'u32', data: Uint32Array.from(f.integers('y')) }),
  };
  const lengths = engine.tensor('lengths', [B], { dtype: 'u32', data: new Uint32Array(B).fill(length) });
  const rows = rowsPerGroup(config, new Array(B).fill(length)).filter((n) => n > 0);
  const run = async (values: ParamSet, as: Precision) => {
    const model = uploadModel(engine, config, values, { precision: as });
    const v = await eager(engine, async (ctx) => engine.read(velocity(ctx, model, inputs, { lengths, rows })));
    model.weights.release();
    return v;
  };
  return {
    exact: await run(params, 'f32'),
    packed: await run(params, precision),
    rounded: await run(roundedParams(params, precision), 'f32'),
  };
}

describe('a whole network', () => {
  it('f16: the same as with float32 weights rounded to halves; off by their rounding from float32', async () => {
    const v = await velocities('f16', 'a', 4);
    expect(relativeError(v.packed, v.rounded)).toBeLessThan(1e-7);
    const error = relativeError(v.packed, v.exact);
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(1e-3); // 6e-4 when written
  });

  it('int8: the same as with float32 weights rounded to bytes; off by their rounding from float32', async () => {
    const v = await velocities('int8', 'a', 4);
    expect(relativeError(v.packed, v.rounded)).toBeLessThan(3e-6);
    const error = relativeError(v.packed, v.exact);
    expect(error).toBeGreaterThan(1e-3);
    expect(error).toBeLessThan(8e-3); // 4e-3 when written
  });

  it('f16 activations: off by their rounding from float32, in half the planned bytes', async () => {
    const golden = await goldenModel('a');
    const params = formulaParams(golden.config, golden.seed, { strong: true });
    const run = async (activations: Activations) => {
      const model = new ResidentModel(engine, golden.config, memorySource(params), { activations });
      const sampler = new Sampler(engine, model, { batch: 2, ahead: false });
      const { values } = await sampler.sample({ labels: [1, 2], steps: 1, blocks: 4, seed: 3 });
      const [plan] = sampler.plans(4);
      sampler.dispose();
      model.dispose();
      return { values, bytes: plan!.bytes };
    };
    const [exact, half] = [await run('f32'), await run('f16')];
    const error = relativeError(half.values, exact.values);
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(2e-3);
    expect(half.bytes / exact.bytes).toBeLessThan(0.6);
  });

  it('f16 activations: streamed block by block, guided or not, the same samples', async () => {
    const params = formulaParams(small, 7, { strong: true });
    for (const guidance of [1, 3]) {
      const draw = async (residentBlocks?: number) => {
        const model = new ResidentModel(engine, small, memorySource(params), { activations: 'f16', precision: 'f16' });
        const sampler = new Sampler(engine, model, { batch: 2, residentBlocks, ahead: true });
        const { values } = await sampler.sample({ labels: [3, 7, 3], steps: 2, blocks: 4, seed: 1, guidance });
        sampler.dispose();
        model.dispose();
        return values;
      };
      expect(await draw(1)).toEqual(await draw());
    }
  });

  it('f16 activations that overflow are an error that says so, where f32 holds them', async () => {
    const params = formulaParams(small, 7, { strong: true });
    for (const { spec, values } of paramEntries(params)) if (spec.name === 'PatchEmbed_0/Conv_0/bias') values.fill(1e5);
    const draw = async (activations: Activations) => {
      const model = new ResidentModel(engine, small, memorySource(params), { activations });
      const sampler = new Sampler(engine, model, { batch: 1 });
      try {
        return (await sampler.sample({ labels: [3], steps: 1 })).values;
      } finally {
        sampler.dispose();
        model.dispose();
      }
    };
    expect((await draw('f32')).every(Number.isFinite)).toBe(true);
    const error = await draw('f16').catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as NonFiniteError).hint).toMatch(/use activations in f32/);
  });

  it('samples with packed weights, the same after blocks went and came back', async () => {
    for (const precision of ['f16', 'int8'] as const) {
      const params = formulaParams(small, 7, { strong: true });
      const model = new ResidentModel(engine, small, memorySource(params), { precision });
      const sampler = new Sampler(engine, model, { batch: 2 });
      const request = { labels: [3, 7], steps: 2, blocks: 4, seed: 1 };
      const first = await sampler.sample(request);
      await sampler.sample({ ...request, blocks: 2 });
      expect((await sampler.sample(request)).values).toEqual(first.values);
      sampler.dispose();
      model.dispose();
    }
  });
});

it('the tile for GPUs reads packed matrices too', async () => {
  const gpu = new Engine(engine.device, 'gpu', { ownsDevice: false });
  const normal = normals(9);
  const [M, K, N] = [70, 36, 72];
  const spec = { ...paramLayout(small).groups[1]!.specs[0]!, shape: [K, N], size: K * N, offset: 0 };
  const values = Float32Array.from({ length: K * N }, normal);
  const x = gpu.tensor('x', [M, K], { data: Float32Array.from({ length: M * K }, normal) });
  const bias = gpu.tensor('bias', [N], { data: Float32Array.from({ length: N }, normal) });
  const { bytes, scales } = quantizeColumns(values, N);
  const decoded = { f16: fromHalf(toHalf(values)), i8: Float32Array.from(bytes, (q, i) => q * scales[i % N]!) };
  for (const dtype of ['f16', 'i8'] as const) {
    const kernel = packed(
      gpu,
      dtype,
      [K, N],
      dtype,
      new Uint32Array(pack({ spec, dtype, shape: [K, N], column: 0 }, values).buffer),
    );
    const plain = gpu.tensor('plain', [K, N], { data: decoded[dtype] });
    const [got, want] = await eager(gpu, async (ctx) =>
      gpu.readAll([linear(ctx, x, { kernel, bias }, 'gelu'), linear(ctx, x, { kernel: plain, bias }, 'gelu')]),
    );
    expect(relativeError(got!, want!), dtype).toBeLessThan(1e-6);
  }
  gpu.dispose();
});

describe('refuses', () => {
  it('f16 activations of sizes that are no multiples of four, and gradients through them', async () => {
    const source = memorySource(formulaParams(small, 1));
    const odd = { ...small, channels: 1, patch: 1 };
    expect(() => new ResidentModel(engine, odd, source, { activations: 'f16' })).toThrow(/patch size is 1/);
    const narrow = { ...small, width: 36, heads: 6 };
    expect(() => uploadModel(engine, narrow, formulaParams(narrow, 1), { activations: 'f16' })).toThrow(
      /head size is 6/,
    );
    await eager(engine, async (ctx) => {
      const tape = createTape();
      ctx.tape = tape;
      const x = engine.tensor('x', [2, 4]);
      tape.watch(x, engine.tensor('dx', [2, 4]));
      const weights = { kernel: engine.tensor('kernel', [4, 4]), bias: engine.tensor('bias', [4]) };
      expect(() => linear(ctx, x, weights, 'none', 'f16')).toThrow(
        /no gradient passes 'linear', which is stored as f16/,
      );
    });
  });

  it('gradients through packed weights', async () => {
    const kernel = packed(engine, 'halves', [4, 4], 'f16', new Uint32Array(8));
    const bias = engine.tensor('bias', [4]);
    const [x, dx] = [engine.tensor('x', [2, 4]), engine.tensor('dx', [2, 4])];
    await eager(engine, async (ctx) => {
      const tape = createTape();
      ctx.tape = tape;
      tape.watch(x, dx);
      expect(() => linear(ctx, x, { kernel, bias })).toThrow(UsageError);
      expect(() => gatedLinear(ctx, x, { kernel, bias }, x, x)).toThrow(/f16/);
      tape.watch(kernel, engine.tensor('dtable', [4, 4]));
      const indices = engine.tensor('indices', [1], { dtype: 'u32' });
      expect(() => gatherRows(ctx, kernel, indices)).toThrow(UsageError);
      const bytes = packed(engine, 'bytes', [4, 4], 'i8', new Uint32Array(8));
      expect(() => gatherRows(ctx, bytes, indices)).toThrow(/i8/);
      const y = ctx.empty('y', [2, 4]);
      expect(() => matmul(ctx, { M: 2, N: 4, K: 4, a: x, b: kernel, c: y, transposeB: true })).toThrow(/transposed/);
      expect(() => ctx.reshape(bytes, [16])).toThrow(UsageError);
    });
  });

  it('reading packed tensors as floats', async () => {
    const halves = engine.tensor('halves', [2, 4], { dtype: 'f16' });
    await expect(engine.read(halves)).rejects.toThrow(/'halves' is stored as f16 and cannot be read as floats/);
    engine.release(halves);
  });

  it('values that cannot be packed, leaving nothing behind; and reading packed weights', async () => {
    const params = formulaParams(small, 1);
    const g = params.layout.groups.findIndex(({ name }) => name === 'block0.modulation');
    params.groups[g]![3] = 70000;
    const weights = new Weights(engine, params.layout, 'weights', { empty: true, precision: 'f16' });
    expect(() => weights.place(g, params.groups[g])).toThrow(NonFiniteError);
    expect(() => weights.place(g, params.groups[g])).toThrow(/DiTBlock_0\/Dense_0\/kernel.*65504/);
    expect(weights.isResident(g)).toBe(false);
    const bytes = new Weights(engine, params.layout, 'weights', { empty: true, precision: 'int8' });
    params.groups[g + 1]![3] = Number.NaN;
    expect(() => bytes.place(g + 1, params.groups[g + 1])).toThrow(NonFiniteError);
    await expect(weights.read()).rejects.toThrow(UsageError);
  });
});
