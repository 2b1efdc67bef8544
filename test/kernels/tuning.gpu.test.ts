/**
 * The kernels' variants for other machines, on this one: the GPU's tiles and split sums, SwiftShader's and lavapipe's; all agree
 * with float64, and in each a sample's numbers do not depend on the batch it is in.
 */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Context } from '../../engine/context.ts';
import type { AdapterKind } from '../../engine/device.ts';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { scalarInput } from '../../engine/scalar.ts';
import { maxSize, type Shape, type Tensor } from '../../engine/tensor.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { chunk } from '../../kernels/chunk.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { choose } from '../../kernels/family.ts';
import { productCandidates } from '../../kernels/matmul/candidates.ts';
import { linearContract } from '../../kernels/matmul/linear.contract.ts';
import { gatedLinear, linear } from '../../kernels/matmul/linear.ts';
import { sized } from '../../kernels/matmul/tiles.ts';
import { type ProductShape, products } from '../../kernels/matmul/variants.ts';
import { layernorm } from '../../kernels/norm/layernorm.ts';
import { velocity } from '../../model/dit.ts';
import { uploadModel } from '../../model/weights/residency.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { block, blockReference, blockShapes, randomArrays } from '../support/block.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { bits, tinyModel } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let own: Engine;
const engines: Partial<Record<AdapterKind, Engine>> = {};
/** The engine of this machine's device that takes itself for another; null where the device cannot run its kernels. */
function as(kind: AdapterKind): Engine | null {
  // Lavapipe's kernels pass values between eight lanes; SwiftShader has four.
  if (kind === 'lavapipe' && own.adapterClass === 'swiftshader') return null;
  engines[kind] ??= new Engine(own.device, kind, { ownsDevice: false });
  return engines[kind];
}
beforeAll(async () => {
  own = await unoptimisedEngine();
});
afterAll(() => {
  for (const engine of Object.values(engines)) engine.dispose();
  own.dispose();
});

const kinds: readonly AdapterKind[] = ['gpu', 'swiftshader', 'lavapipe'];

function close(name: string, got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number) {
  expect(got.length, name).toBe(want.length);
  const scale = Math.sqrt(Array.from(want).reduce((s, v) => s + v * v, 0) / want.length);
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (scale + Math.abs(want[i]!));
    if (!(error <= tolerance)) expect.fail(`${name}[${i}]: got ${got[i]}, want ${want[i]} (relative error ${error})`);
  }
}

const shape: ProductShape = {
  ...{ layout: 'NN', vec: true, weights: 'f32', activations: 'f32', rows: 'many', n: 64, k: 64 },
};

it('the GPU class takes tiles staged in workgroup memory and splits long sums; the CPU classes do neither', () => {
  for (const vec of [true, false]) {
    const chosen = choose(as('gpu')!, products, { ...shape, vec });
    expect(chosen.kernel.name).toBe('matmul.tile');
    // Fewer tiles are cut into more slices, whatever the length of the sums.
    expect([1, 16, 64, 256].map(chosen.slice)).toEqual([256, 512, 1024, 4096]);
  }
  for (const [kind, kernel] of [
    ['swiftshader', 'matmul.subgroup'],
    ['software', 'matmul.register'],
  ] as const) {
    const chosen = choose(as(kind)!, products, shape);
    expect(chosen.kernel.name).toBe(kernel);
    expect(chosen.slice(1)).toBe(0);
  }
});

it('a modulation, of one row a sample, has variants of its own; weight gradients and other layouts have not', () => {
  const modulation: ProductShape = { ...shape, rows: 'one', n: 4608, k: 768 };
  expect(choose(as('gpu')!, products, modulation).id).toBe('rows-4x32-32');
  const lowered = choose(as('swiftshader')!, products, modulation);
  expect(lowered.id).toBe('quad-32x64-or-8');
  expect([1, 16, 17].map((rows) => sized(lowered, rows, 4608).tileM)).toEqual([8, 8, 32]);
  for (const layout of ['NT', 'TN'] as const) {
    expect(choose(as('gpu')!, products, { ...modulation, layout }).kernel.name).toBe('matmul.tile');
  }
  expect(choose(as('gpu')!, products, { ...modulation, vec: false }).kernel.name).toBe('matmul.tile');
});

it('tiles of GPUs keep to the limits that every device has', () => {
  const ids = new Set<string>();
  for (const layout of ['NN', 'NT', 'TN'] as const) {
    for (const n of [4, 64, 768, 4608]) {
      const candidates = productCandidates.candidates(as('gpu')!, { ...shape, layout, n });
      expect(candidates.length).toBeLessThan(40);
      expect(new Set(candidates.map((v) => v.id)).size).toBe(candidates.length);
      expect(candidates.map((v) => v.id)).toContain(products.reviewed(as('gpu')!, { ...shape, layout, n }).id);
      for (const { id, constants, tileM, tileN } of candidates.filter((v) => v.kernel.name === 'matmul.tile')) {
        const { DEPTH, GROUPS_M, GROUPS_N, BUFFERS, PAD } = constants as Record<string, number>;
        expect(4 * BUFFERS! * DEPTH! * (tileM + tileN + 2 * PAD!), id).toBeLessThanOrEqual(16_384);
        expect((tileM * tileN) / (16 * GROUPS_M! * GROUPS_N!), id).toBeLessThanOrEqual(256);
        ids.add(id);
      }
    }
  }
  expect(ids.size).toBe(15);
});

it('an engine takes the variant that its tuning names, and refuses one that is none', () => {
  const engine = new Engine(own.device, own.adapterClass, { ownsDevice: false });
  const asked: unknown[] = [];
  const naming = (id: string | undefined) =>
    tuningBy((...of) => {
      asked.push(of);
      return id;
    });
  engine.tuning = naming('register-8x32');
  expect(choose(engine, products, shape).id).toBe('register-8x32');
  expect(asked).toEqual([['product', shape]]);
  engine.tuning = naming(undefined);
  expect(choose(engine, products, shape)).toEqual(products.reviewed(engine, shape));
  engine.tuning = naming('warp-8x8');
  expect(() => choose(engine, products, shape)).toThrow(/asks for 'warp-8x8' for product .*none of its variants/);
  engine.dispose();
});

interface Sizes {
  batch: number;
  tokens: number;
  input: number;
  output: number;
}

/** y = x W + b and the gradients of sum(y * dy), in float64. */
function linearReference(
  { x, kernel, bias, dy }: Record<string, Float64Array>,
  { batch, tokens, input, output }: Sizes,
) {
  const rows = batch * tokens;
  const { y } = linearContract.reference(
    { x: x!, kernel: kernel!, bias: bias! },
    { rows: batch, tokens, input, output },
  );
  const [dx, dkernel, dbias] = [
    new Float64Array(rows * input),
    new Float64Array(input * output),
    new Float64Array(output),
  ];
  for (let r = 0; r < rows; r++) {
    for (let n = 0; n < output; n++) {
      const g = dy![r * output + n]!;
      dbias[n]! += g;
      for (let k = 0; k < input; k++) {
        dx[r * input + k]! += g * kernel![k * output + n]!;
        dkernel[k * output + n]! += g * x![r * input + k]!;
      }
    }
  }
  return { y: y!, dx, dkernel, dbias };
}

describe('dense layers, forward and backward, against float64', () => {
  const cases: [string, Sizes][] = [
    ['vectors, sums of 1,100 rows, split with a rest', { batch: 5, tokens: 220, input: 12, output: 20 }],
    ['scalars, sums of 2,050 rows, split with a rest', { batch: 10, tokens: 205, input: 7, output: 9 }],
    ['sums of 1,024 rows, split without a rest, more than one tile', { batch: 4, tokens: 256, input: 68, output: 72 }],
    ['one row', { batch: 1, tokens: 1, input: 36, output: 68 }],
  ];
  for (const [name, size] of cases) {
    for (const kind of kinds) {
      it(`${name}: ${kind}`, async (context) => {
        const engine = as(kind);
        if (!engine) return context.skip();
        const { batch, tokens, input, output } = size;
        const shapes = {
          x: [batch, tokens, input],
          kernel: [input, output],
          bias: [output],
          dy: [batch, tokens, output],
        } as Record<string, [number, ...number[]]>;
        const arrays = randomArrays(shapes, 7, 1);
        const want = linearReference(arrays, size);
        const t = Object.fromEntries(
          Object.entries(shapes).map(([n, shape]) => [
            n,
            engine.tensor(n, shape, { data: Float32Array.from(arrays[n]!) }),
          ]),
        );
        const leaves = ['x', 'kernel', 'bias'] as const;
        const gradients = leaves.map((n) =>
          engine.tensor(`d${n}`, shapes[n]!, { data: new Float32Array(maxSize(t[n]!)).fill(Number.NaN) }),
        );
        // The batch is a number and, at replay, a scalar below its maximum: splits follow the rows that there are.
        for (const rows of [batch, scalarInput('rows', batch + 3)]) {
          const wide = typeof rows === 'number' ? t : { ...t, ...padded(engine, t, arrays, batch + 3) };
          const { recording, result } = record(engine, 'linear', (ctx, keep) => {
            const tape = createTape();
            const input: Tensor = { ...wide.x!, shape: [rows, tokens, size.input] };
            const dx =
              typeof rows === 'number' ? gradients[0]! : engine.tensor('dx.wide', [batch + 3, tokens, size.input]);
            tape.watch(input, dx);
            tape.watch(t.kernel!, gradients[1]!);
            tape.watch(t.bias!, gradients[2]!);
            ctx.tape = tape;
            const y = linear(ctx, input, { kernel: t.kernel!, bias: t.bias! });
            keep(y);
            tape.backward(ctx, [[y, { ...wide.dy!, shape: [rows, tokens, output] as Shape }]]);
            return { y, dx };
          });
          const program = await Program.compile(engine, recording);
          program.run(typeof rows === 'number' ? {} : { rows: batch });
          const [y] = await program.read(result.y);
          const found = await engine.readAll([result.dx, gradients[1]!, gradients[2]!]);
          const long = Math.max(input, output, batch * tokens);
          const tolerance = 2 ** -23 * (16 + 4 * Math.sqrt(long));
          close('y', y!.subarray(0, want.y.length), want.y, tolerance);
          close('dx', found[0]!.subarray(0, want.dx.length), want.dx, tolerance);
          close('dkernel', found[1]!, want.dkernel, tolerance);
          close('dbias', found[2]!, want.dbias, tolerance);
          program.dispose();
        }
      });
    }
  }

  /** x and dy with room for `batch` samples, the rest NaN: nothing may read it. */
  const padded = (engine: Engine, t: Record<string, Tensor>, arrays: Record<string, Float64Array>, batch: number) =>
    Object.fromEntries(
      ['x', 'dy'].map((name) => {
        const wide = engine.tensor(name, [batch, ...(t[name]!.shape.slice(1) as number[])]);
        engine.write(wide, new Float32Array(maxSize(wide)).fill(Number.NaN));
        engine.write(wide, Float32Array.from(arrays[name]!));
        return [name, wide];
      }),
    );
});

describe('an attention block against float64', () => {
  const size = { batch: 2, tokens: 21, width: 24, heads: 3 };
  for (const kind of kinds) {
    it(kind, async (context) => {
      const engine = as(kind);
      if (!engine) return context.skip();
      const shapes = { x: [2, 21, 24], c: [2, 24], ...blockShapes(size) } as Record<string, [number, ...number[]]>;
      const arrays = randomArrays(shapes, 9);
      const t = Object.fromEntries(
        Object.entries(shapes).map(([n, shape]) => [
          n,
          engine.tensor(n, shape, { data: Float32Array.from(arrays[n]!) }),
        ]),
      );
      const got = await eager(engine, async (ctx) => engine.read(block(ctx, t.x!, t.c!, t, size)));
      close('y', got, blockReference(arrays.x!, arrays.c!, arrays, size), 1e-5);
    });
  }
});

describe('a sample has the same bits in every batch', () => {
  const [tokens, width] = [17, 24];
  const shapes: Record<string, [number, ...number[]]> = {
    x: [70, tokens, width],
    modulation: [70, 2 * width],
    kernel: [width, 4 * width],
    bias: [4 * width],
    back: [4 * width, width],
    backBias: [width],
  };
  const operations: Record<string, (ctx: Context, t: Record<string, Tensor>) => Tensor> = {
    linear: (ctx, t) => linear(ctx, t.x!, { kernel: t.kernel!, bias: t.bias! }, 'gelu'),
    layernorm(ctx, t) {
      const [shift, scale] = chunk(ctx, t.modulation!, 2) as [Tensor, Tensor];
      return layernorm(ctx, t.x!, shift, scale);
    },
    gatedLinear(ctx, t) {
      const [gate] = chunk(ctx, t.modulation!, 2) as [Tensor];
      const hidden = linear(ctx, t.x!, { kernel: t.kernel!, bias: t.bias! }, 'silu');
      return gatedLinear(ctx, hidden, { kernel: t.back!, bias: t.backBias! }, t.x!, gate);
    },
    attention: (ctx, t) => attention(ctx, t.x!, t.x!, t.x!, { heads: 3, scale: 3 / width }),
  };
  for (const kind of kinds) {
    it(kind, async (context) => {
      const engine = as(kind);
      if (!engine) return context.skip();
      const arrays = randomArrays(shapes, 13, 1);
      for (const [name, run] of Object.entries(operations)) {
        const seen = new Set<string>();
        // The same sample first of one, third of three, last of seventy.
        for (const batch of [1, 3, 70]) {
          const t = Object.fromEntries(
            Object.entries(shapes).map(([n, shape]) => {
              const samples = shape[0] === 70;
              const each = arrays[n]!.length / shape[0];
              const data = samples ? arrays[n]!.subarray((70 - batch) * each) : arrays[n]!;
              return [
                n,
                engine.tensor(n, samples ? [batch, ...(shape.slice(1) as number[])] : shape, {
                  data: Float32Array.from(data),
                }),
              ];
            }),
          );
          const y = await eager(engine, async (ctx) => engine.read(run(ctx, t)));
          seen.add(bits(y.subarray((y.length / batch) * (batch - 1))));
          for (const tensor of Object.values(t)) engine.release(tensor);
        }
        expect(seen.size, name).toBe(1);
      }

      const model = uploadModel(engine, tinyModel, formulaParams(tinyModel, 3));
      const noise = randomArrays({ x: [5, 8, 8, 1] }, 14, 1).x!;
      const seen = new Set<string>();
      for (const batch of [1, 2, 5]) {
        const from = 5 - batch;
        const make = (label: string, data: Float32Array | Uint32Array, shape: [number, ...number[]] = [batch]) =>
          engine.tensor(label, shape, { data, dtype: data instanceof Uint32Array ? 'u32' : 'f32' });
        const inputs = {
          x: make('x', Float32Array.from(noise.subarray(from * 64)), [batch, 8, 8, 1]),
          t: make(
            't',
            Float32Array.from({ length: batch }, (_, i) => (from + i) / 5),
          ),
          step: make(
            'step',
            Float32Array.from({ length: batch }, (_, i) => from + i),
          ),
          labels: make(
            'labels',
            Uint32Array.from({ length: batch }, (_, i) => (from + i) % 4),
          ),
        };
        const lengths = make('lengths', new Uint32Array(batch).fill(4));
        const v = await eager(engine, async (ctx) =>
          engine.read(velocity(ctx, model, inputs, { lengths, rows: [batch, batch] })),
        );
        expect(v.some((value) => value !== 0)).toBe(true);
        seen.add(bits(v.subarray((batch - 1) * 64)));
      }
      expect(seen.size, 'velocity').toBe(1);
    });
  }
});
