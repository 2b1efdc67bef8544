/** Benchmarks of kernels on an adapter: what is measured is right in value and complete as data. How fast anything is, is not tested. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { chooseClock, PLAUSIBLE } from '../../bench/clock.ts';
import { compileRepeated, interleave } from '../../bench/harness.ts';
import { benchKernels } from '../../bench/kernels.bench.ts';
import { runBench } from '../../bench/main.ts';
import { prepareCase } from '../../bench/prepare.ts';
import { parseReport } from '../../bench/report.ts';
import { measureCeilings, roofOf } from '../../bench/roofline.ts';
import type { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { timed } from '../../engine/timed.ts';
import { add } from '../../kernels/add.ts';
import { uploadCase } from '../../kernels/check.ts';
import { contract } from '../../kernels/contract.ts';
import { caseInputs } from '../../kernels/expected.ts';
import { contracts } from '../../kernels/registry.ts';
import { subjectReport } from '../support/bench-report.ts';
import { testEngine } from '../support/engine.ts';

/** What timestamps are multiplied by on their way: 1 as the driver writes them. */
const stamps = vi.hoisted(() => ({ factor: 1 }));
vi.mock('../../engine/timed.ts', async (load) => {
  const real = await load<typeof import('../../engine/timed.ts')>();
  return { ...real, timed: async (...given: Parameters<typeof timed>) => stamps.factor * (await real.timed(...given)) };
});

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

/** Bytes of GPU buffers, without those for reading back, which the engine keeps. */
const held = () => {
  const { live, byKind } = engine.memory.report();
  return live - (byKind.staging ?? 0);
};

const named = (name: string) => contracts.find((c) => c.name === name)!;

/** x + x, whose reference may be made wrong. */
const twice = (factor = 2) =>
  contract<{ size: number }>({
    name: 'twice',
    cases: [{ size: 3 }],
    inputs: ({ size }) => ({ x: { shape: [size] } }),
    run: (ctx, { x }) => ({ y: add(ctx, x!, x!) }),
    reference: ({ x }) => ({ y: x!.map((v) => factor * v) }),
    differentiable: ['x'],
    reduction: () => 1,
    bench: {
      cases: [{ size: 1024 }],
      cost: ({ size }) => ({ flops: size, bytes: 8 * size, backward: { flops: size, bytes: 8 * size } }),
    },
  });

describe('Program.timed', () => {
  it("runs the program as run does, in a time that is above zero and within the host's", async () => {
    const c = named('linear');
    const k = { rows: 4, tokens: 16, input: 32, output: 64 };
    const inputs = uploadCase(engine, c, k, caseInputs(c, k));
    const { recording, result } = record(engine, 'timed', (ctx, keep) => {
      const { y } = c.run(ctx, inputs, k);
      keep(y!);
      return y!;
    });
    const program = await Program.compile(engine, recording);
    program.run();
    const [ran] = await program.read(result);
    const before = held();
    const started = performance.now();
    const seconds = await timed(engine, program);
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThan((performance.now() - started) / 1000);
    expect((await program.read(result))[0]).toEqual(ran);
    expect(held()).toBe(before);
    program.dispose();
    for (const t of Object.values(inputs)) engine.release(t);
  });
});

describe('the clock', () => {
  it('is the timestamps where they agree with the host, else the host', async () => {
    const { clock, agreement, reason } = await chooseClock(engine);
    expect(agreement.length).toBe(engine.device.features.has('timestamp-query') ? 2 : 0);
    const agrees = agreement.length > 0 && agreement.every((r) => r >= PLAUSIBLE.least && r <= PLAUSIBLE.most);
    expect(clock, reason).toBe(agrees ? 'timestamp' : 'wall');
  });

  it.each([
    ['at once, as if written when the work was queued', 1e-9],
    ['in another unit', 1e3],
  ])('is the host where timestamps come %s', async (_how, factor) => {
    stamps.factor = factor;
    try {
      const { clock, reason } = await chooseClock(engine);
      expect(clock).toBe('wall');
      expect(reason).toContain(`not between ${PLAUSIBLE.least} and ${PLAUSIBLE.most}`);
    } finally {
      stamps.factor = 1;
    }
  });
});

describe('ceilings', () => {
  it('are of work that was done, and leave nothing behind', async () => {
    const before = held();
    const { copy, multiplyAdd, multiplyAddF16 } = await measureCeilings(engine, 'wall', 3);
    expect(held()).toBe(before);
    // 64 MiB on a CPU, 128 on a GPU, read and written.
    expect(copy.work).toBe(2 * (engine.adapterClass === 'gpu' ? 2 ** 27 : 2 ** 26));
    expect(copy.variant).toMatch(/^copy of (vec4|f32), \d+ per invocation$/);
    const [, chains, , vector] = /^(\d+) chains of (fma|x \* a \+ b) in (vec4 of )?f32$/.exec(multiplyAdd.variant)!;
    const invocations = engine.adapterClass === 'gpu' ? 4096 * 256 : 128 * 64;
    expect(multiplyAdd.work).toBe(2 * 1024 * Number(chains) * (vector ? 4 : 1) * invocations);
    for (const { rate, work, timing } of [copy, multiplyAdd]) {
      expect(timing.seconds.length).toBe(3);
      expect(rate).toBeCloseTo(work / timing.median / 1e9, 9);
    }
    expect(multiplyAddF16 !== null).toBe(engine.device.features.has('shader-f16'));
    expect(multiplyAddF16?.variant ?? 'in f16').toMatch(/f16$/);
  });
});

describe('compileRepeated and interleave', () => {
  it('repeat the work in one submission, and keep samples in the order of rounds', async () => {
    const c = twice();
    const k = { size: 1024 };
    const inputs = uploadCase(engine, c, k, caseInputs(c, k));
    const repeated = await compileRepeated(engine, 'twice', 'wall', (ctx) => void c.run(ctx, inputs, k));
    expect(repeated.dispatches).toBe(1);
    expect(repeated.repeats).toBeGreaterThan(1);
    expect(repeated.program.dispatches).toBe(repeated.repeats);
    const order: string[] = [];
    const spy = (name: string) => {
      const run = () => {
        order.push(name);
        repeated.program.run();
      };
      return { engine, repeats: 2, program: { run } as unknown as Program };
    };
    const [a] = await interleave([spy('a'), spy('b')], 3);
    expect(order.join('')).toBe('abbaabba');
    expect(a!.seconds.length).toBe(3);
    expect(a!.median).toBe([...a!.seconds].sort((x, y) => x - y)[1]);
    repeated.program.dispose();
    engine.release(inputs.x!);
  });
});

describe('prepareCase', () => {
  it('refuses a kernel that computes wrong, and leaves nothing behind', async () => {
    const before = held();
    await expect(prepareCase(engine, twice(2.01), { size: 64 }, 'wall')).rejects.toThrow(
      expect.objectContaining({
        code: 'wrong-result',
        message: expect.stringContaining('twice {"size":64}, y: element'),
      }),
    );
    expect(held()).toBe(before);
  });

  it('compares part of a large case, and finds a wrong row in it', async () => {
    const linear = named('linear');
    const k = { rows: 8, tokens: 128, input: 1024, output: 1024 };
    const prepared = await prepareCase(engine, linear, k, 'wall');
    expect(prepared.accuracy).toMatchObject({ checked: 16 * 1024, outputs: 1024 * 1024 });
    expect(prepared.accuracy!.error).toBeGreaterThan(0);
    expect(prepared.both!.dispatches).toBeGreaterThan(prepared.forward.dispatches);
    prepared.dispose();
    const wrong = {
      ...linear,
      reference: (inputs: Parameters<typeof linear.reference>[0], c: object) => {
        const { y } = linear.reference(inputs, c);
        return { y: y!.map((v, i) => (i === y!.length - 1 ? v + 1 : v)) };
      },
    };
    await expect(prepareCase(engine, wrong, k, 'wall')).rejects.toThrow(
      expect.objectContaining({ code: 'wrong-result', message: expect.stringContaining('part of y: element 16383') }),
    );
  });
});

describe('runBench', () => {
  it('reports both passes with rates and shares that follow from times, work and ceilings; and compares with itself', async () => {
    const subject = { name: 'here', engine };
    const told: string[] = [];
    const options = { contracts: [twice()], rounds: 5, check: true, versions: { odelt: 'x' }, machine: 'm', load: 1 };
    const report = await runBench([subject], { ...options, onCase: (text) => told.push(text) });
    expect(told).toEqual(['clock and ceilings of here', 'twice {"size":3}: check', 'twice {"size":1024}']);
    expect(report).toMatchObject({ format: 1, command: '', machine: 'm', load: 1, versions: { odelt: 'x' }, note: '' });
    expect(report.date).toMatch(/^\d{4}-\d\d-\d\dT/);
    expect(report.replay).toEqual([]);
    expect(report.against).toBeNull();
    const [here] = report.subjects;
    expect(here!.adapter.kind).toBe(engine.adapterClass);
    expect(report.kernels.map(({ pass }) => pass)).toEqual(['forward', 'backward']);
    for (const r of report.kernels) {
      expect(r).toMatchObject({ kernel: 'twice', case: { size: 1024 }, subject: 'here', clock: here!.clock.clock });
      expect(r).toMatchObject({ flops: 1024, bytes: 8192, bound: 'memory', checked: 1024, outputs: 1024, error: 0 });
      expect([r.timing.seconds.length, r.placements]).toEqual([5, 1]);
      for (const rates of Object.values(r.ceilingRates)) expect(rates.length).toBe(5);
      const { median } = r.timing;
      if (median > 0) {
        expect(r.gbytes).toBeCloseTo(8192 / median / 1e9, 9);
        expect(r.gflops).toBeCloseTo(1024 / median / 1e9, 9);
        expect(r.roofline).toBeGreaterThan(0);
      } else expect([r.gbytes, r.gflops]).toEqual([null, null]);
    }
    const [forward, backward] = report.kernels;
    expect(forward!.both).toBeNull();
    const expected = backward!.both!.seconds.map((s, i) => s - forward!.timing.seconds[i]!);
    expect(backward!.timing.seconds).toEqual(expected);
    expect(roofOf({ flops: 1024, bytes: 8192 }, here!.ceilings).bound).toBe('memory');

    const saved = parseReport(JSON.stringify(report), 'saved');
    const again = await runBench([subject], { ...options, saved: { name: 'saved', report: saved } });
    expect(again.against).toMatchObject({ subject: 'here', base: 'saved', paired: false });
    const about = again.against!.comparisons[0] ?? again.against!.leftOut[0];
    expect(JSON.stringify(about)).toContain('twice');
  });

  it('pairs the rounds of two subjects, the second of which may be another build, in several placements', async () => {
    const before = held();
    const order: string[] = [];
    const told =
      (name: string): typeof prepareCase =>
      (...args) => {
        order.push(`${name}${args[4] ? ' checked' : ''}`);
        return prepareCase(...args);
      };
    const other = { name: 'other', engine, prepareCase: told('other'), contracts: [twice()] };
    const mine = { name: 'this', engine, prepareCase: told('this') };
    const unknown = { ...twice(), name: 'unknown' };
    const report = await runBench([mine, other], { contracts: [twice(), unknown], rounds: 6 });
    expect(report.kernels.map(({ kernel, subject, pass }) => `${kernel} ${subject} ${pass}`)).toEqual([
      'twice this forward',
      'twice this backward',
      'twice other forward',
      'twice other backward',
    ]);
    expect(report.against).toMatchObject({ subject: 'this', base: 'other', paired: true, placements: 4 });
    // In turn one first and the other, so that neither always gets the same memory.
    expect(order.join()).toBe('this checked,other checked,other,this,this,other,other,this');
    for (const { timing, both, placements, ceilingRates, checked } of report.kernels) {
      expect([placements, timing.samples, checked]).toEqual([4, 8, 1024]); // two rounds in each
      if (both) expect(both.samples).toBe(8);
      for (const rates of Object.values(ceilingRates)) expect(rates.length).toBe(8);
    }
    // The same adapter: measured once.
    expect(report.subjects[1]!.ceilings).toBe(report.subjects[0]!.ceilings);
    expect(held()).toBe(before);
  });

  it('leaves out the backward pass where it is told to, of a build that knows of no such thing as well', async () => {
    const before = held();
    const older: typeof prepareCase = (...args) => prepareCase(...(args.slice(0, 5) as Parameters<typeof prepareCase>));
    const x = engine.tensor('x', [1024]);
    const other = await compileRepeated(engine, 'other work', 'wall', (ctx) => void add(ctx, x, x));
    const { ceilings } = subjectReport();
    const shared = {
      engine,
      clock: 'wall',
      ceilings: { ceilings, copy: other, multiplyAdd: other, dispose() {} },
    } as const;
    const subjects = [
      { name: 'this', ...shared },
      { name: 'older', ...shared, prepareCase: older, contracts: [twice()] },
    ];
    const results = await benchKernels(subjects, { contracts: [twice()], rounds: 8, forward: true });
    expect(results.map(({ subject, pass, layer }) => [subject, pass, layer])).toEqual([
      ['this', 'forward', null],
      ['older', 'forward', null],
    ]);
    expect(results[0]).toMatchObject({ error: 0, checked: 1024, both: null });
    const alone = await prepareCase(engine, twice(), { size: 64 }, 'wall', false, false);
    expect([alone.both, alone.accuracy]).toEqual([null, null]);
    alone.dispose();
    other.program.dispose();
    engine.release(x);
    expect(held()).toBe(before);
  });

  it('refuses what has nothing to time, and stops when it is told to', async () => {
    const subjects = [{ name: 'here', engine }];
    await expect(runBench(subjects, { filter: 'nothing' })).rejects.toThrow(
      expect.objectContaining({ code: 'config', message: "no kernel that is timed matches 'nothing'" }),
    );
    await expect(runBench(subjects, { contracts: [twice()], shapes: ['b'] })).rejects.toThrow(
      expect.objectContaining({ code: 'config', message: 'none of twice has cases of the shapes and sizes chosen' }),
    );
    const before = held();
    await expect(runBench(subjects, { contracts: [twice()], signal: AbortSignal.abort() })).rejects.toThrow(
      expect.objectContaining({ code: 'interrupted' }),
    );
    expect(held()).toBe(before);
  });
});
