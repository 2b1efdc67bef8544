/** Recorded programs: replay gives the bits of eager, allocates nothing, and shares memory safely. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Context } from '../../engine/context.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { LimitError, OutOfMemoryError, UsageError } from '../../engine/errors.ts';
import { defineKernel, workgroups } from '../../engine/kernel.ts';
import { Arena } from '../../engine/memory/arena.ts';
import { Program, record } from '../../engine/program.ts';
import { ceilDiv, type Scalar, scalarInput } from '../../engine/scalar.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { profile } from '../../engine/timed.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { silu } from '../../kernels/elementwise.ts';
import lib from '../../kernels/lib.wgsl';
import { mse } from '../../kernels/mse.ts';
import { velocity } from '../../model/dit.ts';
import { allSpecs } from '../../model/params.ts';
import { uploadModel } from '../../model/weights/residency.ts';
import { Weights } from '../../model/weights/weights.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { block, blockShapes, randomArrays } from '../support/block.ts';
import { testEngine } from '../support/engine.ts';
import { floats, range, rejection, siluProgram } from '../support/programs.ts';
import { bits, setBits, tinyModel, tinyStep } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

describe('a block with its backward pass', () => {
  const size = { batch: 3, tokens: 5, width: 16, heads: 2 };
  const shapes = { x: [3, 5, 16], c: [3, 16], ...blockShapes(size) } as Record<string, [number, ...number[]]>;

  it('replays with the bits of eager, with shared and with separate memory', async () => {
    const arrays = randomArrays(shapes, 11);
    const tensors = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, floats(engine, name, arrays[name]!, shape)]),
    );
    const gradients = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, engine.tensor(`d(${name})`, shape)]),
    );
    const seed = floats(engine, 'seed', randomArrays({ y: [3, 5, 16] }, 12).y!, [3, 5, 16]);
    const body = (ctx: Context) => {
      const tape = createTape();
      for (const name of Object.keys(shapes)) tape.watch(tensors[name]!, gradients[name]!);
      ctx.tape = tape;
      const y = block(ctx, tensors.x!, tensors.c!, tensors, size);
      tape.backward(ctx, [[y, seed]]);
      return y;
    };
    const clear = () => {
      for (const [name, g] of Object.entries(gradients))
        engine.write(g, new Float32Array(arrays[name]!.length).fill(Number.NaN));
    };
    const all = async (y: Tensor) => (await engine.readAll([y, ...Object.values(gradients)])).map(bits);

    clear();
    const want = await eager(engine, async (ctx) => all(body(ctx)));
    let pipelines = 0;
    for (const options of [{ separate: true }, {}]) {
      const { recording, result: y } = record(engine, 'block', (ctx, keep) => {
        const out = body(ctx);
        keep(out);
        return out;
      });
      const program = await Program.compile(engine, recording, options);
      // Wherever tensors lie the code is the same: a batch that takes another slab has the same bits on every driver.
      if (pipelines > 0) expect(engine.pipelines.size).toBe(pipelines);
      pipelines = engine.pipelines.size;
      for (let repeat = 0; repeat < 2; repeat++) {
        clear();
        program.run();
        expect(await all(y)).toEqual(want);
      }
      program.dispose();
    }
  });
});

describe('a training step', () => {
  it('gives the same bits packed, with separate memory, with memory full of NaN before the first run, and in many submissions', async () => {
    const results = [];
    const arena = new Arena(engine);
    for (const options of [{}, { separate: true }, { arena }]) {
      const tiny = await tinyStep(engine, options);
      if ('arena' in options) {
        expect(arena.bytes).toBe(tiny.step.program.plan.bytes);
        tiny.step.program.plan.slabs.forEach((bytes, i) => {
          engine.device.queue.writeBuffer(arena.slab(i), 0, new Float32Array(bytes / 4).fill(Number.NaN));
        });
      }
      const losses = await tiny.run(0, 3);
      results.push({ losses, sets: setBits(await tiny.read()) });
      tiny.step.dispose();
    }
    arena.dispose();
    const usual = engine.submissionBudget;
    engine.submissionBudget = 1e-9;
    try {
      const tiny = await tinyStep(engine);
      const { dispatches } = tiny.step.program;
      const made: number[] = [];
      const losses = [];
      for (let i = 0; i < 3; i++) {
        const before = engine.counters.submits;
        losses.push(...(await tiny.run(i, i + 1)));
        await engine.idle();
        made.push(engine.counters.submits - before);
      }
      // Sixteen dispatches each while nothing is known, then one each of those that have work to do.
      expect(made[0]).toBe(Math.ceil(dispatches / 16));
      expect(made[2]).toBeGreaterThan(dispatches / 2);
      results.push({ losses, sets: setBits(await tiny.read()) });
      tiny.step.dispose();
    } finally {
      engine.submissionBudget = usual;
    }
    expect(results[0]!.losses.every(({ loss, gradNorm }) => loss > 0 && gradNorm > 0)).toBe(true);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
    expect(results[3]).toEqual(results[0]);
  });

  it('allocates nothing and makes no bind group in a hundred updates', async () => {
    // Whole, so that submissions can be counted: a slow machine would part them.
    const usual = engine.submissionBudget;
    engine.submissionBudget = Number.POSITIVE_INFINITY;
    const tiny = await tinyStep(engine).finally(() => {
      engine.submissionBudget = usual;
    });
    await tiny.run(0, 2);
    const before = {
      ...engine.memory.report(),
      bindGroups: engine.counters.bindGroups,
      pipelines: engine.pipelines.size,
    };
    const submits = engine.counters.submits;
    await tiny.run(2, 102);
    expect({
      ...engine.memory.report(),
      bindGroups: engine.counters.bindGroups,
      pipelines: engine.pipelines.size,
    }).toEqual(before);
    expect(engine.counters.submits - submits).toBe(100);
    tiny.step.dispose();
  });
});

describe('symbolic rows', () => {
  it('every number of rows gives what a recording with that number gives, forward and backward, down to none', async () => {
    const B = 4;
    const config = tinyModel;
    const model = uploadModel(engine, config, formulaParams(config, 2));
    const gradients = new Weights(engine, model.weights.layout, 'gradients', { kind: 'gradients' });
    const image: [number, ...number[]] = [B, 8, 8, 1];
    const noise = randomArrays({ x: image, goal: image }, 4, 1);
    const [x, goal] = [floats(engine, 'x', noise.x!, image), floats(engine, 'goal', noise.goal!, image)];
    const [t, step, one] = [
      floats(engine, 't', [0, 0.25, 0.5, 0.75]),
      floats(engine, 'step', [0, 1, 2, 7]),
      floats(engine, 'one', [1]),
    ];
    const labels = engine.tensor('labels', [B], { dtype: 'u32', data: Uint32Array.of(0, 1, 2, 3) });
    const lengths = engine.tensor('lengths', [B], { dtype: 'u32' });
    const compile = async (rows: Scalar) => {
      const { recording, result } = record(engine, 'network', (ctx, keep) => {
        const tape = createTape();
        for (const { name } of allSpecs(model.weights.layout)) tape.watch(model.weights.get(name), gradients.get(name));
        ctx.tape = tape;
        const v = velocity(ctx, model, { x, t, step, labels }, { lengths, rows: [B, rows] });
        const { loss } = mse(ctx, v, goal);
        tape.backward(ctx, [[loss, one]]);
        keep(v);
        keep(loss);
        return [v, loss];
      });
      const program = await Program.compile(engine, recording);
      return async (values: Record<string, number>, count: number) => {
        engine.write(
          lengths,
          Uint32Array.from({ length: B }, (_, r) => (r < count ? 4 : 2)),
        );
        for (const g of gradients.parts) engine.write(g, new Float32Array(g.shape[0] as number));
        const dispatched = engine.counters.dispatches;
        program.run(values);
        const out = [...(await program.read(...result)), ...(await gradients.read()).groups];
        expect(out.every((values) => values.every(Number.isFinite))).toBe(true);
        return { out: out.map(bits), dispatches: engine.counters.dispatches - dispatched };
      };
    };
    const symbolic = await compile(scalarInput('rows', B));
    const seen = new Set<string>();
    const dispatches = [];
    for (const rows of [B, 0, 1, 3]) {
      const got = await symbolic({ rows }, rows);
      const fresh = await (await compile(rows))({}, rows);
      expect(got.out, `${rows} rows`).toEqual(fresh.out);
      seen.add(got.out[0]!);
      dispatches.push(got.dispatches);
    }
    expect(seen.size, 'the number of rows matters').toBe(4);
    expect(dispatches[1], 'no rows, less work').toBeLessThan(dispatches[0]!);
    expect(dispatches.slice(2)).toEqual([dispatches[0], dispatches[0]]);
  });
});

describe('a shared arena', () => {
  it('grows for the larger program, re-binds the smaller, and refuses stale outputs', async () => {
    const arena = new Arena(engine);
    const small = floats(engine, 'small', range(100));
    const large = floats(
      engine,
      'large',
      range(5000, (i) => i / 100),
    );
    const a = await siluProgram(engine, small, 2, { arena });
    a.program.run();
    const first = bits((await a.program.read(a.y))[0]!);
    const bytes = arena.bytes;
    const b = await siluProgram(engine, large, 3, { arena });
    expect(arena.bytes).toBeGreaterThan(bytes);
    await expect(a.program.read(a.y)).rejects.toThrow(/'silu2' has no outputs in memory/);

    const groups = engine.counters.bindGroups;
    a.program.run();
    expect(bits((await a.program.read(a.y))[0]!)).toBe(first);
    expect(engine.counters.bindGroups - groups).toBe(2);
    b.program.run();
    await expect(a.program.read(a.y)).rejects.toThrow(UsageError);
    const [want] = await await siluProgramValues(large, 3);
    expect(bits((await b.program.read(b.y))[0]!)).toBe(bits(want!));
    const live = engine.memory.report();
    for (let i = 0; i < 10; i++) {
      a.program.run();
      b.program.run();
    }
    await expect(a.program.read(a.y)).rejects.toThrow(UsageError);
    expect(engine.memory.report().created).toBe(live.created);
    a.program.dispose();
    expect(bits((await b.program.read(b.y))[0]!)).toBe(bits(want!));
    b.program.dispose();
    arena.dispose();
  });

  async function siluProgramValues(x: Tensor, times: number) {
    const { program, y } = await siluProgram(engine, x, times);
    program.run();
    const values = await program.read(y);
    program.dispose();
    return values;
  }

  it('a run that fails leaves the other program its outputs', async () => {
    const arena = new Arena(engine);
    const a = await siluProgram(engine, floats(engine, 'x', range(64)), 1, { arena });
    const rows = scalarInput('rows', 64);
    const { recording, result } = record(engine, 'rows', (ctx, keep) => {
      const y = silu(ctx, ctx.prefix(floats(engine, 'z', range(64)), rows));
      keep(y);
      return y;
    });
    const b = await Program.compile(engine, recording, { arena });
    a.program.run();
    expect(() => b.run({})).toThrow(/scalar 'rows' was not given/);
    expect((await a.program.read(a.y))[0]!.length).toBe(64);
    await expect(b.read(result)).rejects.toThrow(UsageError);
    for (const program of [a.program, b]) program.dispose();
    arena.dispose();
  });

  it('a program that does not fit leaves the others as they were', async () => {
    const arena = new Arena(engine);
    const a = await siluProgram(engine, floats(engine, 'x', range(64)), 2, { arena });
    a.program.run();
    const want = bits((await a.program.read(a.y))[0]!);
    const big = engine.tensor('big', [100_000]);
    const { live, buffers } = engine.memory.report();
    engine.memory.limit = live + 1000;
    const error = await rejection(siluProgram(engine, big, 2, { arena }), OutOfMemoryError);
    engine.memory.limit = Number.POSITIVE_INFINITY;
    expect(error.message).toMatch(/^buffer 'activations\/slab0' needs 800256 bytes with \d+ live; the limit is \d+$/);
    expect(engine.memory.report()).toMatchObject({ live, buffers });
    a.program.run();
    expect(bits((await a.program.read(a.y))[0]!)).toBe(want);
    a.program.dispose();
    arena.dispose();
  });
});

describe('grids beyond 65,535 workgroups', () => {
  const fill = defineKernel(
    'fill',
    lib,
    `
struct Params { size: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, 1u);
  if (i < params.size) { y[i] = f32(i) + 1.0; }
}`,
  );

  it('fold into two dimensions that cover the count and little more', () => {
    for (const count of [0, 1, 65_535, 65_536, 65_537, 131_070, 131_071, 1e6, 65_535 ** 2 - 1]) {
      const [x, y, z] = workgroups([count], 65_535, 'k');
      expect(z).toBe(1);
      expect(x).toBeLessThanOrEqual(65_535);
      expect(y).toBeLessThanOrEqual(65_535);
      expect(x * y).toBeGreaterThanOrEqual(count);
      expect(x * y - count).toBeLessThan(Math.max(1, y));
    }
    expect(workgroups([5, 7], 65_535, 'k')).toEqual([5, 7, 1]);
  });

  it.each([
    [[65_535 ** 2 + 1], /the device allows 65535 in a dimension/, LimitError],
    [[70_000, 1], /k asks for 70000 x 1 x 1 workgroups/, LimitError],
    [[1.5], /a grid of 1.5 workgroups/, UsageError],
    [[-1], /a grid of -1 workgroups/, UsageError],
    [[3, Number.NaN], /a grid of 3 x NaN workgroups/, UsageError],
  ])('%o is refused', (counts, message, type) => {
    expect(() => workgroups(counts, 65_535, 'k')).toThrow(message);
    expect(() => workgroups(counts, 65_535, 'k')).toThrow(type);
  });

  it('run every workgroup once, given when recorded or at replay', async () => {
    const n = 70_003;
    const dispatch = (size: Scalar, y: Tensor) => ({
      kernel: fill,
      entry: 'main',
      tensors: { y },
      params: { size },
      grid: ceilDiv(size, 1),
    });
    const want = range(n, (i) => i + 1);
    const y = engine.tensor('y', [n]);
    await eager(engine, async (ctx) => ctx.dispatch(dispatch(n, y)));
    expect([...(await engine.read(y))]).toEqual(want);
    for (const size of [n, scalarInput('size', n)]) {
      engine.write(y, new Float32Array(n));
      const { recording } = record(engine, 'fill', (ctx) => ctx.dispatch(dispatch(size, y)));
      const program = await Program.compile(engine, recording);
      program.run({ size: n });
      expect([...(await engine.read(y))]).toEqual(want);
      if (typeof size !== 'number') {
        engine.write(y, new Float32Array(n));
        program.run({ size: 3 });
        expect([...(await engine.read(y)).subarray(0, 5)]).toEqual([1, 2, 3, 0, 0]);
      }
      program.dispose();
    }
  });
});

describe('profile', () => {
  it('times every dispatch under its label and computes what run computes', async () => {
    const { program, y } = await siluProgram(
      engine,
      floats(
        engine,
        'x',
        range(300, (i) => i / 50),
      ),
      3,
    );
    program.run();
    const want = bits((await program.read(y))[0]!);
    engine.write(y, new Float32Array(300));
    const { live, buffers } = engine.memory.report();
    const times = await profile(engine, program);
    expect(times.map((t) => t.label)).toEqual([
      'elementwise/silu_forward',
      'elementwise/silu_forward',
      'elementwise/silu_forward',
    ]);
    expect(times.every((t) => Number.isFinite(t.seconds) && t.seconds >= 0)).toBe(true);
    expect(bits((await program.read(y))[0]!)).toBe(want);
    expect(engine.memory.report()).toMatchObject({ live, buffers });
    program.dispose();
  });
});
