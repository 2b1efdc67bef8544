/**
 * Every variant of the matrix product, those for other machines too, forced on this one: values against float64 at sizes that end inside
 * a tile, with what lies beyond the last sample poisoned; and a sample's bits are the same in every batch. The first variant of a make
 * computes many kinds of product, the others one of them in turn: a pipeline takes a driver a second or more to compile.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AdapterKind } from '../../engine/device.ts';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { scalarInput, times } from '../../engine/scalar.ts';
import { type DType, type Tensor, tensor } from '../../engine/tensor.ts';
import { toHalf } from '../../formats/half.ts';
import { copyInto } from '../../kernels/add.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { productCandidates } from '../../kernels/matmul/candidates.ts';
import { activations } from '../../kernels/matmul/linear.contract.ts';
import { matmul } from '../../kernels/matmul/sliced.ts';
import type { ProductVariant } from '../../kernels/matmul/tiles.ts';
import { type ProductShape, products } from '../../kernels/matmul/variants.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { emulatingMatrixUnits } from '../support/subgroup-matrix.ts';
import { bits } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 600_000 });

let own: Engine;
beforeAll(async () => {
  own = await unoptimisedEngine();
});
afterAll(() => own.dispose());

/** A kind of product. Sizes: samples of `tokens` rows; where a is transposed, they are what is summed over. */
interface Kind extends Omit<ProductShape, 'k'> {
  readonly k: number;
  readonly tokens: number;
  readonly epilogue: 'none' | 'bias' | 'gelu' | 'silu' | 'gated';
  readonly pre?: boolean;
}

const plain: Kind = {
  ...{ layout: 'NN', vec: true, weights: 'f32', activations: 'f32', rows: 'many', n: 132, k: 44, tokens: 70 },
  epilogue: 'none',
};
const odd = { vec: false, n: 131, k: 43 };
const kinds: Readonly<Record<string, Kind>> = {
  plain,
  'NT, vectors': { ...plain, layout: 'NT' },
  'TN, vectors, split': { ...plain, layout: 'TN', tokens: 300 },
  'gate, branch kept': { ...plain, epilogue: 'gated', pre: true },
  'GELU, int8 weights': { ...plain, weights: 'i8', epilogue: 'gelu' },
  'f16 weights and activations, gate': { ...plain, weights: 'f16', activations: 'f16', epilogue: 'gated' },
  'scalars, f16 weights': { ...plain, ...odd, weights: 'f16', epilogue: 'bias' },
  'NT, scalars': { ...plain, ...odd, layout: 'NT' },
  'TN, scalars, split': { ...plain, ...odd, layout: 'TN', tokens: 300 },
};
/** Those where each sample has one row; three here, so that there are more than a tile has. */
const rowKinds: Readonly<Record<string, Kind>> = {
  'one row a sample': { ...plain, rows: 'one', tokens: 3, epilogue: 'silu' },
  'one row a sample, f16 weights': { ...plain, rows: 'one', tokens: 3, weights: 'f16', epilogue: 'bias' },
};

/** Samples that there are, and that there is room for. */
const [SAMPLES, ROOM] = [2, 3];

/** Numbers that every kind of storage holds. */
function draws(size: number, seed: number): Float64Array {
  const normal = normals(seed);
  return Float64Array.from({ length: size }, () => Math.max(-4, Math.min(4, Math.round(normal() * 16) / 16)));
}

interface Case {
  readonly kind: Kind;
  readonly tensors: Readonly<Record<'a' | 'b' | 'bias' | 'residual' | 'gate', Tensor>>;
  readonly want: Readonly<Record<'y' | 'pre', Float64Array>>;
}

/** Uploads the inputs of a kind, NaN where a sample that there is not would be, and computes what is to come out. */
function makeCase(engine: Engine, kind: Kind): Case {
  const { layout, n, k, tokens, weights, activations: stored } = kind;
  const all = SAMPLES * tokens;
  const [m, sum] = layout === 'TN' ? [k, all] : [all, k];
  const a = draws(all * k, 1);
  const b = layout === 'TN' ? draws(all * n, 2) : draws(k * n, 2);
  const bias = draws(n, 3);
  const residual = draws(all * n, 4);
  const gate = draws(SAMPLES * 2 * n, 5);
  const scale = (column: number) => (weights === 'i8' ? (1 + (column % 3)) / 64 : 1);
  const pre = new Float64Array(m * n);
  for (let r = 0; r < m; r++) {
    for (let c = 0; c < n; c++) {
      let total = 0;
      for (let i = 0; i < sum; i++) {
        const x = a[layout === 'TN' ? i * m + r : r * k + i]!;
        total += x * b[layout === 'NT' ? c * k + i : i * n + c]! * scale(c) * (weights === 'i8' ? 16 : 1);
      }
      pre[r * n + c] = total + (kind.epilogue === 'none' ? 0 : bias[c]!);
    }
  }
  const finish: Record<Kind['epilogue'], (v: number, i: number) => number> = {
    none: (v) => v,
    bias: (v) => v,
    gelu: activations.gelu,
    silu: activations.silu,
    gated: (v, i) => residual[i]! + gate[Math.floor(i / n / tokens) * 2 * n + n + (i % n)]! * v,
  };
  const floats = (name: string, values: Float64Array, shape: [number, ...number[]], dtype: DType = 'f32'): Tensor => {
    const size = shape.reduce((x, y) => x * y, 1);
    const data = new Float32Array(size).fill(Number.NaN);
    data.set(values);
    if (dtype === 'f32') return engine.tensor(name, shape, { data });
    const halves = new Uint16Array(2 * Math.ceil(size / 2));
    halves.set(toHalf(data));
    return words(name, new Uint32Array(halves.buffer), shape, 'f16');
  };
  const words = (name: string, data: Uint32Array, shape: [number, ...number[]], dtype: DType): Tensor =>
    tensor(name, shape, dtype, engine.tensor(name, [data.length], { dtype: 'u32', data }).storage);
  const bytes = (values: Float64Array): Tensor => {
    const start = 4 * Math.ceil((k * n) / 4);
    const buffer = new ArrayBuffer(start + 4 * n);
    new Int8Array(buffer).set(values.map((v) => v * 16));
    new Float32Array(buffer, start).set(Float32Array.from({ length: n }, (_, c) => scale(c)));
    return words('b', new Uint32Array(buffer), [k, n], 'i8');
  };
  const room = ROOM * tokens;
  return {
    kind,
    tensors: {
      a: floats('a', a, kind.rows === 'one' ? [room, k] : [ROOM, tokens, k], stored),
      b:
        weights === 'i8'
          ? bytes(b)
          : floats('b', b, layout === 'NT' ? [n, k] : layout === 'TN' ? [room, n] : [k, n], weights),
      bias: floats('bias', bias, [n]),
      residual: floats('residual', residual, [room, n], stored),
      gate: floats('gate', gate, [ROOM, 2 * n]),
    },
    want: { y: pre.map(finish[kind.epilogue]), pre },
  };
}

/** A product by a variant. */
interface Job {
  readonly id: string;
  readonly of: Case;
}

/** Records all jobs as one program, so that their pipelines compile side by side; checks values and bits. */
async function check(engine: Engine, jobs: readonly Job[]): Promise<void> {
  const samples = scalarInput('samples', ROOM);
  const { recording, result } = record(engine, 'products', (ctx, keep) =>
    jobs.map(({ id, of: { kind, tensors } }) => {
      engine.tuning = tuningBy(() => id);
      const { a, b, bias, residual, gate } = tensors;
      const { layout, n, k, tokens, epilogue, activations: stored } = kind;
      const all = times(samples, tokens);
      const [M, K] = layout === 'TN' ? [k, all] : [all, k];
      const shape = [M, n] as const;
      const y = ctx.empty('y', shape, stored);
      const pre = kind.pre ? ctx.empty('pre', shape) : undefined;
      matmul(ctx, {
        ...{ M, N: n, K, a, b, c: y, epilogue, pre },
        transposeA: layout === 'TN',
        transposeB: layout === 'NT',
        bias: epilogue === 'none' ? undefined : bias,
        gated: epilogue === 'gated' ? { residual, gate, offset: n, stride: 2 * n, tokens } : undefined,
      });
      const out = stored === 'f16' ? copyInto(ctx, y, ctx.empty('cast', shape)) : y;
      keep(out);
      if (pre) keep(pre);
      return pre ? { y: out, pre } : { y: out };
    }),
  );
  engine.tuning = undefined;
  const program = await Program.compile(engine, recording);
  const run = async (count: number) => {
    program.run({ samples: count });
    const values: { y: Float32Array; pre?: Float32Array }[] = [];
    for (const { y, pre } of result) {
      const [first, second] = (await program.read(...(pre ? [y, pre] : [y]))) as Float32Array[];
      values.push(second ? { y: first!, pre: second } : { y: first! });
    }
    return values;
  };
  try {
    const got = await run(SAMPLES);
    const [fewer, more] = [await run(1), await run(ROOM)];
    for (const [
      i,
      {
        id,
        of: { kind, want },
      },
    ] of jobs.entries()) {
      const what = `${id} ${JSON.stringify(kind)}`;
      const { y, pre } = got[i]!;
      close(what, y, want.y, kind);
      if (kind.pre) close(`${what}, before the epilogue`, pre!, want.pre, kind);
      if (kind.layout === 'TN') continue; // its sums are over the batch
      const first = (values: Float32Array) => bits(values.subarray(0, kind.tokens * kind.n));
      expect(first(fewer[i]!.y) === first(y), `${what}, alone`).toBe(true);
      expect(first(more[i]!.y) === first(y), `${what}, in a larger batch`).toBe(true);
    }
  } finally {
    program.dispose();
  }
}

function close(what: string, got: Float32Array, want: Float64Array, { activations: stored, layout, tokens, k }: Kind) {
  const size = Math.sqrt(want.reduce((s, v) => s + v * v, 0) / want.length);
  const allowed = stored === 'f16' ? 2 ** -10 : 2 ** -23 * (16 + 4 * Math.sqrt(layout === 'TN' ? tokens * SAMPLES : k));
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (size + Math.abs(want[i]!));
    if (!(error <= allowed)) expect.fail(`${what}: element ${i} is ${got[i]}, not ${want[i]} (error ${error})`);
  }
}

/** Variants of one make differ in numbers only: they have a kernel and a way to stage in common. */
const makeOf = ({ kernel, constants }: ProductVariant): string =>
  [kernel.name, constants.SHARED_VEC, constants.BUFFERS].join();

/** An engine of this device that takes itself for another kind. */
const as = (kind: AdapterKind): Engine => new Engine(own.device, kind, { ownsDevice: false });

/** Checks every candidate of the engine: the first of a make in all its kinds, the others in one. Returns their ids. */
async function checkCandidates(engine: Engine): Promise<string[]> {
  const cases = Object.values({ ...kinds, ...rowKinds }).map((kind) => makeCase(engine, kind));
  const variants = new Map<string, { variant: ProductVariant; cases: Case[] }>();
  for (const of of cases) {
    for (const variant of productCandidates.candidates(engine, of.kind)) {
      // Only what is made for single rows treats them differently.
      if (of.kind.rows === 'one' && !variant.id.startsWith('rows-')) continue;
      const entry = variants.get(variant.id) ?? { variant, cases: [] };
      entry.cases.push(of);
      variants.set(variant.id, entry);
    }
  }
  const makes = new Set<string>();
  const jobs: Job[] = [];
  for (const [i, [id, { variant, cases: mine }]] of [...variants].entries()) {
    const make = makeOf(variant);
    const first = !makes.has(make);
    makes.add(make);
    const vectors = mine.filter(({ kind }) => kind.vec);
    const bare = vectors.filter(({ kind }) => kind.epilogue === 'none');
    jobs.push(...casesFor().map((of) => ({ id, of })));

    /** The reading of scalars and the epilogues are common: one make of tiles does for all. (Contracts hold the register tile to all.) */
    function casesFor(): readonly Case[] {
      if (make === 'matmul.tile,true,1') return first ? mine : [bare[i % bare.length]!];
      if (make.startsWith('matmul.tile') && first) return bare;
      if (!make.startsWith('matmul.register') && first) return vectors;
      const few = [bare, vectors, mine].find(({ length }) => length > 0)!;
      return [few[i % few.length]!];
    }
  }
  await check(engine, jobs);
  return [...variants.keys()];
}

describe('every variant computes every kind of product', () => {
  it('of this adapter', async () => {
    const engine = as(own.adapterClass);
    const ids = await checkCandidates(engine);
    const known = { lavapipe: 'subgroup-64x64', swiftshader: 'quad-16x64' } as Record<string, string>;
    expect(ids).toContain(known[own.adapterClass] ?? 'register-8x32');
    engine.dispose();
  });

  it('of GPUs', async () => {
    const engine = as('gpu');
    const ids = await checkCandidates(engine);
    expect(ids).toContain('tile-64x64x16-8x8-v4-2');
    expect(ids.filter((id) => id.startsWith('rows-'))).toHaveLength(3);
    engine.dispose();
  });
});

it('tiles that fit the size of a result give its rows the same bits, few or many', async () => {
  const engine = as('gpu');
  const { n, k } = plain;
  expect(products.reviewed(engine, plain).id).toBe('tile-fitting');
  // By 64 x 64 and 128 x 64, the latter two are enough tiles.
  const sizes = [70, 5504, 11008];
  const [few, many] = [sizes[0]!, sizes.at(-1)!];
  const a = engine.tensor('a', [many, k], { data: Float32Array.from(draws(many * k, 6)) });
  const b = engine.tensor('b', [k, n], { data: Float32Array.from(draws(k * n, 7)) });
  const kernels = new Set<string>();
  const { recording, result } = record(engine, 'fitting', (ctx, keep) =>
    sizes.map((rows) => {
      const y = ctx.empty('y', [rows, n]);
      matmul(ctx, { M: rows, N: n, K: k, a: { ...a, shape: [1, rows, k] }, b, c: y });
      keep(y);
      return y;
    }),
  );
  for (const { dispatch } of recording.nodes)
    kernels.add(`${dispatch.constants?.TILE_M} x ${dispatch.constants?.TILE_N}`);
  expect([...kernels].sort()).toEqual(['128 x 64', '64 x 32', '64 x 64']);
  const program = await Program.compile(engine, recording);
  program.run();
  const read = (await program.read(...result)) as Float32Array[];
  const first = new Set(read.map((y) => bits(y.subarray(0, few * n))));
  expect(first.size).toBe(1);
  program.dispose();
  engine.dispose();
});

it('rows of single samples may be more than workgroups fit a dimension', async () => {
  const engine = new Engine(own.device, 'gpu', { ownsDevice: false });
  const M = 4 * 65535 + 6;
  const values = Float32Array.from({ length: 4 * M }, (_, i) => (i * 7919) % 101);
  const a = engine.tensor('a', [M, 4], { data: values });
  const b = engine.tensor('b', [4, 4], { data: Float32Array.from({ length: 16 }, (_, i) => (i * 37) % 11) });
  const y = await eager(engine, async (ctx) => {
    const c = ctx.empty('c', [M, 4]);
    matmul(ctx, { M, N: 4, K: 4, a, b, c });
    return engine.read(c);
  });
  // Whole numbers, and so without rounding.
  const wrong = y.findIndex((found, i) => {
    const row = values.subarray(i - (i % 4), i - (i % 4) + 4);
    return found !== row.reduce((sum, x, k) => sum + x * (((4 * k + (i % 4)) * 37) % 11), 0);
  });
  expect(wrong).toBe(-1);
  engine.dispose();
});

describe('matrix units, emulated', () => {
  const units = [
    { M: 8, N: 8, K: 8 },
    { M: 16, N: 8, K: 16 },
  ];
  const halves = { weights: 'f16', activations: 'f16' } as const;

  it('multiply halves, and pass through the epilogue', async () => {
    const engine = new Engine(emulatingMatrixUnits(own.device, units), 'gpu', { ownsDevice: false });
    const cases = [makeCase(engine, { ...plain, ...halves, n: 44, k: 36, tokens: 21, epilogue: 'gated' })];
    for (const { kind } of cases) {
      const ids = productCandidates.candidates(engine, kind).map((v) => v.id);
      expect(ids.filter((id) => id.startsWith('units-'))).toEqual(['units-8x8x8-2x2', 'units-16x8x16-2x2']);
    }
    const ids = ['units-8x8x8-2x2', 'units-16x8x16-2x2'];
    await check(
      engine,
      ids.flatMap((id) => cases.map((of) => ({ id, of }))),
    );
    engine.dispose();
  });

  it('are no candidates where a factor is no half, transposed or the device lacks something', () => {
    const has = (device: GPUDevice, kind: Kind) => {
      const engine = new Engine(device, 'gpu', { ownsDevice: false });
      const found = productCandidates.candidates(engine, kind).some((v) => v.id.startsWith('units-'));
      engine.dispose();
      return found;
    };
    const device = emulatingMatrixUnits(own.device, units);
    expect(has(device, { ...plain, ...halves })).toBe(true);
    expect(has(device, { ...plain, weights: 'f16' })).toBe(false);
    expect(has(device, { ...plain, activations: 'f16' })).toBe(false);
    expect(has(device, { ...plain, ...halves, layout: 'NT' })).toBe(false);
    expect(has(own.device, { ...plain, ...halves })).toBe(false);
    expect(has(emulatingMatrixUnits(own.device, []), { ...plain, ...halves })).toBe(false);
    expect(has(emulatingMatrixUnits(own.device, [{ M: 16, N: 6, K: 16 }]), { ...plain, ...halves })).toBe(false);
  });
});
