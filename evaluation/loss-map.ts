/**
 * Losses of held-out pictures by time, level and number of blocks, as shortcut models are trained: at the finest level against the flow's
 * velocity, at the others against two steps of half the size with all blocks. Every cell has the same pictures and noise.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, NonFiniteError } from '../engine/errors.ts';
import { normals } from '../engine/philox.ts';
import { allowedLengths, finestSteps, fullLength, type ModelConfig } from '../model/config.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { heatMap } from '../pictures/heat-map.ts';
import { checkClasses } from '../sampling/classes.ts';
import { unitImages } from './features.ts';
import { type Measured, measuredMean } from './measured.ts';
import type { Pictures } from './real.ts';
import { describeMeasured } from './results.ts';
import { createVelocities } from './velocities.ts';

/** What the noise is for: apart from that of samples and training. */
const NOISE = 0x65760006;

/** The loss in one place. */
export interface LossCell {
  readonly t: number;
  /** log2 of the number of steps that the network is told; a step has length 2^-level. */
  readonly level: number;
  readonly blocks: number;
  /** What it is compared with. */
  readonly target: 'flow' | 'two half steps';
  /** Whether training asks for this time at this level: those on the grid of 2^level sections. */
  readonly trained: boolean;
  /** Mean square of the velocity's error, over pictures; the interval is a bootstrap's of the pictures. */
  readonly loss: Measured;
}

/** How losses are measured. */
export interface LossMapOptions {
  readonly config: ModelConfig;
  readonly source: GroupSource;
  readonly pictures: Pictures;
  /** Times 0, 1 / times, ..., as the reference has 32. */
  readonly times: number;
  readonly blocks: readonly number[];
  /** Whether the network is told the pictures' labels, or "no class", as an unconditional one must be. */
  readonly labelled: boolean;
  readonly seed: number;
  /** Pictures computed at once. */
  readonly batch: number;
  readonly signal?: AbortSignal;
  /** Told how many of the points are done, those of other pictures counting in proportion. */
  readonly onProgress?: (done: number, of: number) => void;
}

/**
 * Times and levels of a map: those whose step ends at data at the latest. A model that is told no levels has the finest only.
 */
export function lossPoints(
  times: number,
  config: Pick<ModelConfig, 'ignoreDt' | 'finest'>,
): { t: number; level: number }[] {
  const finest = Math.log2(finestSteps(config));
  const levels = config.ignoreDt ? [finest] : Array.from({ length: finest + 1 }, (_, level) => level);
  return levels.flatMap((level) =>
    Array.from({ length: times }, (_, i) => ({ t: i / times, level })).filter(
      ({ t }) => level === finest || t + 2 ** -level <= 1,
    ),
  );
}

/** @throws ConfigError for a model that predicts noise, for labels of one that knows none, and for blocks or times that make no sense */
export function checkLossMap({
  config,
  times,
  blocks,
  labelled,
}: Pick<LossMapOptions, 'config' | 'times' | 'blocks' | 'labelled'>): void {
  if (config.predicts === 'noise')
    throw new ConfigError('a map of losses is of models that predict velocities; this one predicts noise');
  checkClasses(config, { guidance: Number(labelled) });
  if (!(Number.isInteger(times) && times >= 1 && times <= 128))
    throw new ConfigError(`the number of times is ${times}; it must be an integer from 1 to 128`);
  const allowed = allowedLengths(config);
  const odd = blocks.find((L) => !allowed.includes(L));
  if (odd !== undefined || blocks.length === 0) {
    throw new ConfigError(`the model has no ${odd ?? 0} blocks`, {
      hint: `numbers of blocks are ${allowed.join(', ')}`,
    });
  }
}

/**
 * Measures losses at every time, level and number of blocks. The same bits every time.
 * @throws as checkLossMap; NonFiniteError naming the place; InterruptedError
 */
export async function lossMap(engine: Engine, options: LossMapOptions): Promise<LossCell[]> {
  checkLossMap(options);
  const { config, source, pictures, times, blocks, labelled, seed, signal, onProgress } = options;
  const count = pictures.indices.length;
  const batch = Math.min(options.batch, count);
  const size = config.imageSize ** 2 * config.channels;
  const full = fullLength(config);
  const points = lossPoints(times, config);
  const finest = Math.log2(finestSteps(config));
  const losses = points.map(() => blocks.map(() => new Float64Array(count)));
  const told = (level: number) => (config.ignoreDt ? 0 : level);
  const model = new ResidentModel(engine, config, source);
  await model.require(groupsFor(config, full), { signal });
  const velocities = createVelocities(engine, model, batch);
  try {
    for (let first = 0; first < count; first += batch) {
      const indices = pictures.indices.subarray(first, first + batch);
      const x1 = unitImages(pictures.data, indices);
      const x0 = normals({ seed, stream: NOISE, step: 0 }, x1.length, first * size);
      const labels = Array.from(indices, (i) => (labelled ? pictures.data.label(i) : config.classes));
      for (const [at, { t, level }] of points.entries()) {
        throwIfAborted(signal, 'the map of losses was interrupted');
        onProgress?.((first / count) * points.length + (at * indices.length) / count, points.length);
        const x = x1.map((data, i) => (1 - t) * x0[i]! + t * data);
        const velocity = (point: Float32Array, time: number, of: number, L: number) =>
          velocities.of({ x: point, labels, t: time, level: told(of), blocks: L });
        let target = x1.map((data, i) => data - x0[i]!);
        if (level < finest) {
          const h = 2 ** -(level + 1);
          const half = await velocity(x, t, level + 1, full);
          const other = await velocity(
            x.map((value, i) => value + h * half[i]!),
            t + h,
            level + 1,
            full,
          );
          target = half.map((value, i) => (value + other[i]!) / 2);
        }
        for (const [b, L] of blocks.entries()) {
          const found = await velocity(x, t, level, L);
          for (let row = 0; row < indices.length; row++) {
            let sum = 0;
            for (let i = row * size; i < (row + 1) * size; i++) sum += (found[i]! - target[i]!) ** 2;
            if (!Number.isFinite(sum))
              throw new NonFiniteError(`the loss of picture ${first + row} is ${sum} (t=${t}, level ${level}, L=${L})`);
            losses[at]![b]![first + row] = sum / size;
          }
        }
      }
    }
  } finally {
    velocities.dispose();
    model.dispose();
  }
  return points.flatMap(({ t, level }, at) =>
    blocks.map((L, b) => ({
      ...{ t, level, blocks: L },
      target: level === finest ? ('flow' as const) : ('two half steps' as const),
      trained: Number.isInteger(t * 2 ** level),
      loss: measuredMean(losses[at]![b]!, { seed }),
    })),
  );
}

/** A line for each cell, with a head. */
export const lossMapCsv = (cells: readonly LossCell[]): string =>
  [
    'level,t,blocks,target,trained,loss,loss_low,loss_high',
    ...cells.map(({ level, t, blocks, target, trained, loss }) =>
      [level, t, blocks, target, trained, loss.value, loss.low, loss.high].join(','),
    ),
    '',
  ].join('\n');

/** SVG documents by their file names: for each number of blocks the losses over level and time. */
export function lossMapPlots(cells: readonly LossCell[]): Map<string, string> {
  const distinct = (values: readonly number[]) => [...new Set(values)].sort((a, b) => a - b);
  const [levels, times] = [distinct(cells.map(({ level }) => level)), distinct(cells.map(({ t }) => t))];
  return new Map(
    distinct(cells.map(({ blocks }) => blocks)).map((L) => {
      const at = (r: number, c: number) =>
        cells.find(({ level, t, blocks }) => level === levels[r] && t === times[c] && blocks === L);
      const svg = heatMap({
        title: `Loss of held-out pictures, L=${L} (level ${levels.at(-1)}: flow; others: two half steps)`,
        ...{ row: 'level', column: 'time t' },
        rowLabels: levels.map(String),
        columnLabels: times.map((t) => String(Number(t.toFixed(4)))),
        values: levels.map((_, r) => times.map((_, c) => at(r, c)?.loss.value ?? Number.NaN)),
        text: (r, c) => describeMeasured(at(r, c)!.loss).replace(' (', '\n(').split('\n'),
      });
      return [`loss-L${L}.svg`, svg] as const;
    }),
  );
}
