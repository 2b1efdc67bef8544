/** Ways to use the engine wrongly: each throws a UsageError that names the thing and says what to do, and leaks nothing. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Context } from '../../engine/context.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { UsageError } from '../../engine/errors.ts';
import { type Dispatch, defineKernel } from '../../engine/kernel.ts';
import { Program, record } from '../../engine/program.ts';
import { type Scalar, scalarInput } from '../../engine/scalar.ts';
import { columns, type Tensor } from '../../engine/tensor.ts';
import { add } from '../../kernels/add.ts';
import { silu } from '../../kernels/elementwise.ts';
import { uploadModel } from '../../model/weights/residency.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { tinyModel } from '../support/tiny.ts';

const scale = defineKernel(
  'scale',
  `
struct Params { size: u32, factor: f32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main(@builtin(workgroup_id) wid: vec3u) {
  if (wid.x < params.size) { y[wid.x] = params.factor * x[wid.x]; }
}`,
);

let engine: Engine;
let x: Tensor;
let y: Tensor;
beforeAll(async () => {
  engine = await testEngine();
  x = engine.tensor('x', [4], { data: Float32Array.of(1, 2, 3, 4) });
  y = engine.tensor('y', [4]);
});
afterAll(() => engine.dispose());

const dispatch = (change: Partial<Dispatch> = {}): Dispatch => ({
  kernel: scale,
  entry: 'main',
  tensors: { x, y },
  params: { size: 4, factor: 2 },
  grid: 4,
  ...change,
});

/** The UsageError that `body` throws or rejects with, as "message | hint". */
async function misuse(body: () => unknown): Promise<string> {
  try {
    await body();
  } catch (error) {
    if (error instanceof UsageError) return error.hint ? `${error.message} | ${error.hint}` : error.message;
    throw error;
  }
  throw new Error('nothing was thrown');
}
const eagerly = (change: Partial<Dispatch>) =>
  misuse(() => eager(engine, async (ctx) => ctx.dispatch(dispatch(change))));

let live: { live: number; buffers: number };
beforeEach(() => {
  const { live: bytes, buffers } = engine.memory.report();
  live = { live: bytes, buffers };
});
const nothingLeaked = () => expect(engine.memory.report()).toMatchObject(live);

describe('a dispatch', () => {
  it('right as it stands here', async () => {
    await eager(engine, async (ctx) => ctx.dispatch(dispatch()));
    expect([...(await engine.read(y))]).toEqual([2, 4, 6, 8]);
  });

  const names = 'scale/main: tensor names do not match its WGSL';
  const params = 'scale/main: parameter names do not match its WGSL';
  it.each<[string, () => Partial<Dispatch>, string]>([
    ['an unknown tensor', () => ({ tensors: { x, y, z: x } }), `${names} | missing: none; unknown: z`],
    ['a missing tensor', () => ({ tensors: { y } }), `${names} | missing: x; unknown: none`],
    ['a misspelt tensor', () => ({ tensors: { X: x, y } }), `${names} | missing: x; unknown: X`],
    ['a missing parameter', () => ({ params: { size: 4 } }), `${params} | missing: factor; unknown: none`],
    ['no parameters', () => ({ params: undefined }), `${params} | missing: size, factor; unknown: none`],
    [
      'an unknown parameter',
      () => ({ params: { size: 4, factor: 1, gain: 2 } }),
      `${params} | missing: none; unknown: gain`,
    ],
    ['NaN for a parameter', () => ({ params: { size: 4, factor: Number.NaN } }), 'scale/main: parameter factor is NaN'],
    ['NaN for a count', () => ({ params: { size: Number.NaN, factor: 1 } }), 'scale/main: parameter size is NaN'],
    [
      'a fraction for a count',
      () => ({ params: { size: 1.5, factor: 1 } }),
      'scale/main: parameter size is 1.5, not an integer in 0..4294967295',
    ],
    [
      'a negative count',
      () => ({ params: { size: -1, factor: 1 } }),
      'scale/main: parameter size is -1, not an integer in 0..4294967295',
    ],
    ['an unknown entry point', () => ({ entry: 'mian' }), "kernel scale has no entry point 'mian'"],
    ['an unknown constant', () => ({ constants: { WG: 64 } }), "kernel scale has no override 'WG' | it has: "],
    [
      'a tensor read and written',
      () => ({ tensors: { x: y, y } }),
      "scale/main writes 'y' as y while it is also bound as x",
    ],
    [
      'a fraction of a workgroup',
      () => ({ grid: 0.5 }),
      'scale/main: a grid of 0.5 workgroups; counts are 0, 1, 2, ...',
    ],
    [
      'a symbolic grid in eager mode',
      () => ({ grid: scalarInput('rows', 4) }),
      "scale/main: the symbolic scalar 'rows' has no value in eager mode | pass a number, or record() a program and give the value to run()",
    ],
    [
      'a symbolic parameter in eager mode',
      () => ({ params: { size: 4, factor: scalarInput('lr') } }),
      "scale/main: the symbolic scalar 'lr' has no value in eager mode | pass a number, or record() a program and give the value to run()",
    ],
  ])('with %s', async (_what, change, message) => {
    expect(await eagerly(change())).toBe(message);
    nothingLeaked();
  });

  it('names the scope it is in', async () => {
    const message = await misuse(() =>
      eager(engine, async (ctx) => ctx.scope('block3', () => ctx.dispatch(dispatch({ tensors: { y } })))),
    );
    expect(message).toMatch(/^block3\/scale\/main: tensor names/);
  });
});

describe('a recording', () => {
  const compile = async (body: (ctx: Context, keep: (t: Tensor) => void) => void) =>
    Program.compile(engine, record(engine, 'p', body).recording);

  it('that reads what nothing has written', async () => {
    const message = await misuse(() => compile((ctx) => void silu(ctx, ctx.empty('hidden', [4]))));
    expect(message).toBe("elementwise/silu_forward reads 'hidden', which nothing has written");
    nothingLeaked();
  });

  it('whose body is asynchronous, or that is dispatched to once it has ended', async () => {
    let late: Context;
    const body = async (ctx: Context) => {
      late = ctx;
      await null;
      silu(ctx, x);
    };
    expect(await misuse(() => compile(body))).toMatch(
      /^the body of the recording 'p' is asynchronous \| await what the body needs/,
    );
    expect(await misuse(() => silu(late, x))).toMatch(/^the recording 'p' has ended \| await what the body needs/);
    nothingLeaked();
  });

  it('whose tensors are read before it is compiled, or never written at all', async () => {
    const { recording, result } = record(engine, 'p', (ctx, keep) => {
      const z = silu(ctx, x);
      keep(z);
      return [z, ctx.empty('unused', [4])] as const;
    });
    const hint =
      'a recorded tensor gets it when its program is compiled and something writes it; evicted weights must be placed again';
    expect(await misuse(() => engine.read(result[0]))).toBe(`'silu' has no memory | ${hint}`);
    const program = await Program.compile(engine, recording);
    program.run();
    expect(await misuse(() => program.read(result[1]))).toBe(`'unused' has no memory | ${hint}`);
    program.dispose();
  });

  it('whose outputs are read before it has run', async () => {
    const { recording, result } = record(engine, 'p', (ctx, keep) => {
      const z = silu(ctx, x);
      keep(z);
      return z;
    });
    const program = await Program.compile(engine, recording);
    expect(await misuse(() => program.read(result))).toMatch(/^'p' has no outputs in memory \| run it first/);
    program.dispose();
  });

  it('whose tensor was not kept', async () => {
    const { recording, result } = record(engine, 'p', (ctx, keep) => {
      const z = silu(ctx, x);
      keep(silu(ctx, z));
      return z;
    });
    const program = await Program.compile(engine, recording);
    program.run();
    expect(await misuse(() => program.read(result))).toBe(
      "'silu' does not outlast a run of 'p': its memory is used again | mark it with keep() while recording",
    );
    program.dispose();
  });

  it('that is compiled twice', async () => {
    const { recording } = record(engine, 'p', (ctx) => void silu(ctx, x));
    const program = await Program.compile(engine, recording);
    expect(await misuse(() => Program.compile(engine, recording))).toBe(
      "'p' has been compiled already | record it again for a second program",
    );
    program.dispose();
    const again = await Program.compile(engine, recording);
    again.dispose();
    nothingLeaked();
  });

  it('that reads one planned tensor twice beside its result', async () => {
    const message = await misuse(() =>
      compile((ctx) => {
        const z = silu(ctx, x);
        add(ctx, z, z);
      }),
    );
    expect(message).toBe(
      "add/add binds 'silu' twice beside a result in the same memory | copy it first: only distinct tensors can share memory with a result",
    );
    nothingLeaked();
  });

  it.each<[Record<string, number>, string]>([
    [{}, "scalar 'rows' was not given to run() | pass { rows: value }"],
    [{ row: 2 }, "scalar 'rows' was not given to run() | pass { rows: value }"],
    [{ rows: 5 }, "scalar 'rows' is 5; the program was recorded for at most 4"],
    [{ rows: Number.NaN }, "scalar 'rows' is NaN; the program was recorded for at most 4"],
    [{ rows: -1 }, 'scale/main: parameter size is -1, not an integer in 0..4294967295'],
    [{ rows: 1.5 }, 'scale/main: parameter size is 1.5, not an integer in 0..4294967295'],
  ])('run with %o where it wants rows up to 4', async (values, message) => {
    const rows: Scalar = scalarInput('rows', 4);
    const program = await compile((ctx) => ctx.dispatch(dispatch({ params: { size: rows, factor: 3 }, grid: rows })));
    engine.write(y, new Float32Array(4));
    expect(await misuse(() => program.run(values))).toBe(message);
    expect([...(await engine.read(y))]).toEqual([0, 0, 0, 0]);
    program.run({ rows: 2 });
    expect([...(await engine.read(y))]).toEqual([3, 6, 0, 0]);
    program.dispose();
  });

  it('whose weights have been evicted', async () => {
    const { weights } = uploadModel(engine, tinyModel, formulaParams(tinyModel, 1));
    const bias = weights.get('DiTBlock_0/Dense_0/bias');
    const program = await compile((ctx) => void silu(ctx, bias));
    weights.release();
    expect(await misuse(() => program.run())).toMatch(/^'.*' has no memory \| .*evicted weights must be placed again$/);
    program.dispose();
    expect(await misuse(() => weights.get('Dense_9/kernel'))).toBe("this model has no parameter 'Dense_9/kernel'");
  });
});

describe('a tensor', () => {
  it('with a bad dimension', async () => {
    for (const n of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(eager(engine, async (ctx) => ctx.empty('t', [n]))).rejects.toThrow();
    }
    expect(await misuse(() => engine.tensor('t', [2, -1]))).toBe("tensor 't' has a dimension of -1");
    nothingLeaked();
  });

  it('of no label, shape, type or data that make one', async () => {
    const refused = (...args: unknown[]) =>
      misuse(() => (engine.tensor as (...args: unknown[]) => Tensor).apply(engine, args));
    expect(await refused()).toBe("a tensor's label is undefined, not a string");
    expect(await refused(7, [1])).toBe("a tensor's label is 7, not a string");
    expect(await refused('t')).toContain("tensor 't' has no array as its shape");
    expect(await refused('t', [])).toContain("tensor 't' has an empty shape");
    expect(await refused('t', 4)).toContain("tensor 't' has no array as its shape");
    expect(await refused('t', ['4'])).toBe("tensor 't' has a dimension of 4");
    expect(await refused('t', [2, null])).toBe("tensor 't' has a dimension of null");
    expect(await refused('t', [null])).toBe("tensor 't' has a dimension of null");
    expect(await refused('t', [2, { max: 3 }])).toBe("tensor 't' has a dimension of [object Object]");
    expect(await refused('t', [2 ** 30, 2 ** 30])).toContain("tensor 't' [1073741824, 1073741824] has 11529215046068");
    expect(await refused('t', [2], { dtype: 'f8' })).toBe(
      "tensor 't' is to hold 'f8'; it must be one of f32, u32, i32, f16, i8",
    );
    expect(await refused('t', [2], { data: [1, 2] })).toBe(
      "tensor 't' of f32 is given object as data; it must be a Float32Array",
    );
    expect(await refused('t', [2], { data: new Float64Array(2) })).toBe(
      "tensor 't' of f32 is given Float64Array as data; it must be a Float32Array",
    );
    expect(await refused('t', [2], { dtype: 'u32', data: new Float32Array(2) })).toBe(
      "tensor 't' of u32 is given Float32Array as data; it must be a Uint32Array",
    );
    expect(await refused('t', [2], { data: null })).toContain('is given null as data');
    engine.release(engine.tensor('rows', [0, 3], { data: new Float32Array(0) }));
    nothingLeaked();
  });

  it('given too much data', async () => {
    expect(await misuse(() => engine.tensor('t', [2], { data: new Float32Array(3) }))).toBe(
      "3 elements do not fit 't' [2]",
    );
    expect(await misuse(() => engine.write(x, new Float32Array(5)))).toBe("5 elements do not fit 'x' [4]");
    nothingLeaked();
  });

  it('viewed as more than it is', async () => {
    const m = engine.tensor('m', [2, 6]);
    const viewed = (body: (ctx: Context) => void) => misuse(() => eager(engine, async (ctx) => body(ctx)));
    expect(await viewed((ctx) => ctx.reshape(m, [2, 7]))).toBe("cannot view 'm' [2, 6] as [2, 7]");
    expect(await viewed((ctx) => ctx.prefix(m, 3))).toBe("cannot view 'm' [2, 6] as [3, 6]");
    expect(await misuse(() => columns(m, 4, 3))).toBe("cannot take columns 4..7 of 'm' [2, 6]");
    const view = columns(m, 2, 2);
    expect(await misuse(() => columns(view, 0, 1))).toBe("cannot take columns 0..1 of 'm' [2, 2]");
    expect(await misuse(() => engine.read(view))).toBe(
      "'m' is a view of some columns of a matrix and cannot be read by itself",
    );
    expect(await misuse(() => engine.write(view, new Float32Array(4)))).toMatch(/cannot be written by itself/);
    engine.release(m);
    nothingLeaked();
  });

  it('sliced where it cannot be bound, or beyond its end', async () => {
    const m = engine.tensor('m', [200]);
    expect(await misuse(() => engine.slice(m, 63, 's', [4]))).toBe(
      "slice 's' starts at element 63, not a multiple of 64",
    );
    expect(await misuse(() => engine.slice(m, 128, 's', [100]))).toBe("slice 's' ends outside 'm'");
    expect((await engine.read(engine.slice(m, 128, 's', [72]))).length).toBe(72);
    engine.release(m);
  });

  it('read, written or made on an engine that has been disposed', async () => {
    const own = await testEngine();
    const t = own.tensor('t', [2]);
    own.dispose();
    expect(await misuse(() => own.write(t, new Float32Array(2)))).toBe('this engine has been disposed');
    expect(await misuse(() => own.tensor('t', [2]))).toBe('this engine has been disposed');
    expect(own.memory.report().live).toBe(0);
    expect(await misuse(() => own.read(t))).toBe('this engine has been disposed');
    expect(await misuse(() => own.check())).toBe('this engine has been disposed');
  });
});

it('writing and reading what is no tensor, or other data than its own', async () => {
  for (const wrong of [undefined, null, {}, 'x'] as unknown as Tensor[]) {
    expect(() => engine.write(wrong, new Float32Array(4))).toThrow(UsageError);
    await expect(engine.read(wrong)).rejects.toBeInstanceOf(UsageError);
  }
  for (const wrong of [[1, 2, 3, 4], undefined, new Float64Array(2), new Uint8Array(4)] as unknown as Float32Array[]) {
    expect(() => engine.write(x, wrong)).toThrow(/^tensor 'x' of f32 is given .* as data; it must be a Float32Array$/);
  }
  expect([...(await engine.read(x))]).toEqual([1, 2, 3, 4]);
});

it('a memory limit that is no size', () => {
  for (const nothing of [Number.NaN, -1, '1e9' as never]) {
    expect(() => {
      engine.memory.limit = nothing;
    }).toThrow(/^the memory limit is to be /);
  }
  expect(engine.memory.limit).toBe(Number.POSITIVE_INFINITY);
});
