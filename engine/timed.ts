/** Programs run for the sake of their time: between timestamps, as a whole or dispatch by dispatch, or one dispatch alone. */
import { encodeSteps } from './encode.ts';
import type { Engine } from './engine.ts';
import { UsageError } from './errors.ts';
import type { Program } from './program.ts';
import type { ScalarValues } from './scalar.ts';
import { withTimestamps } from './timestamps.ts';

/** Dispatches that are timed in one submission: a query set has at most 4,096 timestamps. */
const MOST_TIMED = 2048;

/** A dispatch of a run: `begin` and `seconds` by the driver's clock, in seconds after the first one's begin. */
export interface TimedDispatch {
  readonly label: string;
  readonly begin: number;
  readonly seconds: number;
}

/** Has the first of some passes begin by writing timestamp `index`, and the last end by writing the next. */
const between = (querySet: GPUQuerySet, index: number) => (first: boolean, last: boolean) =>
  first || last
    ? {
        timestampWrites: {
          querySet,
          ...(first && { beginningOfPassWriteIndex: index }),
          ...(last && { endOfPassWriteIndex: index + 1 }),
        },
      }
    : {};

/**
 * Runs once with every dispatch timed by timestamps, in a pass of its own; in order.
 * @throws UsageError without 'timestamp-query'; OutOfMemoryError.
 */
export function profile(engine: Engine, program: Program, values: ScalarValues = {}): Promise<TimedDispatch[]> {
  const most = Math.min(Math.max(1, program.dispatches), MOST_TIMED);
  return withTimestamps(engine, program.name, 2 * most, async ({ queries, submit }) => {
    const prepared = program.prepared(values);
    const { steps } = prepared;
    const out: TimedDispatch[] = [];
    let first: bigint | undefined;
    for (let start = 0; start < steps.length; start += most) {
      const timed = steps.slice(start, start + most);
      const encoder = engine.device.createCommandEncoder({ label: `${program.name}/profile` });
      timed.forEach((step, i) => {
        const from = start + i;
        encodeSteps(encoder, prepared, { label: step.node.label, from, to: from + 1, ends: between(queries, 2 * i) });
      });
      const times = await submit(encoder, 2 * timed.length);
      timed.forEach((step, i) => {
        const [begin, end] = [times[2 * i]!, times[2 * i + 1]!];
        first ??= begin;
        out.push({ label: step.node.label, begin: Number(begin - first) / 1e9, seconds: Number(end - begin) / 1e9 });
      });
    }
    return out;
  });
}

/**
 * Runs once between two timestamps, and waits for the end.
 * @returns seconds between the timestamps, by the driver's clock. @throws UsageError without 'timestamp-query'; OutOfMemoryError.
 */
export function timed(engine: Engine, program: Program, values: ScalarValues = {}): Promise<number> {
  return withTimestamps(engine, program.name, 2, async ({ queries, submit }) => {
    const prepared = program.prepared(values);
    const encoder = engine.device.createCommandEncoder({ label: `${program.name}/timed` });
    const ends = between(queries, 0);
    encodeSteps(encoder, prepared, { label: program.name, from: 0, to: prepared.steps.length, ends });
    const [begin, end] = await submit(encoder, 2);
    return Number(end! - begin!) / 1e9;
  });
}

/**
 * Submits dispatch `index` alone, `times` in a row, to be timed by the clock. What it changes in place changes as often, so that the
 * program's outputs count as overwritten.
 */
export function repeat(
  engine: Engine,
  program: Program,
  { index, times }: { index: number; times: number },
  values: ScalarValues = {},
): void {
  const prepared = program.prepared(values);
  const step = prepared.steps[index];
  if (!step)
    throw new UsageError(`'${program.name}' has ${program.dispatches} dispatches; number ${index} was asked for`);
  const encoder = engine.device.createCommandEncoder({ label: `${program.name}/repeat` });
  const counts = prepared.counts.subarray(3 * index, 3 * index + 3);
  const repeated = {
    steps: Array.from({ length: times }, () => step),
    counts: Uint32Array.from({ length: 3 * times }, (_, i) => counts[i % 3]!),
    mirrors: prepared.mirrors,
  };
  encodeSteps(encoder, repeated, { label: step.node.label, from: 0, to: times });
  program.overwritten();
  engine.device.queue.submit([encoder.finish()]);
}
