/**
 * An ablation as a folder: `VARIANT/seed-N/` is a run with the results of its evaluation, `ablation.json`, `.csv`, `.md` and `.svg` are
 * what all of them give. Whatever is there is not made again, so that an interrupted one goes on, in the middle of a training, too.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError } from '../engine/errors.ts';
import { type FailFile, failAs, readRegular, writeText } from '../formats/files.node.ts';
import { table } from '../formats/markdown.ts';
import { paramLayout } from '../model/params.ts';
import { firstBlocks } from '../model/weights/first-blocks.ts';
import { openModelSource } from '../model/weights/source.node.ts';
import { prefetching } from '../model/weights/source.ts';
import { checkpointSteps, type OnNotice } from '../training/checkpoint.node.ts';
import type { TrainingData } from '../training/data/dataset.ts';
import { inLockedFolder } from '../training/lock.node.ts';
import { readMetrics } from '../training/metrics.node.ts';
import { modelAsTrained } from '../training/model-as-trained.ts';
import { runTraining } from '../training/run.node.ts';
import { type RunConfig, readRunConfig } from '../training/run-config.node.ts';
import {
  type AblationResults,
  type AblationRun,
  type AblationSettings,
  ablationCsv,
  ablationMeans,
  ablationPlot,
  ablationRows,
  ablationRunRows,
  checkSameAblation,
  type Variant,
  type VariantPart,
  workOfSample,
} from './ablation.ts';
import { evaluateModel, weightsDigest } from './evaluate.ts';
import type { Features } from './features.ts';
import { cellsOf, type EvaluationGrid } from './grid.ts';
import { createJudge, type Judge, type RealStatistics } from './judge.ts';
import type { LinearAlgebra } from './linear-algebra.ts';
import type { RealPictures } from './real.ts';
import { readResults, writeResults } from './results.node.ts';
import { type EvaluationResults, type Provenance, sameCell } from './results.ts';

/** How far an ablation is. */
export interface AblationProgress {
  readonly variant: string;
  readonly seed: number;
  /** Runs that were asked for, and those of them that are done. */
  readonly runs: number;
  readonly done: number;
  /** What is under way, and how much of it is done: updates of the run, or samples of all its cells. */
  readonly doing: 'training' | 'evaluating';
  readonly at: number;
  readonly of: number;
  /** Seconds that the rest will take, as far as it can be told; null before anything has been done. */
  readonly left: number | null;
}

/** What is trained and compared, and where. */
export interface AblationOptions {
  readonly folder: string;
  /** Of `variantOf`, all of the same method. */
  readonly variants: readonly Variant[];
  /** Of training; each variant is trained once with each. The first comes first for all variants. */
  readonly seeds: readonly number[];
  readonly settings: AblationSettings;
  readonly data: TrainingData;
  /** What a run's configuration calls the data: see `RunConfig`. */
  readonly place: string;
  readonly features: Features;
  readonly real: RealPictures | RealStatistics;
  readonly algebra?: LinearAlgebra;
  /** Of every evaluation; recorded only. */
  readonly recorded: Pick<Provenance, 'linearAlgebra' | 'versions'>;
  /** Updates between checkpoints. */
  readonly saveEvery: number;
  /** Facts about the machine, for each run's `env.json`. */
  readonly environment: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
  /** Told after each update and each batch of samples. */
  readonly onProgress?: (progress: AblationProgress) => void;
  /** Told after each run, which is in the folder by then. */
  readonly onRun?: (run: AblationRun, results: AblationResults) => void;
  readonly onNotice?: OnNotice;
}

const fileOf = (folder: string): string => join(folder, 'ablation.json');

/** What is in a folder already; undefined for nothing. @throws ConfigError for a file that holds no ablation */
async function readAblation(folder: string): Promise<AblationResults | undefined> {
  const path = fileOf(folder);
  const there = await stat(path).catch((cause: NodeJS.ErrnoException) => (cause.code === 'ENOENT' ? null : undefined));
  if (there === null) return undefined;
  const fail: FailFile = failAs(ConfigError, path, 'give another folder, or move that file away');
  const text = new TextDecoder().decode(await readRegular(path, { most: 2 ** 26, fail }));
  let json: Partial<AblationResults>;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail('is no JSON', cause);
  }
  const whole = Array.isArray(json?.runs) && Array.isArray(json.variants) && typeof json.settings?.method === 'object';
  return whole ? (json as AblationResults) : fail('does not hold an ablation');
}

/** Writes what there is: JSON, CSV, tables and the plot. */
async function writeAblation(folder: string, results: AblationResults): Promise<void> {
  await writeText(fileOf(folder), `${JSON.stringify(results, null, 1)}\n`);
  if (results.runs.length === 0) return;
  await writeText(join(folder, 'ablation.csv'), ablationCsv(results));
  await writeText(join(folder, 'ablation.md'), `${ablationText(results).join('\n')}\n`);
  await writeText(join(folder, 'ablation.svg'), ablationPlot(results));
}

/** The results as Markdown: what was compared, means over seeds, and every run. */
function ablationText(results: AblationResults): string[] {
  const { settings, variants, floor } = results;
  const { train } = settings.method;
  const real = floor ? ` Real pictures in the samples' place: ${floor.fd.value.toPrecision(3)}.` : '';
  return [
    `Fréchet distance (${settings.features.name}) of ${settings.samples.toLocaleString('en')} samples at T=${settings.steps}, guidance ${settings.guidance}, after ${train.steps.toLocaleString('en')} updates of ${train.batch * train.accumulate} samples; mean over seeds, and each seed in brackets.${real}`,
    '',
    ...table(ablationRows(results)),
    '',
    ...variants.map(({ name, what }) => `- ${name}: ${what}`),
    '',
    'Every run, with intervals of 95 % of the samples:',
    '',
    ...table(ablationRunRows(results)),
  ];
}

/** A part of the work that is to be done, in forward passes of one block. */
function createClock() {
  let [done, started, total] = [0, 0, 0];
  return {
    expect(work: number) {
      total += work;
    },
    begin() {
      started = performance.now();
    },
    do(work: number) {
      done += work;
    },
    /** Seconds; null before anything is done. */
    left: () => (done > 0 ? (((performance.now() - started) / 1000) * Math.max(0, total - done)) / done : null),
  };
}
type Clock = ReturnType<typeof createClock>;

interface Planned {
  readonly variant: Variant;
  readonly seed: number;
  readonly folder: string;
}

const partFolder = (folder: string, { first }: VariantPart): string =>
  first === undefined ? folder : join(folder, `first-${first}`);

/**
 * Trains every variant with every seed and evaluates it, but what the folder has already. @returns what there is in the end.
 * @throws ConfigError for a folder of other settings, or that another process writes into; what training, sampling and writing throw;
 * InterruptedError, with all that is done in the folder
 */
export const runAblation = (engine: Engine, options: AblationOptions): Promise<AblationResults> =>
  inLockedFolder(options.folder, () => ablateInto(engine, options));

/** What the locked folder lacks. */
async function ablateInto(engine: Engine, options: AblationOptions): Promise<AblationResults> {
  const { folder, variants, seeds, settings, signal, onProgress, onRun } = options;
  const before = await readAblation(folder);
  if (before) checkSameAblation(before.settings, settings, fileOf(folder));
  const names = variants.map(({ name, what }) => ({ name, what }));
  const all = [...(before?.variants.filter(({ name }) => !names.some((own) => own.name === name)) ?? []), ...names];
  let floor = before?.floor ?? null;
  let runs = [...(before?.runs ?? [])];
  const results = (): AblationResults => ({
    ...{ settings, variants: all, runs, means: ablationMeans(all, runs), floor },
  });
  const planned: Planned[] = seeds.flatMap((seed) =>
    variants.map((variant) => ({ variant, seed, folder: join(variant.name, `seed-${seed}`) })),
  );
  const isDone = ({ variant, seed }: Planned) => runs.some((run) => run.variant === variant.name && run.seed === seed);
  const missing = planned.filter((run) => !isDone(run));
  const clock = createClock();
  const states = new Map<Planned, { updates: number }>();
  for (const run of missing) {
    const updates = (await checkpointSteps(join(folder, run.folder, 'checkpoints'))).at(-1) ?? 0;
    states.set(run, { updates });
    clock.expect((settings.method.train.steps - updates) * workOfUpdate(run.variant));
    for (const part of run.variant.parts) clock.expect(workOfPart(part, settings));
  }
  await writeAblation(folder, results());
  clock.begin();
  let judge: Promise<Judge> | undefined;
  const { features, real, algebra } = options;
  const judgeOnce = () => {
    judge ??= createJudge(features, real, { seed: settings.seed, algebra }, { signal });
    return judge;
  };
  const done = () => planned.filter(isDone).length;
  try {
    for (const run of missing) {
      const tell = (doing: AblationProgress['doing'], at: number, of: number) =>
        onProgress?.({
          ...{ variant: run.variant.name, seed: run.seed, runs: planned.length, done: done() },
          ...{ doing, at, of, left: clock.left() },
        });
      await trainRun(engine, options, run, states.get(run)!.updates, clock, tell);
      const evaluated = await evaluateRun(engine, options, run, judgeOnce, clock, tell);
      floor = evaluated[0]!.floor;
      const finished = await recordOf(folder, run, evaluated);
      runs = [...runs, finished];
      await writeAblation(folder, results());
      onRun?.(finished, results());
    }
  } catch (cause) {
    if (!signal?.aborted || !(cause instanceof InterruptedError)) throw cause;
    throw new InterruptedError(`the ablation was interrupted: ${done()} of ${planned.length} runs are done`, {
      hint: 'the same command goes on',
      cause,
    });
  }
  return results();
}

const workOfUpdate = (variant: Variant): number =>
  variant.train.batch * variant.train.accumulate * workOfSample(variant);

const workOfPart = ({ blocks }: VariantPart, { samples, steps, guidance }: AblationSettings): number =>
  blocks.reduce((sum, L) => sum + L, 0) * samples * steps * (guidance === 0 || guidance === 1 ? 1 : 2);

type Tell = (doing: AblationProgress['doing'], at: number, of: number) => void;

/** Trains to the end of the run's updates, from its newest checkpoint if there is one. */
async function trainRun(
  engine: Engine,
  { folder, data, place, saveEvery, environment, signal, onNotice }: AblationOptions,
  { variant, seed, folder: name }: Planned,
  updates: number,
  clock: Clock,
  tell: Tell,
): Promise<void> {
  const at = join(folder, name);
  const config: RunConfig = {
    model: modelAsTrained(variant.model, variant.train),
    train: { ...variant.train, seed },
    data: place,
  };
  if (updates > 0) checkSameRun(await readRunConfig(at), config, at);
  if (updates === config.train.steps) return;
  // A run that was killed before its first checkpoint has nothing to go on from.
  if (updates === 0) await rm(join(at, 'metrics.jsonl'), { force: true });
  tell('training', updates, config.train.steps);
  await runTraining(engine, {
    ...{ folder: at, config, data, resume: updates > 0, saveEvery, keep: 1, environment, signal, onNotice },
    onStep({ step }) {
      clock.do(workOfUpdate(variant));
      tell('training', step, config.train.steps);
    },
  });
}

/** @throws ConfigError unless a run that is there is the one that is wanted */
function checkSameRun(before: RunConfig, now: RunConfig, folder: string): void {
  if (JSON.stringify([before.model, before.train]) === JSON.stringify([now.model, now.train])) return;
  throw new ConfigError(`${folder} holds another run than this ablation's`, { hint: 'give another folder' });
}

/** The results of a run's evaluation, a part each: what is in its folder, and what is missing there. */
async function evaluateRun(
  engine: Engine,
  { folder, settings, features, real, algebra, recorded, signal }: AblationOptions,
  { variant, folder: name }: Planned,
  judge: () => Promise<Judge>,
  clock: Clock,
  tell: Tell,
): Promise<EvaluationResults[]> {
  const { method: _, trainedOn: __, steps, guidance, ...shared } = settings;
  const at = join(folder, name);
  const all = settings.samples * variant.parts.reduce((sum, { blocks }) => sum + blocks.length, 0);
  const file = await openModelSource(join(at, 'checkpoints', `step-${settings.method.train.steps}`, 'ema.safetensors'));
  const evaluated: EvaluationResults[] = [];
  let drawn = 0;
  try {
    for (const part of variant.parts) {
      const whole = { config: file.config, source: file.source };
      const { config, source: own } = part.first === undefined ? whole : firstBlocks(whole, part.first);
      const source = prefetching(own, { keep: true });
      const grid: EvaluationGrid = { steps: [steps], blocks: part.blocks, guidance: [guidance], solver: 'euler' };
      const out = partFolder(at, part);
      const before = await readResults(out);
      const provenance: Provenance = { ...shared, model: await weightsDigest(source, signal), ...recorded };
      const wanted = cellsOf(grid);
      const isThere = before && wanted.every((key) => before.cells.some((cell) => sameCell(cell, key)));
      if (!isThere) tell('evaluating', drawn, all);
      const [start, per] = [drawn, workOfPart(part, settings) / (settings.samples * part.blocks.length)];
      let told = 0;
      const results = await evaluateModel(engine, {
        ...{ config, source, grid, features, real, provenance, before, algebra, signal },
        judge: isThere ? undefined : await judge(),
        onProgress({ done, samples }) {
          const now = done * settings.samples + samples;
          clock.do(per * Math.max(0, now - told));
          told = Math.max(told, now);
          tell('evaluating', start + now, all);
        },
        onCell: async (so) => void (await writeResults(out, so)),
      });
      drawn += settings.samples * part.blocks.length;
      evaluated.push({
        ...results,
        cells: results.cells.filter((cell) => wanted.some((key) => sameCell(key, cell))),
      });
    }
  } finally {
    await file.close();
  }
  return evaluated;
}

async function recordOf(
  folder: string,
  { variant, seed, folder: name }: Planned,
  evaluated: readonly EvaluationResults[],
): Promise<AblationRun> {
  const metrics = await readMetrics(join(folder, name, 'metrics.jsonl'));
  return {
    ...{ variant: variant.name, seed, folder: name },
    parameters: paramLayout(variant.model).count,
    trainingSeconds: (metrics?.events ?? []).reduce((sum, { seconds }) => sum + seconds, 0),
    cells: evaluated
      .flatMap(({ cells }) => cells)
      .map(({ blocks, fd, secondsPerSample, peakBytes, bytesRead }) => ({
        ...{ blocks, fd, secondsPerSample, peakBytes, bytesRead },
      }))
      .sort((a, b) => a.blocks - b.blocks),
  };
}
