/** The losses of an update or of a validation: of each row as the GPU computes them, and as means by what the rows learn. */
import type { ModelConfig } from '../model/config.ts';
import type { Batch, Draws } from './batch.ts';
import { batchShares, type TrainConfig } from './config.ts';

/** What one batch came to. */
export interface BatchLosses {
  /** Mean squared velocity error of each row, in the reference's order: consistency rows, then flow rows. */
  readonly perSample: Float32Array;
  readonly loss: number;
}

/** Means of the per-sample loss over the rows that learn the same thing. Absent where a batch has no such rows. */
export interface Losses {
  readonly loss: number;
  readonly flow?: number;
  /** Of the rows whose target a network makes. */
  readonly time?: number;
  readonly length?: number;
  /**
   * Over the flow rows, or where there are none over those of `time`, by their time (in quarters); and over all rows, by number of
   * blocks and by step level.
   */
  readonly byTime: Readonly<Record<string, number>>;
  readonly byBlocks: Readonly<Record<string, number>>;
  readonly byLevel: Readonly<Record<string, number>>;
}

/** One of the batches of an update, or of a validation. */
export interface Part {
  readonly batch: Batch;
  readonly draws: Draws;
  readonly result: BatchLosses;
}

/** The losses of some batches together, by what their rows learn. */
export function splitLosses(model: ModelConfig, train: TrainConfig, parts: readonly Part[]): Losses {
  const { timeRows, lengthRows } = batchShares(train, model);
  const rows = parts.flatMap(({ batch, draws, result }) =>
    Array.from(result.perSample, (value, r) => ({
      value,
      // Length targets come last, and replace those of the objective.
      kind: r >= train.batch - lengthRows ? 'length' : r < timeRows ? 'time' : 'flow',
      t: batch.main.t[batch.position[r]!]!,
      blocks: draws.lengths[r]!,
      level: batch.main.levels[batch.position[r]!]!,
    })),
  );
  const loss = parts.reduce((sum, { result }) => sum + result.loss, 0) / parts.length;
  const mean = (some: typeof rows) => some.reduce((s, r) => s + r.value, 0) / some.length;
  const means = (some: typeof rows, key: (r: (typeof rows)[number]) => number) => {
    const parts = new Map<number, { sum: number; count: number }>();
    for (const row of some) {
      const part = parts.get(key(row)) ?? { sum: 0, count: 0 };
      part.sum += row.value;
      part.count++;
      parts.set(key(row), part);
    }
    return Object.fromEntries([...parts].sort(([a], [b]) => a - b).map(([k, { sum, count }]) => [k, sum / count]));
  };
  const of = (kind: string) => rows.filter((r) => r.kind === kind);
  const [flow, time, length] = [of('flow'), of('time'), of('length')];
  return {
    loss,
    ...(flow.length > 0 ? { flow: mean(flow) } : {}),
    ...(time.length > 0 ? { time: mean(time) } : {}),
    ...(length.length > 0 ? { length: mean(length) } : {}),
    byTime: means(flow.length > 0 ? flow : time, (r) => Math.min(0.75, Math.floor(r.t * 4) / 4)),
    byBlocks: means(rows, (r) => r.blocks),
    byLevel: means(rows, (r) => r.level),
  };
}
