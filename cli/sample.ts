/** `odelt sample`: draws pictures from a model at a chosen number of time steps and blocks. */
import { join } from 'node:path';
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { type Bought, type Budget, parseBudget } from '../evaluation/afford.ts';
import { shippedModel } from '../formats/shipped.node.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { ACTIVATIONS, type Activations, checkActivations } from '../model/dit.ts';
import { classNamesOf } from '../model/weights/model-file.ts';
import { PRECISIONS, type Precision } from '../model/weights/quantize.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import { type ModelSource, prefetching, reporting } from '../model/weights/source.ts';
import { checkPictureSize, gridSize } from '../pictures/picture.ts';
import {
  type Blocks,
  blocksAt,
  describeBlocks,
  LOADING,
  type Loading,
  mostBlocks,
  parseBlocks,
  parseRefresh,
  type Refresh,
} from '../sampling/blocks.ts';
import { chooseSettings, describeSettings, parseBytes, type Settings, type Wanted } from '../sampling/budget.ts';
import type { DecoderChoice, DecoderPrecision } from '../sampling/decoding.ts';
import { jaxLabels } from '../sampling/jax-draws.ts';
import { describeLabel, parseLabels } from '../sampling/labels.ts';
import {
  ADAPTIVE_DEFAULTS,
  checkBlocks,
  checkGuidance,
  checkOneOf,
  checkRefresh,
  checkSolver,
  isAdaptive,
  RNGS,
  type Rng,
  type SampleProgress,
  type SampleRequest,
  SOLVERS,
  type Solver,
} from '../sampling/request.ts';
import { partFiles } from '../sampling/sample-parts.node.ts';
import { Sampler, type Samples } from '../sampling/sampler.ts';
import { parseShard, type Shard, shardRange } from '../sampling/shards.ts';
import type { Controller } from '../sampling/solvers/controller.ts';
import { interruptSignal } from './ends.node.ts';
import { checkShown, openModel, type WhichWeights } from './models.node.ts';
import { bytes, log, ProgressLine, printJson } from './output.node.ts';
import { checkBudgetFlags, openBudget } from './sample-budget.ts';
import { type Decoded, describeDecoded, openDecoding } from './sample-decode.ts';
import { addSampleMerge } from './sample-merge.ts';
import { checkOutputs, isArray, picturesText, writePart, writeSamples } from './sample-output.ts';
import { INDEX_HELP, number, openSession, parseIndex, TUNING_HELP, tuneSession } from './session.node.ts';

interface SampleFlags {
  model: string;
  weights: WhichWeights;
  count?: number;
  labels?: string;
  steps?: number;
  solver?: Solver;
  tolerance?: number;
  controller?: Controller;
  firstStep?: number | 'auto';
  maxSteps?: number;
  guidanceInterval?: [number, number];
  blocks?: string;
  loadBlocks?: Loading;
  refresh?: Refresh;
  precision?: Precision;
  activations?: Activations;
  residentBlocks?: number;
  maxMemory?: number;
  decode?: string;
  decodePrecision?: DecoderPrecision;
  budget?: Budget;
  guidance?: number;
  seed: number;
  rng: Rng;
  batch: number;
  out: string;
  shard?: Shard;
  scale: number;
  adapter?: string;
  adapterIndex?: number;
  tuning?: string;
  json?: boolean;
}

/** Time steps, and the weight of guidance, where nothing is asked. */
const STEPS = 16;
const GUIDANCE = 2;

export function addSample(command: Command): void {
  command
    .option('--model <path>', '.safetensors file, its URL, checkpoint or run folder', shippedModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option(
      '--count <n>',
      'number of pictures (default: eight per label)',
      number('--count', { integer: true, min: 1 }),
    )
    .option(
      '--labels <list>',
      'classes by number or name, e.g. 0,3,9 or sneaker,bag (default: all); "none" for unconditional',
    )
    .option(
      '--steps <T>',
      `steps: 1, 2, 4, ..., 128 (default: ${STEPS}; adaptive solvers choose their own)`,
      number('--steps', { integer: true, min: 1 }),
    )
    .option(
      '--solver <name>',
      'fixed steps: euler (1 evaluation a step), midpoint, heun (2), rk4 (4), consistency (1, with new noise); steps by their error: dopri5, tsit5 (default: euler)',
    )
    .option('--tolerance <e>', 'of dopri5 and tsit5: error of a step (default: 0.001)', number('--tolerance'))
    .option('--controller <name>', 'of dopri5 and tsit5: integral or pi (default: integral)')
    .option('--first-step <h>', 'of dopri5 and tsit5: its length, or auto (default: 0.01)', parseFirstStep)
    .option(
      '--max-steps <n>',
      'of dopri5 and tsit5: most steps, rejected ones included (default: 4096)',
      number('--max-steps', { integer: true, min: 1 }),
    )
    .option(
      '--blocks <L>',
      'transformer blocks to run (default: all), or numbers from times on, e.g. 4@0,8@0.5,12@0.8; auto lets --max-memory choose',
    )
    .option(
      '--load-blocks <when>',
      'of --blocks by time: first (all before the first step, default), along (each before it is needed), or needed (and freed after)',
    )
    .option(
      '--refresh <blocks:every>',
      'of euler: this many blocks in every so many steps, e.g. 12:2; the others run --blocks and reuse what the further ones gave',
      (text) => parseRefresh(text, '--refresh'),
    )
    .option('--precision <p>', 'weights on the GPU: f32, f16 or int8 (default f32, or what --max-memory asks for)')
    .option('--activations <a>', 'activations on the GPU: f32 or f16 (default f32, or what --max-memory asks for)')
    .option(
      '--resident-blocks <K>',
      "most blocks whose weights are on the GPU at a time; the others' pass through",
      number('--resident-blocks', { integer: true, min: 1 }),
    )
    .option(
      '--max-memory <size>',
      'most GPU bytes, e.g. 300MB: chooses what is stored how, how many pictures at once and residency, and says why',
      (text) => parseBytes(text, '--max-memory'),
    )
    .option(
      '--decode <file>',
      "of a model of latents: the autoencoder that makes pictures of them, a file or diffusers' folder; within --max-memory, too",
    )
    .option(
      '--decode-precision <p>',
      "the autoencoder's weights on the GPU: f32 or f16 (default f32, or what --max-memory asks for)",
    )
    .option(
      '--budget <size>',
      "what a picture may take (50ms, 2s) or what the GPU's buffers may (60MB): chooses --steps and --blocks by the model's evaluation",
      (text) => parseBudget(text, '--budget'),
    )
    .option(
      '--guidance <w>',
      `0: no class, 1: the class, else classifier-free guidance at twice the work (default: ${GUIDANCE}; with --budget the evaluation's)`,
      number('--guidance'),
    )
    .option('--guidance-interval <from,to>', 'guide at these times only, e.g. 0.2,0.8 (default: always)', parseInterval)
    .option(
      '--seed <n>',
      'picture n of a seed is the same whatever the batch',
      number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      0,
    )
    .option(
      '--rng <which>',
      "odelt, or jax: the reference's noise for the seed (its own is 42) and, without --labels, its labels",
      'odelt',
    )
    .option('--batch <n>', 'pictures computed at once', number('--batch', { integer: true, min: 1 }), 16)
    .option('--out <file>', 'PNG to write, or a .npy file of the numbers', join('out', 'sample.png'))
    .option(
      '--shard <i/n>',
      'draw part i of n only, from 0, into files named for it beside --out; env, env/n: i from a Slurm array or a Kubernetes job',
      (text) => parseShard(text, '--shard', process.env),
    )
    .option('--scale <n>', 'enlarge pictures', number('--scale', { integer: true, min: 1, max: 16 }), 3)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--tuning <which>', TUNING_HELP)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  odelt sample --steps 4 --blocks 8\n  odelt sample --shard 0/2; odelt sample --shard 1/2; odelt sample merge out/sample-*-of-2.json\n  odelt sample --budget 50ms\n  odelt sample --steps 16 --blocks 4@0,12@0.5\n  odelt sample --labels sandal,sneaker,9 --guidance 2 --seed 3 --out shoes.png\n  odelt sample --model DiT.safetensors --decode vae/ --count 4 --max-memory 400MB\n  odelt sample --solver tsit5 --tolerance 1e-3 --guidance-interval 0.2,0.8',
    )
    .action((flags: SampleFlags) => sample(flags));
  addSampleMerge(command.command('merge'));
}

/** 0.2,0.8. @throws ConfigError for what are not two numbers. */
function parseInterval(text: string): [number, number] {
  const parts = text.split(',').map(number('--guidance-interval'));
  if (parts.length !== 2) throw new ConfigError(`--guidance-interval is '${text}'; write it like 0.2,0.8`);
  return parts as [number, number];
}

const parseFirstStep = (text: string): number | 'auto' => (text === 'auto' ? text : number('--first-step')(text));

/** Pictures in a row: as many as there are of a class. */
const columnsFor = (count: number, labels: readonly (number | null)[]): number =>
  Math.ceil(count / new Set(labels).size);

/**
 * Labels of pictures: `count` of them, the asked ones in equal runs; eight each, of all classes, where nothing is asked.
 * @throws ConfigError; LimitError where they make too large a sheet.
 */
function chooseLabels(
  { labels: text, count, scale, seed, rng, shard, out, batch }: SampleFlags,
  config: ModelConfig,
  imageSize: number,
  names?: readonly string[],
) {
  const { classes } = config;
  const asked: (number | null)[] =
    text === undefined ? Array.from({ length: classes }, (_, i) => i) : parseLabels(text, classes, names, '--labels');
  const total = count ?? 8 * asked.length;
  const columns = columnsFor(total, asked.slice(0, total));
  const side = { width: imageSize, height: imageSize };
  const [from, to] = shard ? shardRange(shard, total, Math.min(batch, total)) : [0, total];
  if (!isArray(out)) {
    const { width, height } = gridSize(to - from, side, { columns, scale });
    checkPictureSize(`a sheet of ${to - from} pictures`, width, height);
  }
  if (rng === 'jax' && text === undefined) return jaxLabels(seed, 0, total, classes);
  return Array.from({ length: total }, (_, i) => asked[Math.floor((i * asked.length) / total)]!);
}

/** The first ten different labels, by number and name. */
function labelsText(labels: readonly (number | null)[], names?: readonly string[]): string {
  const different = [...new Set(labels)];
  const shown = different.slice(0, 10).map((label) => (label === null ? 'none' : describeLabel(label, names)));
  return shown.join(', ') + (different.length > 10 ? ` and ${different.length - 10} more` : '');
}

async function sample(flags: SampleFlags): Promise<void> {
  if (flags.weights !== 'ema' && flags.weights !== 'raw')
    throw new ConfigError(`--weights is '${flags.weights}'; it must be ema or raw`);
  checkBudgetFlags(flags);
  await checkOutputs(flags.out, flags.shard);
  const signal = interruptSignal('stopping');
  const file = await openModel(flags.model, flags.weights, signal);
  try {
    await sampleFrom(file, flags, signal);
  } finally {
    await file.close();
  }
}

/** What is to be sampled, and all that the flags say of how. @throws ConfigError for what the model or the flags do not allow. */
function asked(
  flags: SampleFlags,
  config: ModelConfig,
  shown: Pick<ModelConfig, 'imageSize'>,
  names?: readonly string[],
): { request: SampleRequest; wanted: Wanted } {
  const { precision, activations, residentBlocks, solver = 'euler', guidance = GUIDANCE, guidanceInterval } = flags;
  checkOneOf('--solver', solver, SOLVERS);
  const { tolerance, controller, firstStep, maxSteps } = flags;
  const steps = flags.steps ?? (isAdaptive(solver) ? undefined : STEPS);
  const how = { solver, steps, tolerance, controller, firstStep, maxSteps };
  checkSolver(how, config);
  checkGuidance(guidance, guidanceInterval);
  checkOneOf('--precision', precision, PRECISIONS);
  checkOneOf('--activations', activations, ACTIVATIONS);
  checkOneOf('--rng', flags.rng, RNGS);
  checkOneOf('--load-blocks', flags.loadBlocks, LOADING);
  checkActivations(config, activations ?? 'f32');
  const labels = chooseLabels(flags, config, shown.imageSize, names);
  const batch = Math.min(flags.batch, labels.length);
  const wanted = { blocks: chooseBlocks(flags, config), precision, activations, residentBlocks, batch };
  const { loadBlocks, refresh } = flags;
  if (refresh && wanted.blocks === 'auto') throw new ConfigError('--refresh needs a number of --blocks, not auto');
  const request = { labels, shard: flags.shard, guidance, guidanceInterval, loadBlocks, refresh, ...how };
  if (wanted.blocks !== 'auto') checkRefresh({ ...request, blocks: wanted.blocks }, config);
  return { request, wanted };
}

function chooseBlocks({ blocks, maxMemory }: SampleFlags, config: ModelConfig): Blocks | 'auto' {
  if (blocks === undefined) return Math.max(...allowedLengths(config));
  if (blocks === 'auto') {
    if (maxMemory === undefined) throw new ConfigError('--blocks auto needs --max-memory');
    return 'auto';
  }
  const parsed = parseBlocks(blocks, '--blocks');
  checkBlocks(parsed, config);
  return parsed;
}

async function sampleFrom(file: ModelSource & { path: string }, flags: SampleFlags, signal: AbortSignal) {
  const { config } = file;
  const decoding = await openDecoding(flags, file);
  const pictures = decoding?.shown ?? config;
  checkShown(
    { ...config, ...pictures },
    file.path,
    'give the autoencoder that they come from, or its decoder: --decode FILE',
  );
  const classNames = classNamesOf(file, file.path);
  const budget = flags.budget && openBudget(flags.budget, flags, file);
  const flagged = budget ? { ...flags, ...budget.cheapest } : flags;
  const { request: first, wanted } = asked(flagged, config, pictures, classNames);
  let request = first;
  const { refresh } = request;
  const deepest = (blocks: Blocks) => refresh?.blocks ?? mostBlocks(blocks);
  // Timing a budget reads some weights that sampling needs again; a part says whose samples it has.
  const keep = budget !== undefined || (flags.shard !== undefined && wanted.residentBlocks === undefined);
  const source = prefetching(file.source, { keep });
  const readAhead = ({ blocks, residentBlocks }: Settings) => {
    // What passes through few buffers is not to pile up in the host's memory.
    if (residentBlocks !== undefined) return;
    const first = refresh?.blocks ?? blocksAt(blocks, 0);
    source.prefetch([...groupsFor(config, first), ...groupsFor(config, deepest(blocks))], { signal }); // each once
  };
  const line = new ProgressLine();
  let settings: Settings | undefined;
  if (wanted.blocks !== 'auto' && flags.maxMemory === undefined) {
    settings = { ...wanted, blocks: wanted.blocks, precision: wanted.precision ?? 'f32' };
    readAhead(settings); // from here on weights arrive while the device is acquired and shaders are compiled
  }
  const session = await openSession(flags.adapter, flags);
  const { engine, adapter } = session;
  await tuneSession(session, flags.tuning);
  let bought: Bought | undefined;
  if (budget && settings) {
    ({ bought, request, settings } = await budget.buy({ engine, config, source, request, settings, line, signal }));
    readAhead(settings);
  }
  let choice: DecoderChoice | undefined;
  if (!settings) {
    engine.memory.limit = flags.maxMemory!;
    if (decoding) {
      const found = await decoding.choose(engine, { wanted, request, line, signal });
      choice = found.choice;
      settings = found.sampling!.settings;
      log(found.sampling!.why);
    } else settings = await chosen(engine, config, wanted, request, line, signal);
    readAhead(settings);
  } else if (decoding) ({ choice } = await decoding.choose(engine, { request, line, signal }));
  if (choice) log(choice.why);
  log(
    `${file.path} on ${adapter.adapter.name}: ${picturesText(request)}, ${describeSolver(request)}, L=${describeBlocks(settings.blocks)}${refresh ? `, L=${refresh.blocks} every ${refresh.every} steps` : ''}`,
  );
  log(`labels: ${labelsText(request.labels, classNames)}`);
  const shown = reporting(source, groupsFor(config, deepest(settings.blocks)), (progress) => line.reading(progress));
  const model = new ResidentModel(engine, config, shown, settings);
  const sampler = new Sampler(engine, model, {
    ...settings,
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
  });
  const started = performance.now();
  let samples = await sampler
    .sample({
      ...{ ...request, blocks: settings.blocks, seed: flags.seed, rng: flags.rng, signal },
      onProgress: (progress) => line.update(describeProgress(progress)),
    })
    .finally(() => line.end());
  const seconds = (performance.now() - started) / 1000;
  let decoded: Decoded | undefined;
  if (decoding && choice) {
    sampler.dispose();
    model.dispose();
    ({ samples, said: decoded } = await decoding.decode(engine, samples, choice, line, signal));
  }
  const sheet = { columns: columnsFor(request.labels.length, request.labels), scale: flags.scale };
  const { peak: peakBytes } = engine.memory.report();
  const { seed, rng, shard } = flags;
  let { out } = flags;
  if (shard) {
    const how = { ...request, ...settings, seed, rng, decoded: decoded?.autoencoder, shard: undefined };
    const part = { out, shard, samples, count: request.labels.length, sheet, how };
    out = await writePart(session, source, part, signal);
  } else await writeSamples(out, samples.values, samples.shape, sheet);
  engine.dispose();
  const { evaluations } = samples;
  const taken = { ...stepsTaken(samples), evaluations };
  if (flags.json)
    printJson({
      out,
      ...request,
      ...(shard && { range: samples.range }),
      classNames,
      ...settings,
      ...(bought && { budget: { ...flags.budget, ...bought } }),
      ...(decoded && { decoded }),
      seed,
      rng,
      weights: file.path,
      seconds,
      peakBytes,
      ...taken,
    });
  else {
    if (isAdaptive(request.solver!)) {
      const each = samples.solves.length > 1 ? ` of ${samples.solves.length} batches` : '';
      log(`${taken.accepted} steps accepted, ${taken.rejected} rejected${each}: ${evaluations} evaluations`);
    }
    if (decoded) log(describeDecoded(decoded));
    log(`wrote ${out} in ${seconds.toFixed(1)} s; peak ${bytes(peakBytes)} of GPU buffers`);
    if (shard) log(`with the other parts: odelt sample merge ${partFiles(flags.out, { ...shard, index: '*' }).record}`);
  }
}

/** Steps of all batches together. */
const stepsTaken = ({ solves }: Samples) => ({
  accepted: solves.reduce((sum, { accepted }) => sum + accepted.length, 0),
  rejected: solves.reduce((sum, { rejected }) => sum + rejected, 0),
});

function describeSolver({ solver = 'euler', steps, tolerance = ADAPTIVE_DEFAULTS.tolerance }: SampleRequest): string {
  if (isAdaptive(solver)) return `${solver} at ${tolerance}`;
  return solver === 'euler' ? `T=${steps}` : `${solver}, T=${steps}`;
}

function describeProgress({ done, total, t, rejected }: SampleProgress): string {
  return total === null ? `t=${t.toFixed(3)} after ${done} evaluations, ${rejected} rejected` : `step ${done}/${total}`;
}

/** The settings that fit the engine's memory limit, and a line that says why. */
async function chosen(
  engine: Engine,
  config: ModelConfig,
  wanted: Wanted,
  request: SampleRequest,
  line: ProgressLine,
  signal: AbortSignal,
): Promise<Settings> {
  const began = performance.now();
  const onTry = (tried: Settings) => {
    if (performance.now() - began > 2000) line.update(`trying ${describeSettings(tried)}`);
  };
  const { limit } = engine.memory;
  const { settings, why } = await chooseSettings(engine, config, wanted, request, limit, { signal, onTry }).finally(
    () => line.end(),
  );
  log(why);
  return settings;
}
