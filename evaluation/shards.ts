/**
 * Evaluations whose samples are drawn in parts. A part keeps the features of its samples, not figures of them: merged, they are the
 * features of an evaluation that was not divided, to the bit, and so every figure is computed of all samples.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { partsInOrder, type Shard, shardRange } from '../sampling/shards.ts';
import type { Dataset } from '../training/data/dataset.ts';
import { prepareReference } from './agreement.ts';
import { type Drawing, type Drawn, drawCells, type Range } from './draw.ts';
import { interruptible } from './evaluate.ts';
import { cellsOf, checkGrid, type EvaluationGrid } from './grid.ts';
import { createJudge, hasPictures, type Judge, type Judging, needPictures, type RealStatistics } from './judge.ts';
import { comparedCells } from './pareto.ts';
import type { RealPictures } from './real.ts';
import {
  type CellKey,
  checkSameSettings,
  describeCell,
  type EvaluationResults,
  type Provenance,
  sameCell,
} from './results.ts';
import type { FigureWork, Waiting } from './waiting.ts';

/** A cell of a part, without its features, which are in a file. */
export interface ShardCell extends Omit<Drawn, 'features'> {
  /** The file of the features, and SHA-256 of it. */
  readonly file: string;
  readonly sha256: string;
}

/** What a part is, as plain data. */
export interface ShardRecord {
  readonly shard: Shard;
  readonly range: Range;
  /** Of the pictures that are drawn. */
  readonly shape: { readonly imageSize: number; readonly channels: number };
  readonly provenance: Provenance;
  readonly cells: readonly ShardCell[];
}

/** A part that is to be drawn. */
export interface ShardOptions extends Omit<Drawing, 'judges' | 'range' | 'provenance' | 'onSamples'> {
  readonly grid: EvaluationGrid;
  readonly shard: Shard;
  readonly provenance: Provenance;
  /** What class agreement is judged by: test pictures, if there are any. */
  readonly judges: Dataset | null;
  /** Cells that the part has already. */
  readonly before: readonly CellKey[];
  /** Told of each evaluation: the cell, how many there are and are done, samples of the cell that are done. */
  readonly onProgress?: (progress: { at: CellKey; cells: number; done: number; samples: number }) => void;
  /** Waited for after every cell. */
  readonly onCell: (drawn: Drawn) => void | Promise<void>;
}

/** Draws the samples of one part in every cell of the grid that it lacks. @throws as evaluateModel */
export async function drawShard(engine: Engine, options: ShardOptions): Promise<void> {
  const { grid, shard, provenance, before, judges, onProgress, onCell, ...drawing } = options;
  checkGrid(grid, provenance.samples, drawing.config);
  const range = shardRange(shard, provenance.samples, provenance.batch);
  const wanted = cellsOf(grid);
  const missing = wanted.filter((key) => !before.some((done) => sameCell(done, key)));
  let done = wanted.length - missing.length;
  await interruptible(
    drawing.signal,
    wanted.length,
    () => done,
    () =>
      drawCells(
        engine,
        {
          ...{ ...drawing, provenance, range },
          judges: judges && prepareReference(judges),
          onSamples: (at, samples) => onProgress?.({ at, cells: wanted.length, done, samples }),
        },
        missing,
        async (drawn) => {
          await onCell(drawn);
          done++;
        },
      ),
  );
}

/** A part, and what errors call it. */
export interface ShardPart {
  readonly name: string;
  readonly record: ShardRecord;
}

/**
 * Parts in order, of which none is missing or there twice, and which have the same settings and cells.
 * @throws ConfigError, naming parts, settings or cells
 */
export function checkShards(parts: readonly ShardPart[]): ShardPart[] {
  const named = parts.map((part) => ({ ...part, shard: part.record.shard }));
  const ordered = partsInOrder(named, 'evaluation');
  const first: ShardPart = ordered[0]!;
  for (const { name, record } of ordered)
    checkSameSettings(first.record.provenance, record.provenance, first.name, `those of ${name}`);
  for (const { name, record } of ordered) {
    const [a, b] = [shardRange(record.shard, record.provenance.samples, record.provenance.batch), record.range];
    if (a[0] !== b[0] || a[1] !== b[1])
      throw new ConfigError(`${name} has samples ${b[0]} to ${b[1]}, where its part is ${a[0]} to ${a[1]}`);
  }
  for (const a of ordered) {
    for (const b of ordered) {
      const lacking = a.record.cells.find(({ key }) => !b.record.cells.some((cell) => sameCell(cell.key, key)));
      if (!lacking) continue;
      throw new ConfigError(`${b.name} lacks ${describeCell(lacking.key)}, which ${a.name} has`, {
        hint: 'its command goes on where it was stopped',
      });
    }
  }
  return ordered;
}

/** One cell of all parts: features one after another, sums added in the order of the parts. */
function mergedCell(parts: readonly Drawn[]): Drawn {
  const [{ key }] = parts as [Drawn];
  const features = new Float32Array(parts.reduce((sum, part) => sum + part.features.length, 0));
  let at = 0;
  for (const part of parts) {
    features.set(part.features, at);
    at += part.features.length;
  }
  const sum = (of: (part: Drawn) => number) => parts.reduce((total, part) => total + of(part), 0);
  return {
    ...{ key, features },
    agreed: parts.some(({ agreed }) => agreed === null) ? null : sum(({ agreed }) => agreed!),
    seconds: sum(({ seconds }) => seconds),
    peakBytes: Math.max(...parts.map(({ peakBytes }) => peakBytes)),
    bytesRead: Math.max(...parts.map(({ bytesRead }) => bytesRead)),
    evaluations: sum(({ evaluations }) => evaluations),
    accepted: sum(({ accepted }) => accepted),
    rejected: sum(({ rejected }) => rejected),
  };
}

/** How parts are merged. */
export interface MergeOptions extends Omit<Judging, 'seed'> {
  readonly features: Parameters<typeof createJudge>[0];
  readonly real: RealPictures | RealStatistics;
  /** Who merges: `linearAlgebra` of it is recorded. */
  readonly linearAlgebra: string;
  /** The features of a cell of a part [samples * width]. */
  readonly read: (part: ShardPart, cell: ShardCell) => Promise<Float32Array>;
  /** Looked at between cells, and ten times a second while figures are computed. */
  readonly signal?: AbortSignal;
  /** Told before each cell how many are done, of how many; then how far a figure is. */
  readonly onCell?: (done: number, cells: number, work?: FigureWork) => void;
}

/**
 * The results of an evaluation from its parts.
 * @throws ConfigError for parts that do not belong together, InterruptedError, and what `read` throws
 */
export async function mergeShards(
  parts: readonly ShardPart[],
  { features, real, linearAlgebra, algebra, replicates, read, signal, onCell }: MergeOptions,
): Promise<EvaluationResults> {
  const ordered = checkShards(parts);
  const { provenance, cells: keys } = ordered[0]!.record;
  const judged: Awaited<ReturnType<Judge['judge']>>[] = [];
  const waiting: Waiting = { signal, onWork: (work) => onCell?.(judged.length, keys.length, work) };
  const judge = await createJudge(features, real, { seed: provenance.seed, algebra, replicates }, waiting);
  for (const { key } of keys) {
    onCell?.(judged.length, keys.length);
    const drawn: Drawn[] = [];
    for (const part of ordered) {
      const cell = part.record.cells.find((other) => sameCell(other.key, key))!;
      drawn.push({ ...cell, features: await read(part, cell) });
    }
    throwIfAborted(signal, 'merging was interrupted; nothing was written');
    judged.push(await judge.judge(mergedCell(drawn), provenance.samples, waiting));
  }
  return {
    ...comparedCells(judged.map(({ cell }) => cell)),
    floor: await judge.floor(waiting),
    nearest: judge.nearest && { ...judge.nearest, cells: judged.map(({ nearest }) => nearest!) },
    ...(hasPictures(real) ? {} : { notComputed: needPictures(features) }),
    provenance: { ...provenance, linearAlgebra, shards: ordered.length },
  };
}
