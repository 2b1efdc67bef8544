/** Gradients of composed functions against central differences of the same composition in float64. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Context } from '../../engine/context.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { UsageError } from '../../engine/errors.ts';
import { Tape } from '../../engine/tape.ts';
import { maxSize, type Tensor } from '../../engine/tensor.ts';
import { add, addGradients } from '../../kernels/add.ts';
import { chunk } from '../../kernels/chunk.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { silu } from '../../kernels/elementwise.ts';
import { mul } from '../../kernels/mul.ts';
import { type Arrays, block, blockReference, blockShapes, randomArrays } from '../support/block.ts';
import { testEngine } from '../support/engine.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

type Shapes = Record<string, [number, ...number[]]>;
interface Composition {
  readonly shapes: Shapes;
  /** Outputs, some tensors of it may be the inputs themselves. */
  readonly run: (ctx: Context, x: Record<string, Tensor>) => Tensor;
  readonly reference: (x: Arrays) => Float64Array;
  /** Relative to the gradient's root mean square plus its own size. */
  readonly tolerance: number;
  /** Leaves to watch; default: all. */
  readonly watched?: readonly string[];
}

/** Values, gradients (elements the tape did not write stay NaN) and the cotangent of the output. */
async function differentiate(
  { shapes, run, watched = Object.keys(shapes) }: Composition,
  arrays: Arrays,
  cotangent: Float64Array,
) {
  const make = (name: string, data: ArrayLike<number>) =>
    engine.tensor(name, shapes[name]!, { data: Float32Array.from(data) });
  const inputs = Object.fromEntries(Object.keys(shapes).map((name) => [name, make(name, arrays[name]!)]));
  const gradients = Object.fromEntries(
    watched.map((name) => [name, make(name, new Float32Array(maxSize(inputs[name]!)).fill(Number.NaN))]),
  );
  const values = await eager(engine, async (ctx) => {
    const tape = createTape();
    for (const name of watched) tape.watch(inputs[name]!, gradients[name]!);
    ctx.tape = tape;
    const y = run(ctx, inputs);
    const seed = engine.tensor('seed', y.shape, { data: Float32Array.from(cotangent) });
    tape.backward(ctx, [[y, seed]]);
    return engine.read(y);
  });
  const found: Record<string, Float32Array> = {};
  for (const [name, g] of Object.entries(gradients)) found[name] = await engine.read(g);
  for (const t of [...Object.values(inputs), ...Object.values(gradients)]) engine.release(t);
  return { values, gradients: found };
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** Fourth-order central difference of `f` at 0. */
const slope = (f: (h: number) => number, h = 1e-3) => (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);

function close(name: string, got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number) {
  const scale = Math.sqrt(dot(want, want) / want.length);
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (scale + Math.abs(want[i]!));
    if (!(error <= tolerance)) expect.fail(`${name}[${i}]: got ${got[i]}, want ${want[i]} (relative error ${error})`);
  }
}

/** Forward and every gradient (24 elements of each) against float64. */
async function check(c: Composition) {
  const arrays = randomArrays(c.shapes, 31);
  const want = c.reference(arrays);
  const cotangent = randomArrays({ y: [want.length] }, 32, 1).y!;
  const { values, gradients } = await differentiate(c, arrays, cotangent);
  close('y', values, want, c.tolerance);
  for (const [name, got] of Object.entries(gradients)) {
    expect(got.every(Number.isFinite), `every element of d(${name}) is written`).toBe(true);
    const picks = Array.from({ length: Math.min(24, got.length) }, (_, j) =>
      Math.floor((j * got.length) / Math.min(24, got.length)),
    );
    const expected = picks.map((i) =>
      slope((h) => {
        const moved = Float64Array.from(arrays[name]!);
        moved[i]! += h;
        return dot(c.reference({ ...arrays, [name]: moved }), cotangent);
      }),
    );
    close(
      `d(${name})`,
      picks.map((i) => got[i]!),
      expected,
      c.tolerance,
    );
  }
}

const siluOf = (x: Float64Array) => x.map((v) => v / (1 + Math.exp(-v)));
const size = { batch: 3, tokens: 5, width: 8, heads: 2 };
const rowsOf = (x: Float64Array, rows: number, of: number) => x.subarray(0, (x.length / of) * rows);

const compositions: Record<string, Composition> = {
  'fan-out: x used three times, once by two inputs of one operation': {
    shapes: { x: [3, 8], w: [3, 8] },
    run: (ctx, { x, w }) => add(ctx, mul(ctx, silu(ctx, x!), x!), add(ctx, w!, mul(ctx, x!, x!))),
    reference: ({ x, w }) => siluOf(x!).map((s, i) => s * x![i]! + w![i]! + x![i]! ** 2),
    tolerance: 2e-6,
  },
  'a leaf that is its own sum: add(x, x)': {
    shapes: { x: [3, 8] },
    run: (ctx, { x }) => add(ctx, x!, x!),
    reference: ({ x }) => x!.map((v) => 2 * v),
    tolerance: 1e-6,
  },
  'prefix: gradients with missing rows, alone': {
    shapes: { x: [5, 4] },
    run: (ctx, { x }) => silu(ctx, ctx.prefix(x!, 2)),
    reference: ({ x }) => siluOf(rowsOf(x!, 2, 5)),
    tolerance: 2e-6,
  },
  'prefix: gradients with missing rows, added to whole ones and to shorter ones': {
    shapes: { x: [5, 4], z: [5, 4] },
    run(ctx, { x, z }) {
      const y = mul(ctx, x!, z!);
      const some = silu(ctx, ctx.prefix(y, 3));
      const few = mul(ctx, ctx.prefix(some, 1), ctx.prefix(y, 1));
      return add(ctx, add(ctx, y, some), few);
    },
    reference({ x, z }) {
      const y = x!.map((v, i) => v * z![i]!);
      const some = siluOf(rowsOf(y, 3, 5));
      return y.map((v, i) => v + (some[i] ?? 0) + (i < 4 ? some[i]! * y[i]! : 0));
    },
    tolerance: 4e-6,
  },
  'prefix of no rows: the gradient is zero, not absent': {
    shapes: { x: [3, 4] },
    run: (ctx, { x }) => add(ctx, x!, silu(ctx, ctx.prefix(x!, 0))),
    reference: ({ x }) => x!,
    tolerance: 1e-6,
  },
  'reshape passes gradients on': {
    shapes: { x: [6, 4] },
    run: (ctx, { x }) => mul(ctx, ctx.reshape(silu(ctx, ctx.reshape(x!, [2, 12])), [6, 4]), x!),
    reference: ({ x }) => siluOf(x!).map((s, i) => s * x![i]!),
    tolerance: 2e-6,
  },
  'a block: chunk, layer norm, attention, gated residual': {
    shapes: { x: [3, 5, 8], c: [3, 8], ...blockShapes(size) },
    run: (ctx, x) => block(ctx, x.x!, x.c!, x, size),
    reference: (x) => blockReference(x.x!, x.c!, x, size),
    tolerance: 2e-5,
  },
  'two blocks that share weights, the second on fewer samples': {
    shapes: { x: [3, 5, 8], c: [3, 8], ...blockShapes(size) },
    run(ctx, x) {
      const y = block(ctx, x.x!, x.c!, x, size);
      return add(ctx, y, block(ctx, ctx.prefix(y, 2), ctx.prefix(x.c!, 2), x, size));
    },
    reference(x) {
      const y = blockReference(x.x!, x.c!, x, size);
      const more = blockReference(rowsOf(y, 2, 3), rowsOf(x.c!, 2, 3), x, size);
      return y.map((v, i) => v + (more[i] ?? 0));
    },
    tolerance: 4e-5,
  },
};

describe('every element against central differences', () => {
  for (const [name, composition] of Object.entries(compositions)) it(name, () => check(composition));
});

it('two blocks of their own weights: directional derivatives over all weights at once', async () => {
  const wide = { batch: 2, tokens: 9, width: 16, heads: 4 };
  const c: Composition = {
    shapes: { x: [2, 9, 16], c: [2, 16], ...blockShapes(wide, 'first.'), ...blockShapes(wide, 'second.') },
    run: (ctx, x) => block(ctx, block(ctx, x.x!, x.c!, x, wide, 'first.'), x.c!, x, wide, 'second.'),
    reference: (x) => blockReference(blockReference(x.x!, x.c!, x, wide, 'first.'), x.c!, x, wide, 'second.'),
    tolerance: 1e-5,
  };
  const arrays = randomArrays(c.shapes, 41);
  const cotangent = randomArrays({ y: [2 * 9 * 16] }, 42, 1).y!;
  const { gradients } = await differentiate(c, arrays, cotangent);
  const norm = Math.sqrt(Object.values(gradients).reduce((s, g) => s + dot(g, g), 0));
  for (const seed of [51, 52, 53]) {
    const direction = randomArrays(c.shapes, seed, 1);
    const length = Math.sqrt(Object.values(direction).reduce((s, d) => s + dot(d, d), 0));
    const along = (h: number) => {
      const moved = Object.fromEntries(
        Object.entries(arrays).map(([name, v]) => [name, v.map((x, i) => x + (h * direction[name]![i]!) / length)]),
      );
      return dot(c.reference(moved), cotangent);
    };
    const got = Object.entries(gradients).reduce((s, [name, g]) => s + dot(g, direction[name]!), 0) / length;
    // A random direction sees a small part of the gradient, whose rounding errors it sees in full.
    expect(Math.abs(got - slope(along, 1e-2))).toBeLessThan(1e-5 * norm);
  }
});

describe('leaves', () => {
  it('one that nothing depends on keeps its gradient tensor; an unwatched one costs nothing', async () => {
    const shapes: Shapes = { x: [4], other: [4], constant: [4] };
    const arrays = randomArrays(shapes, 61);
    const c: Composition = {
      shapes,
      run: (ctx, { x, other, constant }) => {
        silu(ctx, other!);
        return mul(ctx, ctx.reshape(x!, [1, 4]), ctx.reshape(constant!, [1, 4]));
      },
      reference: ({ x }) => x!,
      tolerance: 0,
      watched: ['x', 'other'],
    };
    const { gradients } = await differentiate(c, arrays, Float64Array.of(1, 1, 1, 1));
    expect([...gradients.x!]).toEqual([...arrays.constant!]);
    expect([...gradients.other!]).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
  });

  it('a result may be watched as well: it gets the gradient that passes through it', async () => {
    const x = engine.tensor('x', [3], { data: Float32Array.of(1, 2, 3) });
    const [dx, dy] = [engine.tensor('dx', [3]), engine.tensor('dy', [3])];
    const seed = engine.tensor('seed', [3], { data: Float32Array.of(1, 10, 100) });
    await eager(engine, async (ctx) => {
      const tape = createTape();
      tape.watch(x, dx);
      ctx.tape = tape;
      const y = add(ctx, x, x);
      tape.watch(y, dy);
      tape.backward(ctx, [[add(ctx, y, add(ctx, y, y)), seed]]);
    });
    expect([...(await engine.read(dy))]).toEqual([3, 30, 300]);
    expect([...(await engine.read(dx))]).toEqual([6, 60, 600]);
  });

  it('a gradient tensor of another size is refused', () => {
    const tape = createTape();
    const make = (n: number) => engine.tensor('t', [n]);
    expect(() => tape.watch(make(4), make(5))).toThrow(UsageError);
  });

  it('seeds that are no gradients, or that depend on nothing watched, are refused', async () => {
    const [x, dx, seed] = ['x', 'dx', 'seed'].map((label) => engine.tensor(label, [2, 3])) as [Tensor, Tensor, Tensor];
    const narrow = engine.tensor('narrow', [2]);
    const long = engine.tensor('long', [3, 3]);
    await eager(engine, async (ctx) => {
      const untracked = add(ctx, x, x);
      const tape = createTape();
      tape.watch(x, dx);
      expect(() => tape.backward(ctx, [[untracked, seed]])).toThrow(/^nothing that is watched leads to 'add'$/);
      ctx.tape = tape;
      const y = add(ctx, x, x);
      for (const wrong of [narrow, long]) {
        const said = new RegExp(`^'${wrong.label}' .* is no gradient of '.*' \\[2, 3\\]$`);
        expect(() => tape.backward(ctx, [[y, wrong]])).toThrow(said);
      }
      tape.backward(ctx, [[y, seed]]);
    });
    for (const t of [x, dx, seed, narrow, long]) engine.release(t);
  });

  it('an operation whose derivative the tape does not know is refused, unless nobody wants its gradient', async () => {
    const x = engine.tensor('x', [1, 4], { data: Float32Array.of(1, 2, 3, 4) });
    const tape = new Tape(addGradients);
    await eager(engine, async (ctx) => {
      ctx.tape = tape;
      expect(chunk(ctx, x, 2).length).toBe(2);
      tape.watch(x, engine.tensor('dx', [1, 4]));
      const refusal = {
        message: "the tape knows no derivative of 'chunk'",
        hint: expect.stringContaining('createTape'),
      };
      expect(() => chunk(ctx, x, 2)).toThrow(expect.objectContaining(refusal));
    });
  });

  it('nothing recorded without a tape is differentiated', async () => {
    const x = engine.tensor('x', [2], { data: Float32Array.of(1, 2) });
    const dx = engine.tensor('dx', [2]);
    const seed = engine.tensor('seed', [2], { data: Float32Array.of(1, 1) });
    await eager(engine, async (ctx) => {
      const tape = createTape();
      tape.watch(x, dx);
      ctx.tape = tape;
      const frozen = ctx.withoutTape(() => silu(ctx, x));
      expect(ctx.tape).toBe(tape);
      tape.backward(ctx, [[add(ctx, x, frozen), seed]]);
    });
    expect([...(await engine.read(dx))]).toEqual([1, 1]);
  });
});
