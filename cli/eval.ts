/** `odelt eval`: how good samples are at every number of steps and blocks, and what they cost. */
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { describeMachine } from '../bench/machine.node.ts';
import { ConfigError } from '../engine/errors.ts';
import { type EvaluationProgress, evaluateModel, weightsDigest } from '../evaluation/evaluate.ts';
import { type FeatureChoice, parseFeatures } from '../evaluation/feature-choice.ts';
import { cellsOf, checkGrid, type EvaluationGrid } from '../evaluation/grid.ts';
import { REPLICATES } from '../evaluation/measured.ts';
import { type LinearAlgebraName, openLinearAlgebra } from '../evaluation/openblas.node.ts';
import { paretoRows } from '../evaluation/pareto.ts';
import { readResults, resultsFile, writeResults } from '../evaluation/results.node.ts';
import {
  type CellKey,
  checkSameSettings,
  describeCell,
  describeMeasured,
  type EvaluationResults,
  type Provenance,
  resultRows,
  sameCell,
} from '../evaluation/results.ts';
import { readShard, shardFile, writeShardCell } from '../evaluation/shards.node.ts';
import { drawShard, type ShardRecord } from '../evaluation/shards.ts';
import { describeWork } from '../evaluation/waiting.ts';
import { checkOutput } from '../formats/files.node.ts';
import { table } from '../formats/markdown.ts';
import { shippedModel } from '../formats/shipped.node.ts';
import { originIn } from '../model/autoencoder/origin.ts';
import { allowedLengths, type ModelConfig, usualSteps } from '../model/config.ts';
import { firstBlocks } from '../model/weights/first-blocks.ts';
import { prefetching } from '../model/weights/source.ts';
import { type BlocksFrom, blocksFrom, parseBlocks, parseRefresh, type Refresh } from '../sampling/blocks.ts';
import { usualGuidance } from '../sampling/classes.ts';
import { ADAPTIVE_DEFAULTS, checkOneOf, isAdaptive, SOLVERS, type Solver } from '../sampling/request.ts';
import { describeShard, parseShard, type Shard, shardRange } from '../sampling/shards.ts';
import { inLockedFolder } from '../training/lock.node.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { interruptSignal } from './ends.node.ts';
import { addMerge } from './eval-merge.ts';
import {
  checkLinearAlgebra,
  checkRealFlags,
  checkReplicates,
  DATA_HELP,
  FEATURES_HELP,
  LINEAR_ALGEBRA_HELP,
  openReal,
  REFERENCE_HELP,
  REPLICATES_HELP,
} from './eval-real.ts';
import { checkShown, type Evaluated, openDecoder, openModel, type WhichWeights } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { INDEX_HELP, LEVEL_HELP, number, numbers, openSession, parseIndex } from './session.node.ts';

interface EvalFlags {
  weights: WhichWeights;
  steps?: number[];
  tolerance?: number[];
  level?: number[];
  blocks?: number[];
  firstBlocks?: number;
  guidance?: number[];
  solver: Solver[];
  along?: (readonly BlocksFrom[])[];
  refresh?: Refresh[];
  count: number;
  features?: FeatureChoice;
  data?: string;
  reference?: string;
  decode?: string;
  linearAlgebra: LinearAlgebraName;
  replicates: number;
  shard?: Shard;
  lossMap?: boolean;
  times: number;
  seed: number;
  batch: number;
  out: string;
  adapter?: string;
  adapterIndex?: number;
  json?: boolean;
}

export function addEval(command: Command): void {
  command
    .argument('[model]', '.safetensors file, its URL, checkpoint or run folder', shippedModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option('--steps <Ts>', 'numbers of steps (default: 1,4,16)', numbers('--steps', { integer: true, min: 1 }))
    .option(
      '--blocks <Ls>',
      "numbers of blocks (default: all the model's)",
      numbers('--blocks', { integer: true, min: 1 }),
    )
    .option(
      '--first-blocks <n>',
      'take the first n blocks of the model alone, also of a conventional transformer, which is then cut short',
      number('--first-blocks', { integer: true, min: 1 }),
    )
    .option(
      '--guidance <ws>',
      'guidance weights (default: 1, or 0 of a model that was trained without labels)',
      numbers('--guidance'),
    )
    .option('--solver <names>', `${SOLVERS.join(', ')}; several separated by commas`, (text) => text.split(','), [
      'euler',
    ])
    .option(
      '--along <blocks>',
      'numbers of blocks by time, as --blocks of odelt sample, beside those of --blocks; may be given again: 4@0,12@0.5',
      (text: string, before: (readonly BlocksFrom[])[] = []) => [...before, blocksFrom(parseBlocks(text, '--along'))],
    )
    .option(
      '--refresh <blocks:every>',
      'of euler: late blocks in some steps only, beside every smaller number of --blocks; may be given again: 12:2',
      (text: string, before: Refresh[] = []) => [...before, parseRefresh(text, '--refresh')],
    )
    .option(
      '--tolerance <es>',
      `of dopri5 and tsit5, instead of --steps: errors of a step (default: ${ADAPTIVE_DEFAULTS.tolerance})`,
      numbers('--tolerance'),
    )
    .option('--level <ds>', `${LEVEL_HELP}; several separated by commas`, numbers('--level'))
    .option('--count <n>', 'samples of each cell', number('--count', { integer: true, min: 1 }), 1000)
    .option('--features <name>', `${FEATURES_HELP} (default: auto)`, (text: string) => parseFeatures(text))
    .option('--data <path>', DATA_HELP)
    .option('--reference <file>', REFERENCE_HELP)
    .option(
      '--decode <file>',
      "of a model of latents: the autoencoder that makes pictures of them, a file or diffusers' folder",
    )
    .option('--linear-algebra <who>', LINEAR_ALGEBRA_HELP, 'auto')
    .option('--replicates <n>', REPLICATES_HELP, number('--replicates', { integer: true, min: 0 }), REPLICATES)
    .option(
      '--seed <n>',
      'of noise, subsets and intervals',
      number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      0,
    )
    .option('--batch <n>', 'samples computed at once', number('--batch', { integer: true, min: 1 }), 128)
    .option('--out <folder>', 'for results.json, results.csv and plots (.svg)', join('out', 'eval'))
    .option(
      '--shard <i/n>',
      'draw part i of n only, from 0, into a folder of its own within --out; env, env/n: i from a Slurm array or a Kubernetes job',
      (text) => parseShard(text, '--shard', process.env),
    )
    .option('--loss-map', 'measure losses of held-out pictures by time, level and blocks instead of samples')
    .option(
      '--times <n>',
      'of --loss-map: times 0, 1/n, ...',
      number('--times', { integer: true, min: 1, max: 128 }),
      8,
    )
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Draws --count samples for every combination of steps, blocks and guidance, sample n from the same noise and for the
same class in all of them, and compares each set with real pictures:

  FD         Fréchet distance of the features: lower is better, and larger for fewer samples
  KID        kernel distance: lower is better, 0 on average for real pictures whatever their number
  precision  share of samples that look like real pictures; recall: share of real pictures that samples look like
  density    the same as precision, counted by neighbours; coverage: share of real pictures with a sample near
  agreement  share of samples that the classifier, or else their nearest real pictures, take for the class asked for
  nearer     probability that a sample is nearer to a real picture than a held-out one is: 0.5 is right, 1 are copies
             of these pictures; copies of what the model was trained on show only if that is in --data

Intervals are of 95 %. Compare cells by "behind the best", the difference of distances: its interval knows that they
have the same noise, and is far narrower than those of the distances. The line "real" has held-out real pictures in
the samples' place: no model gets below it but by chance. Figures of other features, counts or data cannot be compared
with these. Ctrl-C leaves the cells that are done; the same command goes on, and other steps, blocks, weights and
levels may be added to a folder.

Examples:
  odelt eval --steps 1,4 --blocks 4,12 --count 200
  odelt eval runs/mine --data data/cifar-10 --guidance 1,2 --count 10000 --out out/mine
  odelt eval --shard 0/2; odelt eval --shard 1/2; odelt eval merge out/eval/shard-*`,
    )
    .action((model: string, flags: EvalFlags) => evaluate(model, flags));
  addMerge(command.command('merge'));
}

async function evaluate(model: string, flags: EvalFlags): Promise<void> {
  checkOneOf('--weights', flags.weights, ['ema', 'raw']);
  for (const solver of flags.solver) checkOneOf('--solver', solver, SOLVERS);
  checkRealFlags(flags);
  checkLinearAlgebra(flags.linearAlgebra);
  checkReplicates(flags.replicates);
  const alien = (
    ['steps', 'tolerance', 'along', 'refresh', 'level', 'features', 'reference', 'decode', 'shard'] as const
  ).find((name) => flags[name] !== undefined);
  if (flags.lossMap && alien) {
    throw new ConfigError(`--loss-map draws no samples, and --${alien} says how they are drawn or compared`, {
      hint: `leave one of them out`,
    });
  }
  const out = flags.shard ? join(flags.out, `shard-${flags.shard.index}-of-${flags.shard.of}`) : flags.out;
  await checkOutput('--out', out, { folder: true });
  const signal = interruptSignal('stopping');
  const file = await openModel(model, flags.weights, signal);
  try {
    const evaluated = flags.firstBlocks === undefined ? file : { ...file, ...firstBlocks(file, flags.firstBlocks) };
    if (flags.lossMap) return await (await import('./eval-losses.ts')).mapLosses(evaluated, flags, signal);
    await inLockedFolder(out, () => evaluateFrom(evaluated, { ...flags, out }, signal));
  } finally {
    await file.close();
  }
}

/** The cells that flags ask for. @throws ConfigError for flags of another kind of solver */
function gridOf(
  { steps, tolerance, blocks, along, refresh, guidance, solver, level }: EvalFlags,
  config: ModelConfig,
): EvaluationGrid {
  const adaptive = solver.filter(isAdaptive);
  const named = solver.join(' and ');
  if (adaptive.length === 0 && tolerance) {
    throw new ConfigError(`--tolerance is for adaptive solvers; ${named} takes fixed steps`, {
      hint: 'give --steps, or use --solver tsit5 or dopri5',
    });
  }
  if (adaptive.length === solver.length && steps) {
    throw new ConfigError(`--solver ${named} chooses its own steps; --steps ${steps.join()} were asked for`, {
      hint: 'give --tolerance, or compare numbers of steps with a solver of fixed steps',
    });
  }
  return {
    ...{ blocks: blocks ?? allowedLengths(config), schedules: along, refreshes: refresh, solver },
    guidance: guidance ?? [usualGuidance(config)],
    steps: adaptive.length === solver.length ? [] : (steps ?? usualSteps(config, [1, 4, 16])),
    tolerances: adaptive.length === 0 ? [] : (tolerance ?? [ADAPTIVE_DEFAULTS.tolerance]),
    levels: level,
  };
}

async function evaluateFrom(
  { config, source: file, path, metadata }: Evaluated,
  flags: EvalFlags,
  signal: AbortSignal,
): Promise<void> {
  const opening =
    flags.decode === undefined ? undefined : await openDecoder(flags.decode, config, originIn(metadata, path));
  const pictures = { ...config, ...opening?.shown };
  checkShown(pictures, path, 'give the autoencoder that they come from, or its decoder: --decode FILE');
  const { count, seed, batch, out, shard } = flags;
  const grid = gridOf(flags, config);
  checkGrid(grid, count, config);
  const range = shard && shardRange(shard, count, batch);
  const before = shard ? undefined : await readResults(out);
  const part = shard && (await readShard(out));
  for (const name of shard ? ['shard.json'] : ['results.json', 'results.csv'])
    await checkOutput('--out', join(out, name));
  const check = (data: Parameters<typeof checkComparable>[1]) => checkComparable(pictures, data);
  const newEngine = async () => (await openSession(flags.adapter, flags)).engine;
  const opened = await openReal(flags, pictures, { seed, count, signal, check, newEngine });
  const { real, judges, features, record } = opened;
  const algebra = await openLinearAlgebra(flags.linearAlgebra);
  const source = prefetching(file, { keep: true });
  const model = await weightsDigest(source, signal);
  const session = await openSession(flags.adapter, flags);
  const { engine } = session;
  const line = new ProgressLine();
  try {
    const decoder = await opening?.create(engine, { signal });
    const { name, driver } = session.adapter.adapter;
    const { odelt, ...versions } = describeMachine().versions as { odelt: string };
    const provenance: Provenance = {
      ...{ model, ...(decoder && { decoder: decoder.digest }), weights: flags.weights, seed, samples: count, batch },
      ...record,
      ...{ adapter: [name, driver].filter(Boolean).join(', '), odelt, linearAlgebra: algebra.name, versions },
    };
    if (before) checkSameSettings(before.provenance, provenance, resultsFile(out));
    if (part) checkSameSettings(part.provenance, provenance, shardFile(out));
    const wanted = cellsOf(grid);
    const there: readonly CellKey[] = part ? part.cells.map(({ key }) => key) : (before?.cells ?? []);
    const done = wanted.filter((key) => there.some((cell) => sameCell(cell, key))).length;
    const samples = range ? range[1] - range[0] : count;
    const which = shard ? `part ${describeShard(shard)}: ` : '';
    log(
      `${basename(path)} on ${name}: ${which}${wanted.length} cells of ${samples} samples${done ? `, ${done} of them done` : ''}; features: ${features.name}`,
    );
    const tell = ({ at, done: ready, samples: drawn, work }: EvaluationProgress) => {
      const what = at === 'real pictures' ? at : describeCell(at);
      const how = work ? `: ${describeWork(work)}` : what === at ? '' : `: sample ${drawn}/${samples}`;
      line.update(`${ready}/${wanted.length} cells; ${what}${how}`);
    };
    if (shard && range) {
      const { imageSize, channels } = pictures;
      let so: ShardRecord = part ?? { shard, range, shape: { imageSize, channels }, provenance, cells: [] };
      await drawShard(engine, {
        ...{ config, source, decoder, grid, features, judges, shard, provenance, signal, before: there },
        onProgress: tell,
        onCell: async (drawn) => {
          so = await writeShardCell(out, so, drawn);
          line.clear();
          log(`${describeCell(drawn.key)}: ${(drawn.seconds / samples).toFixed(4)} s per sample`);
        },
      });
      line.end();
      if (flags.json) printJson(so);
      log(`part ${describeShard(shard)} is in ${out}; with the others: odelt eval merge ${join(out, '..', 'shard-*')}`);
      return;
    }
    const shown = new Set(before?.cells.map(describeCell));
    const results = await evaluateModel(engine, {
      ...{ config, source, decoder, grid, features, real, provenance, before, algebra, signal },
      replicates: flags.replicates,
      onProgress: tell,
      onCell: async (so) => {
        await writeResults(out, so);
        const last = so.cells.find((cell) => !shown.has(describeCell(cell)))!;
        shown.add(describeCell(last));
        line.clear();
        log(
          `${describeCell(last)}: ${features.distance ?? 'FD'} ${describeMeasured(last.fd)}, ${last.secondsPerSample.toFixed(4)} s per sample`,
        );
      },
    });
    line.end();
    const files = await writeResults(out, results);
    if (flags.json) printJson(results);
    else printTables(results);
    log(`wrote ${files.length} files into ${out}`);
  } finally {
    line.end();
    await opened.close();
    engine.dispose();
  }
}

/** All cells, and of several the best for each cost. */
function printTables(results: EvaluationResults): void {
  print(table(resultRows(results)).join('\n'));
  const { cells, pareto } = results;
  if (cells.length < 2 || !pareto) return;
  for (const cost of ['seconds', 'bytes'] as const) print(`\n${table(paretoRows(pareto[cost], cost)).join('\n')}`);
}
