/** The evaluation: samples at every (T, L, w) from the same noise and for the same classes, each cell compared with real pictures. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError } from '../engine/errors.ts';
import { sha256 } from '../formats/bytes.ts';
import type { ModelConfig } from '../model/config.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { checkRequest, type Solver } from '../sampling/request.ts';
import { Sampler } from '../sampling/sampler.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { classAgreement, prepareReference, type Reference } from './agreement.ts';
import { createFeatureSums, type FeatureStatistics } from './feature-statistics.ts';
import { type Features, featuresOfData } from './features.ts';
import { measuredFrechet } from './frechet.ts';
import { kernelDistance } from './kernel-distance.ts';
import { manifold } from './manifold.ts';
import { share } from './measured.ts';
import { distanceQuantiles, NEAREST_QUANTILES, nearerShare, nearestDistances } from './nearest.ts';
import { FEWEST, type RealPictures } from './real.ts';
import {
  type Cell,
  type CellKey,
  checkSameSettings,
  type Distances,
  type EvaluationResults,
  type NearestCell,
  type Provenance,
  sameCell,
} from './results.ts';

/** Which cells are drawn: all combinations. */
export interface EvaluationGrid {
  readonly steps: readonly number[];
  readonly blocks: readonly number[];
  readonly guidance: readonly number[];
  readonly solver: Solver;
}

/** How far an evaluation is. */
export interface EvaluationProgress {
  /** What is under way: real pictures, or a cell. */
  readonly at: CellKey | 'real pictures';
  /** Cells that were asked for, and those of them that are done. */
  readonly cells: number;
  readonly done: number;
  /** Samples of the cell under way, of `Provenance.samples`. */
  readonly samples: number;
}

/** What is evaluated, and how. */
export interface EvaluationOptions {
  readonly config: ModelConfig;
  /** Weights; what reads them more than once should keep them (`prefetching(source, { keep: true })`). */
  readonly source: GroupSource;
  readonly grid: EvaluationGrid;
  readonly features: Features;
  readonly real: RealPictures;
  /** Seed, samples and batch are taken from here; the rest is recorded. */
  readonly provenance: Provenance;
  /** Results to go on from: cells that they have are not drawn again. */
  readonly before?: EvaluationResults;
  readonly signal?: AbortSignal;
  /** Told before the real pictures, and after each step of sampling. */
  readonly onProgress?: (progress: EvaluationProgress) => void;
  /** Told, and waited for, after every cell: all results so far. */
  readonly onCell?: (results: EvaluationResults) => void | Promise<void>;
}

/** Samples that are drawn, and their pictures kept, at a time. */
const CHUNK = 512;

/** The cells of a grid, in the order of drawing: by weight, then blocks, so that each number of blocks is compiled once. */
export const cellsOf = ({ steps, blocks, guidance, solver }: EvaluationGrid): CellKey[] =>
  guidance.flatMap((w) => blocks.flatMap((L) => steps.map((T) => ({ steps: T, blocks: L, guidance: w, solver }))));

/**
 * Checks a grid and a number of samples against a model, before anything is read or drawn.
 * @throws ConfigError; LimitError for more steps than there may be
 */
export function checkGrid(grid: EvaluationGrid, samples: number, config: ModelConfig): void {
  for (const [name, values] of Object.entries({ steps: grid.steps, blocks: grid.blocks, guidance: grid.guidance })) {
    if (values.length === 0) throw new ConfigError(`${name} has no value`);
    if (new Set(values).size < values.length) throw new ConfigError(`${name} has a value twice: ${values.join(', ')}`);
  }
  if (!(Number.isInteger(samples) && samples >= FEWEST))
    throw new ConfigError(`${samples} samples cannot be judged; it takes ${FEWEST}, and thousands make sense`);
  for (const cell of cellsOf(grid)) checkRequest({ ...cell, solver: grid.solver, labels: [0] }, config);
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

/** Real pictures as features. */
interface Reality {
  readonly reference: Float32Array;
  readonly statistics: FeatureStatistics;
  readonly heldOut: Float32Array;
  /** Ascending. */
  readonly heldOutNearest: Float64Array;
}

async function realityOf(features: Features, { reference, heldOut }: RealPictures): Promise<Reality> {
  const all = await featuresOfData(features, reference.data, reference.indices);
  const out = await featuresOfData(features, heldOut.data, heldOut.indices);
  const sums = createFeatureSums(features.width);
  sums.add(all);
  const heldOutNearest = nearestDistances(out, all, features.width);
  return { reference: all, statistics: sums.statistics(), heldOut: out, heldOutNearest };
}

/** Precision and the like compare equally many; the rest takes the whole reference. */
function distances(features: Float32Array, width: number, { reference, statistics }: Reality, seed: number): Distances {
  const rows = features.length / width;
  const most = Math.min(rows, reference.length / width);
  return {
    fd: measuredFrechet(features, statistics, { seed }),
    kid: kernelDistance(features, reference, width, { seed }),
    ...manifold(features.subarray(0, most * width), reference.subarray(0, most * width), width, { seed }),
  };
}

/**
 * Draws `provenance.samples` samples in every cell of the grid that `before` does not have, sample n from the same noise and for the
 * same class in all of them, and compares each cell with real pictures; real pictures that were held out, too.
 * @throws ConfigError for a grid or pictures that do not suit the model, or `before` of other settings; what sampling throws;
 * InterruptedError, with every cell that is done told to `onCell`
 */
export async function evaluateModel(engine: Engine, options: EvaluationOptions): Promise<EvaluationResults> {
  const { config, grid, features, real, provenance, before, signal, onProgress, onCell } = options;
  const { samples: count, seed, batch } = provenance;
  checkGrid(grid, count, config);
  for (const { data } of [real.reference, real.heldOut]) checkComparable(config, data);
  if (before) checkSameSettings(before.provenance, provenance, 'before');
  const wanted = cellsOf(grid);
  const cells: Cell[] = [...(before?.cells ?? [])];
  const nearest: NearestCell[] = [...(before?.nearest.cells ?? [])];
  const isDone = (key: CellKey) => cells.some((cell) => sameCell(cell, key));
  const tell = (at: EvaluationProgress['at'], samples: number) =>
    onProgress?.({ at, cells: wanted.length, done: wanted.filter(isDone).length, samples });
  if (before && wanted.every(isDone)) return before;

  tell('real pictures', 0);
  const reality = await realityOf(features, real);
  const { width } = features;
  const floor = before?.floor ?? {
    how: real.how,
    count: real.heldOut.indices.length,
    of: real.reference.indices.length,
    ...distances(reality.heldOut, width, reality, seed),
  };
  const results = (): EvaluationResults => ({
    cells: [...cells].sort((a, b) => a.guidance - b.guidance || a.blocks - b.blocks || a.steps - b.steps),
    floor,
    nearest: { quantiles: NEAREST_QUANTILES, heldOut: distanceQuantiles(reality.heldOutNearest), cells: [...nearest] },
    provenance,
  });
  const judges = prepareReference(real.judges);
  const model = new ResidentModel(engine, config, options.source);
  const sampler = new Sampler(engine, model, { batch: Math.min(batch, count) });
  try {
    for (const key of wanted) {
      if (isDone(key)) continue;
      const request = { ...key, solver: grid.solver, seed, signal };
      // The first use of a number of blocks compiles, and a change of it loads weights: neither is sampling time.
      await sampler.sample({ ...request, labels: [0] });
      engine.memory.resetPeak();
      const drawn = await draw(sampler, request, { config, count, features, judges }, (n) => tell(key, n));
      const { peak } = engine.memory.report();
      const groups = groupsFor(config, key.blocks);
      const found = nearestDistances(drawn.features, reality.reference, width);
      cells.push({
        ...key,
        ...distances(drawn.features, width, reality, seed),
        agreement: drawn.agreed === null ? null : share(drawn.agreed, count),
        secondsPerSample: drawn.seconds / count,
        peakBytes: peak,
        bytesRead: groups.reduce((sum, group) => sum + options.source.bytesOf(group), 0),
      });
      nearest.push({
        ...key,
        distances: distanceQuantiles(found),
        nearer: nearerShare(found, reality.heldOutNearest),
      });
      await onCell?.(results());
    }
  } catch (cause) {
    if (!signal?.aborted) throw cause;
    const done = wanted.filter(isDone).length;
    throw new InterruptedError(`the evaluation was interrupted: ${done} of ${wanted.length} cells are done`, {
      hint: 'the same command goes on',
      cause,
    });
  } finally {
    sampler.dispose();
    model.dispose();
  }
  return results();
}

interface Drawn {
  readonly features: Float32Array;
  readonly agreed: number | null;
  readonly seconds: number;
}

/** Draws a cell a chunk at a time; of each only features, votes and seconds are kept. */
async function draw(
  sampler: Sampler,
  request: CellKey & { solver: Solver; seed: number; signal?: AbortSignal },
  of: { config: ModelConfig; count: number; features: Features; judges: Reference },
  onSamples: (samples: number) => void,
): Promise<Drawn> {
  const { config, count, features, judges } = of;
  const all = new Float32Array(count * features.width);
  let [agreed, seconds] = [0, 0];
  for (let first = 0; first < count; first += CHUNK) {
    const labels = Array.from({ length: Math.min(CHUNK, count - first) }, (_, i) => (first + i) % config.classes);
    const started = performance.now();
    const { values } = await sampler.sample({
      ...{ ...request, labels, first },
      onProgress: ({ done, total }) => onSamples(first + Math.floor((labels.length * done) / (total ?? done))),
    });
    seconds += (performance.now() - started) / 1000;
    all.set(await features.of(values), first * features.width);
    if (request.guidance !== 0) agreed += classAgreement(judges, values, labels).agreed;
  }
  return { features: all, agreed: request.guidance === 0 ? null : agreed, seconds };
}
