/** `odelt ablation`: why the method works, by training and evaluating variants of it with one budget. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { describeMachine } from '../bench/machine.node.ts';
import { ConfigError } from '../engine/errors.ts';
import { runAblation } from '../evaluation/ablation.node.ts';
import { ablationRows, type Variant, variantNames, variantOf } from '../evaluation/ablation.ts';
import { type FeatureChoice, parseFeatures } from '../evaluation/feature-choice.ts';
import { checkGrid } from '../evaluation/grid.ts';
import { openLinearAlgebra } from '../evaluation/openblas.node.ts';
import { describeMeasured } from '../evaluation/results.ts';
import { checkOutput } from '../formats/files.node.ts';
import { table } from '../formats/markdown.ts';
import { preset, usualSteps } from '../model/config.ts';
import { usualGuidance } from '../sampling/classes.ts';
import { parseTrainConfig, TRAIN_OPTIONS, type TrainConfig } from '../training/config.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import { modelAsTrained } from '../training/model-as-trained.ts';
import { modelForData } from '../training/model-for-data.ts';
import { factsOf } from '../training/objectives/facts.ts';
import { MODEL_OPTIONS, OUT_OPTIONS, settingsOf } from '../training/settings.ts';
import { checkTeacher } from '../training/start.ts';
import { interruptSignal } from './ends.node.ts';
import { FEATURES_HELP, openReal } from './eval-real.ts';
import { addFlags, givenFlags } from './option-flags.ts';
import { duration, log, ProgressLine, print, printJson } from './output.node.ts';
import { number, numbers, openSession } from './session.node.ts';
import { dataPlace, encodedChannels, inFlags, layersBeforeFlags, openPlace, placeOf } from './train-flags.ts';

interface AblationFlags {
  variants?: string[];
  seeds: number[];
  updates?: number;
  samples?: number;
  data?: string;
  preset?: string;
  config?: string;
  set?: string[];
  steps?: number;
  guidance?: number;
  count: number;
  features?: FeatureChoice;
  out: string;
  adapter?: string;
  json?: boolean;
}

/** What a run is without flags: a few minutes on two CPU cores, and enough to tell variants apart. */
const DEFAULTS = { preset: 'tiny', model: { patch: 7 }, emaDecay: 0.99, samples: 60_000 };
/** Samples drawn at once, as `odelt eval` has it. */
const BATCH = 128;

/** Options of training that every run shares: not those that variants differ in. */
const { steps: _, seed: __, lengthTarget: ___, lengthEvery: ____, ...SHARED_OPTIONS } = TRAIN_OPTIONS;
const { saveEvery } = OUT_OPTIONS;

export function addAblation(command: Command): void {
  const integer = (name: string, min = 1) => number(name, { integer: true, min });
  command
    .option('--variants <names>', 'separated by commas (default: all)', (text) => text.split(','))
    .option(
      '--seeds <ns>',
      'seeds of training',
      numbers('--seeds', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      [1, 2],
    )
    .option('--samples <n>', `samples that each run trains on (default ${DEFAULTS.samples})`, integer('--samples'))
    .option('--updates <n>', 'the same in updates', integer('--updates'))
    .option('--data <path>', 'pictures, as of odelt train (default: bundled)')
    .option('--preset <name>', 'the model, as of odelt train (default: tiny, with patches of 7)')
    .option('--config <file>', 'YAML file of settings of model, train and data')
    .option(
      '--set <option=value>',
      'any option of model or train, as of odelt train; may be given again',
      (setting: string, before: string[] = []) => [...before, setting],
    );
  addFlags(command, MODEL_OPTIONS);
  addFlags(command, SHARED_OPTIONS, { emaDecay: { default: DEFAULTS.emaDecay } });
  addFlags(command, { saveEvery });
  command
    .option('--steps <T>', 'time steps of the samples (default: 16, or the finest)', integer('--steps'))
    .option(
      '--guidance <w>',
      'guidance weight of the samples (default: 1, or 0 of models that are trained without labels)',
      number('--guidance'),
    )
    .option('--count <n>', 'samples of each run and number of blocks', integer('--count'), 2000)
    .option('--features <name>', `${FEATURES_HELP} (default: auto)`, (text: string) => parseFeatures(text))
    .option('--out <folder>', 'for runs, ablation.json, .csv, .md and .svg', join('out', 'ablation'))
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Trains every variant with every seed and the same budget, draws samples at every number of blocks L, and compares
their Fréchet distances:

  method       the method: length wiring, length consistency with a target at a drawn number of blocks
  no-length    no row learns length consistency (train.lengthEvery 0); numbers of blocks are drawn as before
  full-target  length targets are of all blocks (train.lengthTarget full)
  cut          a conventional transformer, trained with all blocks; sampling runs the first L alone
  small-L      a conventional transformer of L blocks, trained by itself
  groups-N     length wiring with groups of N blocks, where the model has others

All variants are trained with the first seed before any is with the second. Ctrl-C leaves everything whole; the same
command goes on, in the middle of a run, too. Variants and seeds may be added to a folder.

Examples:
  odelt ablation
  odelt ablation --variants method,no-length --seeds 1,2,3 --samples 30000
  odelt ablation --preset tiny --width 128 --samples 500000 --adapter gpu --out out/large`,
    )
    .action(async (flags: AblationFlags) => {
      const { layers, origins } = await layersBeforeFlags(flags);
      await ablate(flags, layers).catch((error: unknown) => inFlags(error, origins));
    });
}

/** Updates of each run. @throws ConfigError for two budgets */
function updatesOf({ updates, samples }: AblationFlags, train: Partial<TrainConfig>): number {
  if (updates !== undefined && samples !== undefined) {
    throw new ConfigError(`--updates ${updates} and --samples ${samples} both say how long runs are`, {
      hint: 'leave one of them out',
    });
  }
  const { batch, accumulate } = { ...{ batch: TRAIN_OPTIONS.batch.default, accumulate: 1 }, ...train };
  const inUpdates = (count: number) => Math.max(1, Math.ceil(count / (batch * accumulate)));
  return updates ?? (samples === undefined ? (train.steps ?? inUpdates(DEFAULTS.samples)) : inUpdates(samples));
}

async function ablate(flags: AblationFlags, before: Parameters<typeof settingsOf>[0]): Promise<void> {
  const { variants: names, seeds, count, out } = flags;
  const settings = settingsOf([
    { model: { preset: DEFAULTS.preset, ...DEFAULTS.model }, train: { emaDecay: DEFAULTS.emaDecay } },
    ...before,
    {
      model: { ...(flags.preset === undefined ? {} : { preset: flags.preset }), ...givenFlags(MODEL_OPTIONS, flags) },
      train: givenFlags(SHARED_OPTIONS, flags),
      data: flags.data === undefined ? {} : { path: dataPlace(flags.data) },
      out: givenFlags({ saveEvery }, flags),
    },
  ]);
  const train = parseTrainConfig({ ...settings.train, steps: updatesOf(flags, settings.train) });
  checkTeacher(train, false);
  if (new Set(seeds).size < seeds.length) throw new ConfigError(`--seeds has a number twice: ${seeds.join(', ')}`);
  if (names && new Set(names).size < names.length)
    throw new ConfigError(`--variants has a name twice: ${names.join(', ')}`);
  await checkOutput('--out', out, { folder: true });
  const signal = interruptSignal('stopping');
  const given = { ignoreDt: !factsOf(train.objective).stepLevel, ...settings.model };
  const presetName = settings.preset!;
  const place = dataPlace(settings.data.path);
  const size = given.imageSize ?? preset(presetName).imageSize;
  const data = await openPlace(place, { signal, size, channels: encodedChannels(given.channels) });
  const method = { model: modelAsTrained(modelForData(presetName, data, given), train), train };
  const { guidance = usualGuidance(method.model), steps = usualSteps(method.model, [16])[0]! } = flags;
  const variants: Variant[] = (names ?? variantNames(method)).map((name) => variantOf(name, method));
  for (const { model, parts } of variants) {
    for (const { blocks, first } of parts) {
      const drawn = first === undefined ? model : { ...model, depth: first };
      checkGrid({ steps: [steps], blocks, guidance: [guidance], solver: 'euler' }, count, drawn);
    }
  }
  const newEngine = async () => (await openSession(flags.adapter)).engine;
  const opening = { seed: 0, count, signal, newEngine };
  const opened = await openReal({ data: placeOf(place), features: flags.features }, method.model, opening);
  const algebra = await openLinearAlgebra('auto');
  const session = await openSession(flags.adapter);
  const line = new ProgressLine();
  try {
    const { name, driver } = session.adapter.adapter;
    const { odelt, ...versions } = describeMachine().versions as { odelt: string };
    const { pixels, labels } = fingerprint(data);
    const { seed: own, ...shared } = train;
    log(
      `${variants.length} variants, ${seeds.length} seeds on ${name}: ${train.steps} updates of ${train.batch * train.accumulate} samples each; features: ${opened.features.name}`,
    );
    const results = await runAblation(session.engine, {
      ...{ folder: out, variants, seeds, data, place, features: opened.features, real: opened.real, algebra, signal },
      settings: {
        ...{ method: { model: method.model, train: shared }, trainedOn: { pixels, labels }, steps, guidance },
        ...{ weights: 'ema', seed: 0, samples: count, batch: BATCH, ...opened.record },
        ...{ adapter: [name, driver].filter(Boolean).join(', '), odelt },
      },
      recorded: { linearAlgebra: algebra.name, versions },
      saveEvery: settings.out.saveEvery,
      environment: { adapter: session.adapter, node: process.version, command: process.argv.slice(2) },
      onProgress({ variant, seed, runs, done, doing, at, of, left }) {
        const what = doing === 'training' ? `update ${at}/${of}` : `sample ${at}/${of}`;
        const rest = left === null ? '' : `; ${duration(left)} left`;
        line.update(`${done}/${runs} runs; ${variant}, seed ${seed}: ${what}${rest}`);
      },
      onRun({ variant, seed, cells }) {
        line.clear();
        log(
          `${variant}, seed ${seed}: FD ${cells.map(({ blocks, fd }) => `L=${blocks} ${describeMeasured(fd)}`).join(', ')}`,
        );
      },
      onNotice(text) {
        line.clear();
        log(text);
      },
    });
    line.end();
    if (flags.json) printJson(results);
    else print(table(ablationRows(results)).join('\n'));
    log(`wrote ablation.json, .csv, .md and .svg into ${out}`);
  } finally {
    line.end();
    await opened.close();
    session.engine.dispose();
  }
}
