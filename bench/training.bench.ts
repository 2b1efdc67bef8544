/** A training step as training runs it, with all blocks for every sample and with fewer for some: what skipped blocks save in time. */
import type { Engine } from '../engine/engine.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { type GroupSource, readParams } from '../model/weights/source.ts';
import { assembleBatch, type Batch, drawStep, skippedShare } from '../training/batch.ts';
import { batchShares, parseTrainConfig } from '../training/config.ts';
import { createState } from '../training/state.ts';
import { TrainStep } from '../training/step.ts';
import { type DispatchTime, type ProgramTimes, type Share, sharesBy, timeDispatches } from './breakdown.ts';
import { type Timing, timingOf } from './harness.ts';
import { interleaveTasks, type Ratio, ratioOf } from './tasks.ts';
import type { Tracer } from './trace.ts';

/** What one batch size gave. */
export interface TrainingResult {
  readonly batch: number;
  readonly dispatches: number;
  /** Every sample and length target with all blocks; and numbers of blocks spread evenly. */
  readonly full: Timing;
  readonly ragged: Timing;
  /** Ragged over full, in the same round. */
  readonly ratio: Ratio;
  /** Share of the trained rows' block work that the ragged step skips, and of the arithmetic of the whole step (bench/cost.ts). */
  readonly skipped: number;
  readonly skippedFlops: number;
  /** Time by part of the step and kernel, full and ragged, largest first. */
  readonly parts: readonly TrainingPart[];
  readonly clock: ProgramTimes['clock'];
  readonly reason: string;
}

/** A kernel in one part of the step. */
export interface TrainingPart {
  readonly name: string;
  readonly full: Share;
  readonly ragged: Share;
}

/** Parts of a step by the first scope of their labels (training/step.ts). */
export function partOf(label: string): string {
  const [first = ''] = label.split('/');
  if (first === 'time' || first === 'length') return `${first} targets`;
  if (first === 'backward') return 'backward';
  return first === 'adamw' || first === 'norm' || first === 'accumulate' ? 'update' : 'forward';
}

/** Times steps of one size; the parameters change, as they do in training. @throws OutOfMemoryError, LimitError, InterruptedError. */
export async function benchTraining(
  engine: Engine,
  config: ModelConfig,
  source: GroupSource,
  batch: number,
  options: { rounds: number; signal?: AbortSignal; tracer?: Tracer },
): Promise<{ result: TrainingResult; times: ProgramTimes }> {
  const { rounds, signal, tracer } = options;
  const every = Math.min(batch, 8);
  const train = parseTrainConfig({ batch, timeEvery: every, lengthEvery: config.lengths ? every : 0 });
  const state = createState(engine, { params: await readParams(source) });
  try {
    await engine.allocated();
    const create = () => TrainStep.create(engine, config, train, state, { signal });
    const name = `training step, batch ${batch}`;
    const step = await (tracer ? tracer.span(`${name}: record and compile`, create) : create());
    try {
      const [full, ragged] = [false, true].map((mixed) => batchOf(config, train, mixed)) as [Batch, Batch];
      const images = new Float32Array(batch * config.imageSize ** 2 * config.channels).map((_, i) => Math.sin(i));
      const request = (b: Batch) => ({ images, batch: b, index: 0, lr: 1e-6 });
      const run = (b: Batch) => () => step.run(request(b));
      if (tracer) {
        await tracer.span(`${name}: first`, run(full));
        await tracer.span(name, run(full));
        await tracer.profile(name, step.program, step.scalars(request(full)));
      }
      const seconds = await interleaveTasks(engine, [{ run: run(full) }, { run: run(ragged) }], rounds, signal);
      const timed = async (b: Batch, clock?: ProgramTimes['clock']) => {
        await step.run(request(b)); // writes the inputs
        return timeDispatches(engine, step.program, { values: step.scalars(request(b)), rounds: 5, clock, signal });
      };
      const all = await timed(full);
      const fewer = await timed(ragged, all.clock);
      const flops = ({ dispatches }: ProgramTimes) => dispatches.reduce((sum, d) => sum + (d.flops ?? 0), 0);
      const result: TrainingResult = {
        batch,
        dispatches: step.program.dispatches,
        full: timingOf(seconds[0]!),
        ragged: timingOf(seconds[1]!),
        ratio: ratioOf(seconds[1]!, seconds[0]!),
        skipped: skippedShare(config, ragged.main.lengths),
        skippedFlops: 1 - flops(fewer) / flops(all),
        parts: compareParts(all, fewer),
        clock: all.clock,
        reason: all.reason,
      };
      return { result, times: all };
    } finally {
      step.dispose();
    }
  } finally {
    for (const weights of Object.values(state)) weights.release();
  }
}

/** The first step's draws, with all blocks for every row, or with every allowed number of blocks equally often. */
function batchOf(config: ModelConfig, train: ReturnType<typeof parseTrainConfig>, mixed: boolean): Batch {
  const lengths = [...allowedLengths(config)].reverse();
  const { lengthRows } = batchShares(train, config);
  const spread = (count: number) => Array.from({ length: count }, (_, i) => lengths[mixed ? i % lengths.length : 0]!);
  const draws = { ...drawStep(config, train, 0), lengths: spread(train.batch), targetLengths: spread(lengthRows) };
  const labels = Uint32Array.from({ length: train.batch }, (_, i) => i % config.classes);
  return assembleBatch(config, train, labels, draws);
}

function compareParts(full: ProgramTimes, ragged: ProgramTimes): TrainingPart[] {
  const name = (d: DispatchTime) => `${partOf(d.label)}: ${d.kernel}`;
  const others = new Map(sharesBy(ragged.dispatches, name).map((share) => [share.name, share]));
  return sharesBy(full.dispatches, name).map((share) => ({
    name: share.name,
    full: share,
    ragged: others.get(share.name)!,
  }));
}
