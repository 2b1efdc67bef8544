/** The evaluation: samples at every (T, L, w) from the same noise and for the same classes, each cell compared with real pictures. */
import type { Engine } from '../engine/engine.ts';
import { InterruptedError } from '../engine/errors.ts';
import { sha256 } from '../formats/bytes.ts';
import type { Decoder } from '../model/autoencoder/decoder.ts';
import type { ModelConfig } from '../model/config.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { prepareReference } from './agreement.ts';
import { drawCells } from './draw.ts';
import type { Features } from './features.ts';
import { cellsOf, checkGrid, type EvaluationGrid } from './grid.ts';
import { createJudge, hasPictures, type Judge, type Judging, needPictures, type RealStatistics } from './judge.ts';
import { comparedCells } from './pareto.ts';
import type { RealPictures } from './real.ts';
import {
  type Cell,
  type CellKey,
  checkSameSettings,
  type EvaluationResults,
  type NearestCell,
  type Provenance,
  sameCell,
} from './results.ts';
import type { FigureWork, Waiting } from './waiting.ts';

/** How far an evaluation is. */
export interface EvaluationProgress {
  /** What is under way: real pictures, or a cell. */
  readonly at: CellKey | 'real pictures';
  /** Cells that were asked for, and those of them that are done. */
  readonly cells: number;
  readonly done: number;
  /** Samples of the cell under way, of `Provenance.samples`. */
  readonly samples: number;
  /** Present while figures are computed: which one, and how far it is. */
  readonly work?: FigureWork;
}

/** What is evaluated, and how. */
export interface EvaluationOptions extends Omit<Judging, 'seed'> {
  readonly config: ModelConfig;
  /** Weights; what reads them more than once should keep them (`prefetching(source, { keep: true })`). */
  readonly source: GroupSource;
  /** Of a model of latents: makes the pictures that are compared. */
  readonly decoder?: Decoder;
  readonly grid: EvaluationGrid;
  readonly features: Features;
  /** Pictures, or the statistics of their features alone: then all but the Fréchet distance is null. */
  readonly real: RealPictures | RealStatistics;
  /** Seed, samples and batch are taken from here; the rest is recorded. */
  readonly provenance: Provenance;
  /** What compares, where several evaluations share it: of the same features, real pictures, seed and algebra. Default: one is made. */
  readonly judge?: Judge;
  /** Results to go on from: cells that they have are not drawn again. */
  readonly before?: EvaluationResults;
  readonly signal?: AbortSignal;
  /** Told before the real pictures, and after each step of sampling. */
  readonly onProgress?: (progress: EvaluationProgress) => void;
  /** Told, and waited for, after every cell: all results so far. */
  readonly onCell?: (results: EvaluationResults) => void | Promise<void>;
}

/** SHA-256 of all weights: of the digests of the groups' values, in order. Reads all of them. */
export async function weightsDigest(source: GroupSource, signal?: AbortSignal): Promise<string> {
  const digests: string[] = [];
  for (const group of source.layout.groups.keys()) {
    const { buffer, byteOffset, byteLength } = await source.read(group, signal);
    digests.push(await sha256(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)));
  }
  return sha256(new TextEncoder().encode(digests.join()));
}

/** @throws ConfigError for a grid, or pictures, that do not suit the model */
function checkEvaluation({ grid, config, decoder, real, provenance }: EvaluationOptions): void {
  checkGrid(grid, provenance.samples, config);
  if (hasPictures(real))
    for (const { data } of [real.reference, real.heldOut]) checkComparable({ ...config, ...decoder?.shown }, data);
}

/** Runs what draws cells. @throws InterruptedError, which says how many are done, where it was stopped by the signal */
export async function interruptible<T>(
  signal: AbortSignal | undefined,
  cells: number,
  done: () => number,
  body: () => Promise<T>,
): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!signal?.aborted) throw cause;
    throw new InterruptedError(`the evaluation was interrupted: ${done()} of ${cells} cells are done`, {
      hint: 'the same command goes on',
      cause,
    });
  }
}

/**
 * Draws `provenance.samples` samples in every cell of the grid that `before` does not have, sample n from the same noise and for the
 * same class in all of them, and compares each cell with real pictures; real pictures that were held out, too.
 * @throws ConfigError for a grid or pictures that do not suit the model, or `before` of other settings; what sampling throws;
 * InterruptedError, with every cell that is done told to `onCell`
 */
export async function evaluateModel(engine: Engine, options: EvaluationOptions): Promise<EvaluationResults> {
  const { config, source, decoder, grid, features, real, provenance, before, signal, onProgress, onCell } = options;
  const { algebra, replicates } = options;
  const { samples, seed } = provenance;
  checkEvaluation(options);
  if (before) checkSameSettings(before.provenance, provenance, 'before');
  const wanted = cellsOf(grid);
  const cells: Cell[] = [...(before?.cells ?? [])];
  const nearest: NearestCell[] = [...(before?.nearest?.cells ?? [])];
  const isDone = (key: CellKey) => cells.some((cell) => sameCell(cell, key));
  const done = () => wanted.filter(isDone).length;
  const tell = (at: EvaluationProgress['at'], drawn: number, work?: FigureWork) =>
    onProgress?.({ at, cells: wanted.length, done: done(), samples: drawn, ...(work && { work }) });
  const waiting = (at: EvaluationProgress['at'], drawn: number): Waiting => ({
    signal,
    onWork: (work) => tell(at, drawn, work),
  });
  if (before && wanted.every(isDone)) return before;

  return interruptible(signal, wanted.length, done, async () => {
    tell('real pictures', 0);
    const own = waiting('real pictures', 0);
    const judge = options.judge ?? (await createJudge(features, real, { seed, algebra, replicates }, own));
    const floor = before ? before.floor : await judge.floor(own);
    const results = (): EvaluationResults => ({
      ...comparedCells(cells),
      floor,
      nearest: judge.nearest && { ...judge.nearest, cells: [...nearest] },
      ...(judge.nearest ? {} : { notComputed: needPictures(features) }),
      provenance,
    });
    const drawing = {
      ...{ config, source, decoder, features, provenance, signal },
      onSamples: (key: CellKey, drawn: number) => tell(key, drawn),
      judges: hasPictures(real) && !features.classesOf ? prepareReference(real.judges) : null,
    };
    const missing = wanted.filter((key) => !isDone(key));
    await drawCells(engine, drawing, missing, async (drawn) => {
      const judged = await judge.judge(drawn, samples, waiting(drawn.key, samples));
      cells.push(judged.cell);
      if (judged.nearest) nearest.push(judged.nearest);
      await onCell?.(results());
    });
    return results();
  });
}
