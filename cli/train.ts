/** `odelt train`: trains a model into a run folder. */
import type { Command } from 'commander';
import type { Communicator } from '../cluster/communicator.ts';
import { launchOf } from '../cluster/launch.node.ts';
import { ConfigError } from '../engine/errors.ts';
import type { MemoryReport } from '../engine/memory/accountant.ts';
import { checkOutput } from '../formats/files.node.ts';
import { spreadWarning } from '../model/autoencoder/spread.ts';
import { paramLayout } from '../model/params.ts';
import { TRAIN_DEFAULTS, TRAIN_OPTIONS } from '../training/config.ts';
import { isPaired, isStreamed, latentsOrigin } from '../training/data/dataset.ts';
import { validationLoss } from '../training/metrics.ts';
import { RECIPES } from '../training/recipes.ts';
import { runTraining } from '../training/run.node.ts';
import { averageDecay } from '../training/schedule.ts';
import { DATA_OPTIONS, type Layer, MODEL_OPTIONS, OUT_OPTIONS, seconds, settingsOf } from '../training/settings.ts';
import type { Trainer } from '../training/trainer.ts';
import { adaptersText, asCluster, sharedText } from './cluster.node.ts';
import { interruptSignal } from './ends.node.ts';
import { addFlags } from './option-flags.ts';
import { bytes, duration, ProgressLine, printJson, log as say } from './output.node.ts';
import { INDEX_HELP, number, openSession, parseIndex, TUNING_HELP, tuneAsBefore, tuneSession } from './session.node.ts';
import { channels, inFlags, layersBeforeFlags, layersOfFlags, type TrainFlags } from './train-flags.ts';
import { begunBefore, newRun, readingProgress, resumedRun } from './train-start.ts';
import { drawLosses, watchOf } from './train-watch.ts';

const RUN_FOLDER = 'runs/train';

export function addTrain(command: Command): void {
  command
    .option(
      '--data <path>',
      'IDX or CIFAR folder, folder with one sub-folder of pictures per class, tar shards (WebDataset), parquet files, or .npy/.npz arrays: see docs/data.md (default: bundled); with --resume, where the same data are now',
    )
    .option(
      '--recipe <name>',
      `settings of a published run: ${Object.entries(RECIPES)
        .map(([name, { settings, data }]) => `${name} (${settings.model?.preset}; data: ${data})`)
        .join('; ')}. These runs start from a checkpoint of shortcut-models: --init`,
    )
    .option(
      '--config <file>',
      'YAML file of settings in sections model, train, data and out; a run folder has one: config.yaml',
    )
    .option(
      '--set <option=value>',
      'any option by its path, such as train.lr=1e-4 or model.lengths.min=8; may be given again. Defaults yield to --recipe, that to --config, that to --set, that to other flags',
      (setting: string, before: string[] = []) => [...before, setting],
    )
    .option(
      '--preset <name>',
      'tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2: patch, width, depth, heads and lengths; the rest follows the data (default tiny)',
    )
    .option(
      '--channels <n>',
      'of encoded pictures, 1 (grey) or 3 (colour) (default: 3, or 1 where all are grey and in memory); other formats have their own',
      channels,
    );
  addFlags(command, MODEL_OPTIONS, {
    imageSize: {
      help: 'side that encoded pictures are cropped and scaled to (default: 28 for tiny, 32 for the others); other formats have their own',
    },
  });
  command
    .option(
      '--teacher <path>',
      'trained model (file, checkpoint or run folder) of the same sizes, for progressive and consistency-distillation; the run starts from it too, unless --init is given',
    )
    .option(
      '--init <path>',
      'start from these weights (file, checkpoint or run folder): every parameter of the same name and shape is copied',
    )
    .option('--out <folder>', `run folder: config, metrics.jsonl, checkpoints (default ${RUN_FOLDER})`)
    .option(
      '--resume [step]',
      'go on from the newest checkpoint in --out, or from another (step-250); its configuration holds, but --steps, --lr, --warmup, --clip, --ema-decay, --bad-pictures, --recompute and --shard-state may change. auto: begin where there is no checkpoint, else go on',
      resumeStep,
    );
  addFlags(command, DATA_OPTIONS);
  addFlags(command, OUT_OPTIONS);
  addFlags(command, TRAIN_OPTIONS, { emaDecay: { default: '0.99; 0.999 from 10,000 updates on' } });
  command
    .option('--unconditional', 'train without labels')
    .option('--distill-guidance <weight>', 'teach the guided velocity at this weight too', number('--distill-guidance'))
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--tuning <which>', `${TUNING_HELP}; a run keeps to what it began with unless another is named`)
    .option('--json', 'print one JSON document at the end instead of text')
    .addHelpText(
      'after',
      `
Examples:
  odelt train --steps 500 --out runs/first
  odelt train --resume --out runs/first
  odelt train --resume step-250 --lr 3e-4 --out runs/first    (from an earlier checkpoint, more slowly)
  odelt train --resume auto --out runs/first                  (begins, or goes on: for jobs that are started again)
  odelt train --data my-pictures/ --preset dit-s/2 --batch 16
  odelt train --objective naive --out runs/flow
  odelt train --objective progressive --teacher runs/flow --out runs/few-steps
  odelt train --preset dit-b/2 --batch 8 --accumulate 4 --recompute blocks    (less memory)
  odelt train --recipe imagenet256-xl --init shortcut.safetensors --data my-latents/ --out runs/xl
  odelt train --resume --lr 1e-5 --steps 200000 --out runs/xl    (as the recipes go on)
  odelt train --config runs/first/config.yaml --out runs/again

Ctrl-C finishes the update, writes a checkpoint and exits with 130; --resume continues bit for bit.`,
    )
    .action(async (flags: TrainFlags) => {
      const { layers, origins } = await layersBeforeFlags(flags);
      await asCluster((processes) => train(flags, layers, processes)).catch((error: unknown) =>
        inFlags(error, origins),
      );
    });
}

function resumeStep(text: string): number | 'auto' {
  if (text === 'auto') return text;
  const step = /^(?:step-)?(\d+)$/.exec(text)?.[1];
  if (step !== undefined) return Number(step);
  throw new ConfigError(`--resume is '${text}'; it must be a checkpoint, such as step-250, or auto`, {
    hint: 'leave that out for the newest checkpoint; --out names the run folder',
  });
}

/** `processes`: those that were started together; the first of them alone reads and writes the run folder, and says how it goes. */
async function train(given: TrainFlags, before: readonly Layer[], processes: Communicator): Promise<void> {
  const speaks = processes.rank === 0;
  const log = speaks ? say : () => {};
  const layers = [...before, ...layersOfFlags(given)];
  const folder = given.out ?? settingsOf(layers).out.folder ?? RUN_FOLDER;
  const flags = await begunBefore(given, folder, processes);
  const { steps = TRAIN_DEFAULTS.steps } = settingsOf(layers).train;
  const own: Layer = flags.resume === undefined ? { train: { emaDecay: averageDecay(steps) } } : {};
  const settings = settingsOf([own, ...layers]);
  if (speaks) await checkOutput('--out', folder, { folder: true });
  const signal = interruptSignal();
  const line = speaks ? new ProgressLine() : { update: () => {}, end: () => {} };
  const reading = { signal, onProgress: readingProgress(line), onRecognised: (what: string) => log(`data: ${what}`) };
  const opening =
    flags.resume !== undefined
      ? resumedRun(folder, flags, settings, reading, processes)
      : newRun(flags, settings, reading, log);
  const { config, data, held, params, teacher } = await opening.finally(() => line.end());
  for (const { file, reason } of data.skipped) log(`skipped ${file}: ${reason}`);
  const session = await openSession(flags.adapter, { ...flags, localRank: launchOf()?.localRank ?? undefined });
  if (flags.resume !== undefined && flags.tuning === undefined) await tuneAsBefore(session, config.tuning);
  else await tuneSession(session, flags.tuning);
  const { model, train } = config;
  const size = `${data.height}x${data.width}x${data.channels}`;
  const where = isStreamed(data) ? ', read from disk as they are needed' : '';
  log(`${data.name}: ${data.count} pictures of ${size}, ${data.classes} classes${where}`);
  const warning =
    isStreamed(data) && data.spread && spreadWarning(data.name, data.spread, data.latents?.scaling.factor);
  if (warning) log(`warning: ${warning}`);
  if (held) log(`validation: ${held.count} pictures that are not trained on`);
  if (isPaired(data)) log(`${data.name} is paired: each picture trains with its own noise x0, none is drawn`);
  log(
    `model: ${paramLayout(model).count.toLocaleString('en')} parameters, ${model.depth} blocks of width ${model.width}`,
  );
  log(averageText(train.emaDecay));
  const adapters = await processes.exchange(session.adapter.adapter.name);
  log(processes.size === 1 ? `adapter: ${adapters[0]}` : `${processes.size} processes: ${adaptersText(adapters)}`);
  if (flags.adapterIndex === undefined) for (const text of sharedText(session.adapter)) log(text);
  const { saveEvery, keep, keepEvery, maxTime, validateEvery, validationPictures } = settings.out;
  const watch = speaks
    ? await watchOf(session.engine, { ...config, latents: latentsOrigin(data) }, settings.out, signal)
    : undefined;
  let first: number | null = null;
  let validated = '';
  const started = performance.now();
  let sinceStart = started;
  let last: unknown = null;
  const checkpoint = await runTraining(session.engine, {
    folder,
    config,
    data,
    params,
    teacher,
    resume: flags.resume ?? false,
    restart: given.resume === 'auto',
    otherTuning: flags.tuning !== undefined,
    saveEvery,
    keep,
    keepEvery,
    maxTime: seconds(maxTime) ?? undefined,
    began: 0, // the time of a job includes its start
    validation: held && { data: held, every: validateEvery, pictures: validationPictures },
    watch,
    communicator: processes,
    environment: {
      adapter: session.adapter,
      ...(processes.size > 1 ? { adapters } : {}),
      node: process.version,
      command: process.argv.slice(2),
    },
    signal,
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
    onReady(trainer, at) {
      line.end();
      first = at;
      sinceStart = performance.now();
      log(
        `${trainer.plan.dispatches} dispatches per batch, ${bytes(trainer.plan.bytes)} of activations (lower bound ${bytes(trainer.plan.lowerBound)})`,
      );
      log(memoryText(session.engine.memory.report()));
      const { divided } = trainer.plan;
      if (divided) log(dividedText(divided, processes.size));
    },
    onStep(event) {
      last = event;
      const perStep = (performance.now() - sinceStart) / 1000 / (event.step - first!);
      const { loss, flow, time, length } = event.losses;
      if (event.validation) validated = `  validation ${validationLoss(event.validation.average).toFixed(4)}`;
      const parts = [
        flow === undefined ? '' : `flow ${flow.toFixed(4)}`,
        time === undefined ? '' : `time ${time.toFixed(4)}`,
        length === undefined ? '' : `length ${length.toFixed(4)}`,
      ];
      line.update(
        `step ${event.step}/${train.steps}  loss ${loss.toFixed(4)} (${parts.filter(Boolean).join(', ')})${validated}  ` +
          `${((train.batch * train.accumulate) / perStep).toFixed(1)} samples/s  ${duration((train.steps - event.step) * perStep)} left`,
        event.step === train.steps,
      );
    },
    onBadPicture({ message }, count) {
      line.end();
      const who = processes.size > 1 ? `rank ${processes.rank}: ` : '';
      say(`${who}${message}: skipped, the next one takes its place (${count} so far)`);
    },
    onNotice(text) {
      line.end();
      log(text);
    },
    onSave(folder) {
      line.end();
      log(`saved ${folder}`);
    },
  }).finally(async () => {
    line.end();
    // Not into the folder of another run, which was refused.
    if (speaks && first !== null) await drawLosses(folder);
  });
  session.engine.dispose();
  if (!speaks) return;
  if (flags.json) printJson({ checkpoint, seconds: (performance.now() - started) / 1000, last });
  else log(`done: ${checkpoint}`);
}

/** What the average is one of. */
const averageText = (decay: number): string =>
  `average of the weights: each update keeps ${decay} of it, a memory of ${Math.round(1 / (1 - decay)).toLocaleString('en')} updates`;

/** All that training allocates, by what it is for; only buffers for reading back come later. */
function memoryText({ live, byKind }: MemoryReport): string {
  const { weights = 0, gradients = 0, optimizer = 0, activations = 0 } = byKind;
  const parts = {
    weights,
    gradients,
    optimizer,
    activations,
    other: live - weights - gradients - optimizer - activations,
  };
  const text = Object.entries(parts).map(([name, size]) => `${name} ${bytes(size)}`);
  return `GPU memory: ${bytes(live)} (${text.join(', ')})`;
}

/** What of the optimizer's state is on this process, as planned. */
function dividedText({ own, whole, average }: NonNullable<Trainer['plan']['divided']>, size: number): string {
  const what = average ? 'moments and average' : 'moments; the average is whole on each, as it is needed there';
  return `optimizer's state: ${bytes(own)} of ${bytes(whole)} on each of ${size} processes, which divide its ${what}`;
}
