/**
 * What the contract test cannot express: random bits, several optimiser steps, in-place scattering, side outputs, and
 * recorded programs whose number of rows is given at replay, down to none.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Context } from '../../engine/context.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { normals, philox, uniforms } from '../../engine/philox.ts';
import { type CompileOptions, Program, record } from '../../engine/program.ts';
import { type Scalar, scalarInput } from '../../engine/scalar.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { adamw } from '../../kernels/adamw.ts';
import { checkLabels, crossEntropy } from '../../kernels/cross-entropy.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { euler } from '../../kernels/flow.ts';
import { flowInterpolate } from '../../kernels/flow-training.ts';
import { gatherRows } from '../../kernels/gather.ts';
import { matmul } from '../../kernels/matmul/sliced.ts';
import { mse, mseSeed } from '../../kernels/mse.ts';
import { patchify, unpatchify } from '../../kernels/patches.ts';
import { dropout } from '../../kernels/random/dropout.ts';
import { randomNormal, randomUniform } from '../../kernels/random/random.ts';
import { columnSum, countNonFinite, sumSquares } from '../../kernels/reduce.ts';
import { scatterRows } from '../../kernels/scatter.ts';
import { sinusoid } from '../../kernels/sinusoid.ts';
import { testEngine } from '../support/engine.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const f32 = (label: string, shape: [number, ...number[]], data?: ArrayLike<number>) =>
  engine.tensor(label, shape, data ? { data: Float32Array.from(data) } : {});
const u32 = (label: string, data: number[]) =>
  engine.tensor(label, [data.length], { dtype: 'u32', data: Uint32Array.from(data) });
const range = (n: number, f: (i: number) => number = (i) => i) => Array.from({ length: n }, (_, i) => f(i));
const values = (ts: Float32Array[]) => ts.map((t) => [...t]);

/** Records `body`, which returns the tensors to read, and compiles it. */
async function program(body: (ctx: Context) => Tensor[], options: CompileOptions = {}) {
  const { recording, result } = record(engine, 'test', (ctx, keep) => {
    const outputs = body(ctx);
    for (const t of outputs) keep(t);
    return outputs;
  });
  const compiled = await Program.compile(engine, recording, options);
  return {
    async run(scalars: Record<string, number> = {}) {
      compiled.run(scalars);
      return values(await compiled.read(...result));
    },
    dispose: () => compiled.dispose(),
  };
}

describe('products of one row a sample', () => {
  // Optimised, as they are here: a compiler may contract the one and not the other.
  it.each([44, 68, 512])('by low tiles of CPU drivers have the bits of tall ones: %i columns', async (n) => {
    const [few, many, k] = [3, 70, 36];
    const normal = normals({ seed: 5, stream: 0, step: 0 }, (many + n) * k);
    const a = f32('a', [many, k], normal.subarray(0, many * k));
    const b = f32('b', [k, n], normal.subarray(many * k));
    const { recording, result } = record(engine, 'few', (ctx, keep) =>
      [few, many].map((rows) => {
        const y = ctx.empty('y', [rows, n]);
        matmul(ctx, { M: rows, N: n, K: k, a: { ...a, shape: [rows, k] }, b, c: y });
        keep(y);
        return y;
      }),
    );
    const heights = recording.nodes.map(({ dispatch }) => dispatch.constants?.HEIGHT);
    if (engine.adapterClass === 'lavapipe') expect(heights).toEqual([1, 4]);
    if (engine.adapterClass === 'swiftshader') expect(heights).toEqual([2, n < 512 ? 4 : 8]);
    const program = await Program.compile(engine, recording);
    program.run();
    const [low, tall] = (await program.read(...result)) as [Float32Array, Float32Array];
    expect(tall.some((v) => v !== 0)).toBe(true);
    expect([...low]).toEqual([...tall.subarray(0, few * n)]);
    program.dispose();
  });
});

describe('random', () => {
  const seed = 0xdeadbeef;
  const stream = 0xffffffff;

  it('uniforms equal the CPU generator bit for bit, the step given at replay', async () => {
    const step = scalarInput('step');
    const p = await program((ctx) => [randomUniform(ctx, [3, 1001], { seed, stream, step })]);
    for (const at of [0, 4_000_000_000]) {
      const [u] = await p.run({ step: at });
      expect(u!.slice(0, 1001)).toEqual([...uniforms({ seed, stream, step: at }, 1001)]);
      const last = philox([250, 2, at, 0], [seed, stream])[0];
      expect(u![3 * 1001 - 1]).toBe((last >>> 8) / 2 ** 24);
    }
    p.dispose();
  });

  it('normals agree with the CPU generator within 1e-6', async () => {
    const n = 40_000;
    const [z] = await eager(engine, async (ctx) =>
      values(await engine.readAll([randomNormal(ctx, [1, n], { seed, stream, step: 3 })])),
    );
    const want = normals({ seed, stream, step: 3 }, n);
    expect(Math.max(...z!.map((x, i) => Math.abs(x - want[i]!)))).toBeLessThan(1e-6);
  });

  it('give a sample the same numbers in any batch', async () => {
    const from = { seed, stream, step: 1 };
    const [all, picked] = await eager(engine, async (ctx) =>
      values(
        await engine.readAll([
          randomNormal(ctx, [6, 5, 2], from),
          randomNormal(ctx, [2, 10], { ...from, indices: u32('samples', [4, 1]) }),
        ]),
      ),
    );
    expect(picked).toEqual([...all!.slice(40, 50), ...all!.slice(10, 20)]);
  });
});

describe('adamw', () => {
  it('follows a float64 loop over several steps, rate and count given at replay', async () => {
    const n = 301;
    const at = (k: number) => range(n, (i) => Math.fround(Math.sin(i * 1.7 + k)));
    const [params, m, v, ema] = [f32('p', [n], at(0)), f32('m', [n]), f32('v', [n]), f32('ema', [n], at(0))];
    const gradient = f32('g', [n]);
    const p = await program((ctx) => {
      const options = { lr: scalarInput('lr'), count: scalarInput('count'), gradientScale: scalarInput('scale') };
      adamw(ctx, { params, gradient, m, v, ema }, options);
      return [];
    });
    const want = { p: at(0), m: range(n, () => 0), v: range(n, () => 0), ema: at(0) };
    for (let count = 1; count <= 12; count++) {
      const g = at(count);
      const lr = count === 1 ? 0 : 0.01 / count;
      engine.write(gradient, Float32Array.from(g));
      await p.run({ lr, count, scale: 0.25 });
      for (let i = 0; i < n; i++) {
        want.m[i] = 0.9 * want.m[i]! + 0.1 * 0.25 * g[i]!;
        want.v[i] = 0.999 * want.v[i]! + 0.001 * (0.25 * g[i]!) ** 2;
        const mhat = want.m[i]! / (1 - 0.9 ** count);
        const vhat = want.v[i]! / (1 - 0.999 ** count);
        want.p[i] = want.p[i]! - lr * (mhat / (Math.sqrt(vhat) + 1e-8) + 0.1 * want.p[i]!);
        want.ema[i] = 0.999 * want.ema[i]! + 0.001 * want.p[i]!;
      }
    }
    const got = await engine.readAll([params, m, v, ema]);
    const worst = [want.p, want.m, want.v, want.ema].map((w, k) =>
      Math.max(...w.map((x, i) => Math.abs(x - got[k]![i]!))),
    );
    for (const error of worst) expect(error).toBeLessThan(1e-6);
    // The average has moved, but less than the parameters.
    expect(want.p.some((x, i) => Math.abs(x - want.ema[i]!) > 1e-3)).toBe(true);
    p.dispose();
  });

  it('averages over more updates than float32 has room for in what each of them adds: no bias', async () => {
    const [n, emaDecay] = [64, 0.9999];
    const start = Float32Array.from({ length: n }, (_, i) => (0.5 + i / n) * (i % 2 ? 1 : -1));
    const ones = range(n, () => 1);
    const [params, ema] = [f32('p', [n], [...start]), f32('ema', [n], [...start])];
    const [gradient, m, v] = [f32('g', [n], ones), f32('m', [n], ones), f32('v', [n], ones)];
    // Of a gradient that has always been 1 a step is the rate itself: parameters wander by a few per cent, and come back.
    const rates = Array.from({ length: 128 }, (_, k) => Math.fround(0.02 * Math.sin(1.3 * k * k)));
    rates.push(...rates.map((rate) => -rate));
    const p = await program((ctx) => {
      for (const lr of rates) adamw(ctx, { params, gradient, m, v, ema }, { lr, count: 1e6, decay: 0, emaDecay });
      return [];
    });
    const want = { p: [...start], ema: [...start] };
    for (let replay = 0; replay < 40; replay++) {
      await p.run();
      for (const lr of rates) {
        for (let i = 0; i < n; i++) {
          want.p[i]! -= lr;
          want.ema[i]! += (1 - emaDecay) * (want.p[i]! - want.ema[i]!);
        }
      }
    }
    const [got] = await engine.readAll([ema]);
    const bias = want.ema.reduce((sum, x, i) => sum + (got![i]! / x - 1) / n, 0);
    expect(Math.abs(bias)).toBeLessThan(2e-5);
    p.dispose();
  });
});

describe('scatterRows', () => {
  it('writes the rows named by the leading indices, in place, and no others', async () => {
    const target = f32('target', [5, 2, 2]);
    const source = f32(
      'source',
      [3, 4],
      range(12, (i) => i + 1),
    );
    const all = u32('rows', [3, 0, 9]);
    const p = await program((ctx) => {
      scatterRows(ctx, target, source, ctx.prefix(all, scalarInput('count', 3)));
      return [];
    });
    const read = async () => [...(await engine.read(target))];
    await p.run({ count: 0 });
    expect(await read()).toEqual(range(20, () => 0));
    await p.run({ count: 1 });
    expect(await read()).toEqual([...range(12, () => 0), 1, 2, 3, 4, ...range(4, () => 0)]);
    await p.run({ count: 3 });
    expect(await read()).toEqual([5, 6, 7, 8, ...range(8, () => 0), 1, 2, 3, 4, ...range(4, () => 0)]);
    p.dispose();
  });
});

describe('mse', () => {
  it('reports the mean of each sample and seeds a backward pass by itself', async () => {
    const [a, b] = [f32('a', [2, 3], [1, 2, 3, 4, 5, 6]), f32('b', [2, 3], [1, 1, 1, 1, 1, 1])];
    const [loss, perSample, seed] = await eager(engine, async (ctx) => {
      const both = mse(ctx, a, b);
      return values(await engine.readAll([both.loss, both.perSample, mseSeed(ctx, a, b, 3)]));
    });
    expect(perSample![0]).toBeCloseTo(5 / 3, 5);
    expect(perSample![1]).toBeCloseTo(50 / 3, 5);
    expect(loss![0]).toBeCloseTo(55 / 6, 5);
    expect(seed).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe('crossEntropy', () => {
  it('reports the loss of each sample, of as many rows as there are at replay, down to none', async () => {
    const scores = [0, Math.log(3), 5, 5, -1000, 1000];
    const want = [Math.log(4), Math.log(2), 2000];
    const [x, labels] = [f32('scores', [3, 2], scores), u32('labels', [0, 1, 0])];
    for (const team of [1, 8] as const) {
      const p = await program((ctx) => {
        const rows: Scalar = scalarInput('rows', 3);
        const { loss, perSample } = crossEntropy(ctx, ctx.prefix(x, rows), ctx.prefix(labels, rows), { team });
        return [loss, perSample];
      });
      for (const rows of [3, 1, 0]) {
        const [loss, perSample] = await p.run({ rows });
        for (let i = 0; i < rows; i++) expect(perSample![i]! / want[i]!).toBeCloseTo(1, 5);
        const mean = rows === 0 ? 0 : want.slice(0, rows).reduce((a, b) => a + b) / rows;
        expect(loss![0]).toBeCloseTo(mean, 3);
      }
      p.dispose();
    }
  });

  it('refuses labels of no class where they are given, and what are no scores or labels', async () => {
    expect(() => checkLabels([0, 9, 10], 10)).toThrow('label 2 is 10; there are classes 0 to 9');
    expect(() => checkLabels([0.5], 10)).toThrow('label 0 is 0.5');
    expect(() => checkLabels([-1], 10)).toThrow('label 0 is -1');
    expect(() => checkLabels(Uint32Array.of(9), 10)).not.toThrow();
    const [x, labels] = [f32('scores', [3, 2]), u32('labels', [0, 1, 0])];
    const message = /cross-entropy of scores \[3, 2\] and labels \[\d\] of [uf]32: they must be/;
    await eager(engine, async (ctx) => {
      expect(() => crossEntropy(ctx, x, u32('few', [0, 1]))).toThrow(message);
      expect(() => crossEntropy(ctx, x, f32('labels', [3]))).toThrow(message);
      expect(() => crossEntropy(ctx, labels, labels)).toThrow(/they must be \[B, classes\]/);
    });
  });
});

describe('countNonFinite', () => {
  it('counts by bits over several levels', async () => {
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, 3.4e38, Number.NEGATIVE_INFINITY, 1e-45, -0];
    const count = async (x: Tensor) => [...(await eager(engine, (ctx) => engine.readU32(countNonFinite(ctx, x))))];
    expect(await count(f32('odd', [6], odd))).toEqual([3]);
    expect(
      await count(
        f32(
          'many',
          [70_000],
          range(70_000, (i) => odd[i % 6]!),
        ),
      ),
    ).toEqual([35_001]);
    expect(await count(f32('none', [300]))).toEqual([0]);
  });
});

describe('rows given at replay', () => {
  const MAX = 100;
  const WIDTH = 6;
  const rows: Scalar = scalarInput('rows', MAX);

  it('limit every operation, down to none', async () => {
    const data = range(MAX * WIDTH, (i) => ((i * 37) % 101) / 8 - 6);
    const x = f32('x', [MAX, WIDTH], data);
    const y = f32('y', [MAX, WIDTH]);
    const t = f32(
      't',
      [MAX],
      range(MAX, (i) => i / MAX),
    );
    const indices = u32(
      'i',
      range(MAX, (i) => (7 * i) % 5),
    );
    const state = f32('state', [MAX, WIDTH]);
    // Separate memory, so that nothing else of the program is in the rows that a run does not reach.
    const p = await program(
      (ctx) => {
        const [xs, ys] = [ctx.prefix(x, rows), ctx.prefix(y, rows)];
        const images = ctx.reshape(xs, [rows, 2, 1, 3]);
        euler(ctx, state, xs, 1);
        return [
          columnSum(ctx, xs),
          sumSquares(ctx, xs),
          mse(ctx, xs, ys).loss,
          gatherRows(ctx, x, ctx.prefix(indices, rows)),
          unpatchify(ctx, patchify(ctx, images, 1), 1, 2),
          sinusoid(ctx, ctx.prefix(t, rows)),
          flowInterpolate(ctx, xs, ys, ctx.prefix(t, rows)).xt,
          dropout(ctx, xs, 0.5, { seed: 1, stream: 2, step: 3 }),
          randomUniform(ctx, [rows, WIDTH], { seed: 1, stream: 2, step: 3 }),
        ];
      },
      { separate: true },
    );
    // Growing, so that what a run must not reach is still zero.
    for (const n of [0, 1, 67, MAX]) {
      engine.write(state, new Float32Array(MAX * WIDTH));
      const [sum, squares, loss, gathered, images, features, xt, dropped, random] = await p.run({ rows: n });
      const part = data.slice(0, n * WIDTH);
      const square = part.reduce((s, v) => s + v * v, 0);
      for (let c = 0; c < WIDTH; c++) {
        expect(sum![c]).toBeCloseTo(
          part.filter((_, i) => i % WIDTH === c).reduce((s, v) => s + v, 0),
          2,
        );
      }
      expect(squares![0]).toBeCloseTo(square, 1);
      expect(loss![0]).toBeCloseTo(n === 0 ? 0 : square / part.length, 3);
      const want = [
        part.map((_, i) => data[((7 * Math.floor(i / WIDTH)) % 5) * WIDTH + (i % WIDTH)]!),
        part,
        // Only the first column; NaN passes.
        range(n * 256, (i) => (i % 256 < 1 ? Math.cos(Math.floor(i / 256) / MAX) : Number.NaN)),
        part.map((v, i) => (1 - Math.floor(i / WIDTH) / MAX) * v),
        part.map((v, i) => (uniforms({ seed: 1, stream: 2, step: 3 }, 1, i)[0]! < 0.5 ? 0 : 2 * v)),
      ];
      [gathered, images, features, xt, dropped].forEach((got, k) => {
        const wrong = want[k]!.findIndex((w, i) => Math.abs(w - got![i]!) > 1e-5);
        expect(wrong, `output ${k} with ${n} rows`).toBe(-1);
        expect(
          got!.slice(want[k]!.length).every((v) => v === 0),
          `output ${k} beyond ${n} rows`,
        ).toBe(true);
      });
      expect(random!.slice(n * WIDTH).every((v) => v === 0)).toBe(true);
      expect(random!.slice(0, n * WIDTH).filter((v) => v === 0)).toEqual([]);
      expect([...(await engine.read(state))]).toEqual([...part, ...range((MAX - n) * WIDTH, () => 0)]);
    }
    p.dispose();
  });

  it('limit the gradient of a table', async () => {
    const table = f32('table', [5, 2], range(10));
    const gradient = f32('d(table)', [5, 2]);
    const indices = u32('i', [3, 0, 3, 3]);
    const weights = f32('w', [4, 2], [1, 2, 3, 4, 10, 20, 100, 200]);
    const p = await program((ctx) => {
      const count = scalarInput('count', 4);
      const tape = createTape();
      tape.watch(table, gradient);
      ctx.tape = tape;
      const picked = gatherRows(ctx, table, ctx.prefix(indices, count));
      tape.backward(ctx, [[picked, ctx.prefix(weights, count)]]);
      return [];
    });
    for (const [count, row0, row3] of [
      [4, [3, 4], [111, 222]],
      [3, [3, 4], [11, 22]],
      [1, [0, 0], [1, 2]],
      [0, [0, 0], [0, 0]],
    ] as const) {
      engine.write(gradient, new Float32Array(10).fill(Number.NaN));
      await p.run({ count });
      expect([...(await engine.read(gradient))]).toEqual([...row0, 0, 0, 0, 0, ...row3, 0, 0]);
    }
    p.dispose();
  });
});
