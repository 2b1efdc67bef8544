/** A model's measurement: what it holds, whether it counts what runs, and whether its parts make the whole. Not how fast. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { agrees, sharesBy, timeDispatches } from '../../bench/breakdown.ts';
import { benchModel, type ModelBench, patternSource } from '../../bench/model.bench.ts';
import { formatModelBench } from '../../bench/model-report.ts';
import { type Trace, Tracer } from '../../bench/trace.ts';
import type { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { scalarInput } from '../../engine/scalar.ts';
import { toHalf } from '../../formats/half.ts';
import { add } from '../../kernels/add.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { testEngine } from '../support/engine.ts';
import { tinyModel } from '../support/tiny.ts';
import { checkTrace } from '../support/trace.ts';

const SLOW = 300_000;
let engine: Engine;
let bench: ModelBench;
let trace: Trace;
/** By group: how often it was read. And how many results there were after each part. */
const reads = new Map<number, number>();
const found: number[] = [];
beforeAll(async () => {
  engine = await testEngine();
  const tracer = new Tracer(engine);
  const pattern = patternSource(tinyModel);
  const read = (group: number) => {
    reads.set(group, (reads.get(group) ?? 0) + 1);
    return pattern.read(group);
  };
  const onFound = async ({ results, training }: ModelBench) => void found.push(results.length + training.length);
  const options = { name: 'small', batches: [1, 2], trainBatches: [6], rounds: 3, source: { ...pattern, read } };
  bench = await benchModel(engine, tinyModel, { ...options, tracer, onFound });
  trace = tracer.finish();
  // All but read-back buffers, which engines keep.
  const { live, byKind } = engine.memory.report();
  expect(live).toBe(byKind.staging);
}, SLOW);
afterAll(() => engine.dispose());

describe('the report', () => {
  it('has everything at every batch, and ratios of the same rounds', () => {
    expect(bench.missing).toEqual([]);
    const names = bench.results
      .filter(({ batch }) => batch === 2)
      .map(({ what, blocks, weights, steps }) => [what, blocks, weights, steps].join(' ').trim());
    expect(names).toEqual([
      'block 1 f32',
      'block and backward 1 f32',
      'evaluation 2 f32',
      'evaluation 2 f16',
      'evaluation 4 f32',
      'evaluation 4 f16',
      'sampling 2 f32 1',
      'sampling 2 f32 4',
      'sampling 4 f32 1',
      'sampling 4 f32 4',
      'sampling 4 f32 16',
    ]);
    for (const { seconds } of bench.results) {
      expect(seconds.samples).toBe(3);
      expect(seconds.q1 > 0 && seconds.q1 <= seconds.median && seconds.median <= seconds.q3).toBe(true);
    }
    const ratios = bench.ratios.filter(({ name }) => name.includes('batch 1')).map(({ name, goal }) => [name, goal]);
    expect(ratios).toEqual([
      ['evaluation, batch 1, f32: L=2 over L=4', null],
      ['evaluation, batch 1, f16: L=2 over L=4', null],
      ['evaluation, batch 1, L=2: f16 over f32 weights', 1],
      ['evaluation, batch 1, L=4: f16 over f32 weights', 1],
    ]);
  });

  it('is told after each part, and weights are loaded once for all batches', () => {
    // Weights in f32 and f16; evaluations, then sampling, at both batches; training.
    expect(found).toEqual([0, 0, 6, 11, 17, 22, 23]);
    expect(new Set(reads.values())).toEqual(new Set([3]));
  });

  it('has made-up weights as halves that are those of its floats', async () => {
    const [floats, halves] = [patternSource(tinyModel), patternSource(tinyModel, 'f16')];
    expect(await halves.read(1)).toEqual(toHalf((await floats.read(1)) as Float32Array));
    expect(2 * halves.bytesOf(1)).toBe(floats.bytesOf(1));
  });

  it('counts the arithmetic of an evaluation', () => {
    const { blocks, gflops, seconds } = bench.results.find((r) => r.what === 'block' && r.batch === 2)!;
    expect(blocks).toBe(1);
    // 2 samples of 16 tokens, 16 features: four dense layers, two of an MLP of 32, attention over 16 keys; two norms at 8.
    const rows = 2 * 16;
    const flops = 2 * rows * (4 * 16 * 16 + 2 * 16 * 32) + 4 * rows * 16 * 16 + 2 * 8 * rows * 16;
    expect((gflops! * seconds.median * 1e9) / flops).toBeCloseTo(1, 6);
  });

  it('says what a ragged training step skips, and where', () => {
    const [training] = bench.training;
    // Of 6 rows 3 run half of the blocks.
    expect(training).toMatchObject({ batch: 6, skipped: 0.25 });
    expect(training!.skippedFlops).toBeGreaterThan(0.1);
    expect(training!.skippedFlops).toBeLessThan(0.3);
    const parts = new Set(training!.parts.map(({ name }) => name.slice(0, name.indexOf(':'))));
    expect(parts).toEqual(new Set(['forward', 'backward', 'time targets', 'length targets', 'update']));
    const count = (of: 'full' | 'ragged') => training!.parts.reduce((n, part) => n + part[of].dispatches, 0);
    expect([count('full'), count('ragged')]).toEqual([training!.dispatches, training!.dispatches]);
  });

  it('divides programs into kernels whose shares add up to one', () => {
    expect(bench.breakdowns.map(({ what }) => what)).toEqual([
      'evaluation, L=4, batch 2, f32 weights',
      'training step, batch 6, all blocks',
    ]);
    for (const { kernels, dispatches, reason } of bench.breakdowns) {
      expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 10);
      expect(kernels.reduce((sum, kernel) => sum + kernel.dispatches, 0)).toBe(dispatches);
      expect(reason).toMatch(/add up to .* ms that a whole run takes by the clock/);
    }
    expect(bench.breakdowns[1]!.dispatches).toBe(bench.training[0]!.dispatches);
  });

  it('reads as text', () => {
    const text = formatModelBench(bench);
    expect(text).toMatch(/\| evaluation, L=2 +\| 1 +\| f32 +\|/);
    expect(text).toMatch(/\| 6 +\| .* 25\.0 % +\|/);
    expect(text).toContain('Kernels of one training step, batch 6, all blocks');
  });
});

describe('the trace', () => {
  it('keeps the format, with the phases of the host and every dispatch', () => {
    checkTrace(trace);
    const events = trace.traceEvents.filter((e) => e.ph === 'X');
    const phases = new Set(events.filter((e) => e.cat === 'host').map((e) => e.args.phase));
    for (const phase of ['record', 'plan', 'link', 'compile', 'bind', 'write', 'encode', 'submit', 'wait']) {
      expect(phases, phase).toContain(phase);
    }
    const evaluation = bench.results.find((r) => r.what === 'evaluation' && r.blocks === 4 && r.batch === 1)!;
    const dispatches = events.filter((e) => e.cat === 'GPU');
    if (!engine.device.features.has('timestamp-query')) expect(dispatches).toEqual([]);
    else expect(dispatches).toHaveLength(evaluation.dispatches + bench.training[0]!.dispatches);
    const product = dispatches.find((e) => e.name === 'block0/mlp/matmul/matmul');
    if (product)
      expect(product.args).toMatchObject({ kernel: expect.stringMatching(/^matmul\..*NN$/), params: { N: 32, K: 16 } });
  });

  it('ends: the engine is watched no longer', () => expect(engine.onPhase).toBeNull());
});

describe('the times of dispatches', () => {
  it('are one for each, by a clock that is named', async () => {
    const rows = scalarInput('rows', 64);
    const x = engine.tensor('x', [64, 64]);
    const weights = { kernel: engine.tensor('kernel', [64, 64]), bias: engine.tensor('bias', [64]) };
    const { recording } = record(engine, 'two', (ctx, keep) => {
      keep(add(ctx, linear(ctx, x, weights), ctx.prefix(x, rows)));
    });
    const program = await Program.compile(engine, recording);
    for (const clock of [undefined, 'alone'] as const) {
      const times = await timeDispatches(engine, program, { values: { rows: 3 }, rounds: 2, clock });
      expect(times.dispatches.map(({ kernel }) => kernel)).toEqual([
        expect.stringMatching(/^matmul\.\w+\/matmul NN$/),
        'add/add',
      ]);
      expect(times.dispatches.every(({ seconds }) => seconds > 0)).toBe(true);
      expect(times.dispatches[1]!.flops).toBe(3 * 64);
      if (clock) expect(times.clock).toBe(clock);
      if (times.clock === 'timestamps') expect(times.sumSeconds / times.wallSeconds).toBeGreaterThan(0.8);
    }
    program.dispose();
  });

  it('by timestamps are taken only where they make the whole', () => {
    expect(agrees([1, 2], 3)).toBe(true);
    expect(agrees([1, 2], 2.6)).toBe(true);
    expect(agrees([1, 2], 2.4)).toBe(false);
    expect(agrees([1, 2], 4)).toBe(false);
    // Written when the work was queued, or by a clock that was set back.
    expect(agrees([0, 0], 1)).toBe(false);
    expect(agrees([-1, 4], 3)).toBe(false);
  });

  it('add up by name; an unknown cost makes the sum unknown', () => {
    const one = { label: 'a/k', kernel: 'k', grid: [1], constants: {}, params: {}, flops: 4e9, bytes: 1e9, seconds: 1 };
    const shares = sharesBy([one, { ...one, seconds: 3 }, { ...one, kernel: 'u', flops: null, seconds: 4 }]);
    expect(shares).toEqual([
      { name: 'k', dispatches: 2, seconds: 4, share: 0.5, flops: 8e9, bytes: 2e9, gflops: 2, gbytes: 0.5 },
      { name: 'u', dispatches: 1, seconds: 4, share: 0.5, flops: null, bytes: 1e9, gflops: null, gbytes: 0.25 },
    ]);
  });
});
