/** `odelt train`: trains a model into a run folder. */
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import type { MemoryReport } from '../engine/memory/accountant.ts';
import { checkOutput } from '../formats/files.node.ts';
import { type ModelConfig, parseModelConfig, preset } from '../model/config.ts';
import { paramLayout } from '../model/params.ts';
import { parseTrainConfig, TRAIN_OPTIONS, type TrainConfig } from '../training/config.ts';
import { isStreamed, type TrainingData } from '../training/data/dataset.ts';
import type { OpenOptions } from '../training/data/open.ts';
import { modelForData } from '../training/model-for-data.ts';
import { changesOnResume } from '../training/resume.ts';
import { type RunConfig, readRunConfig, runTraining } from '../training/run.node.ts';
import { interruptSignal } from './ends.node.ts';
import { addFlags, givenFlags } from './option-flags.ts';
import { bytes, duration, log, ProgressLine, printJson } from './output.node.ts';
import { number, openSession, TUNING_HELP, tuneAsBefore, tuneSession } from './session.node.ts';
import { channels, dataPlace, inFlags, openPlace } from './train-flags.ts';

interface TrainFlags {
  data?: string;
  preset?: string;
  out: string;
  /** A step, or true for the newest checkpoint. */
  resume?: number | true;
  adapter?: string;
  tuning?: string;
  json?: boolean;
  saveEvery: number;
  imageSize?: number;
  channels?: 1 | 3;
  width?: number;
  patch?: number;
  heads?: number;
  depth?: number;
  dropout?: number;
  unconditional?: boolean;
  distillGuidance?: number;
}

/** The command's default: its runs are short. */
const EMA_DECAY = 0.99;

export function addTrain(command: Command): void {
  addFlags(command, TRAIN_OPTIONS, { emaDecay: { default: EMA_DECAY } });
  command
    .option(
      '--data <path>',
      'IDX or CIFAR folder, folder with one sub-folder of pictures per class, tar shards (WebDataset), parquet files, or .npy/.npz arrays: see docs/data.md (default: bundled); with --resume, where the same data are now',
    )
    .option(
      '--preset <name>',
      'tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2: patch, width, depth, heads and lengths; the rest follows the data (default tiny)',
    )
    .option(
      '--image-size <n>',
      'side that encoded pictures are cropped and scaled to (default: 28 for tiny, 32 for the others); other formats have their own',
      number('--image-size', { integer: true, min: 1, max: 4096 }),
    )
    .option(
      '--channels <n>',
      'of encoded pictures, 1 (grey) or 3 (colour) (default: 3, or 1 where all are grey and in memory); other formats have their own',
      channels,
    )
    .option('--out <folder>', 'run folder: config, metrics.jsonl, checkpoints', 'runs/train')
    .option(
      '--resume [step]',
      'go on from the newest checkpoint in --out, or from another (step-250); its configuration holds, but --steps, --lr, --warmup and --recompute may change',
      resumeStep,
    )
    .option('--width <n>', "features per token, instead of the preset's", number('--width', { integer: true, min: 4 }))
    .option('--patch <n>', 'side of a patch', number('--patch', { integer: true, min: 1 }))
    .option('--heads <n>', 'attention heads', number('--heads', { integer: true, min: 1 }))
    .option('--depth <n>', 'blocks', number('--depth', { integer: true, min: 1 }))
    .option('--dropout <share>', 'share of MLP activations dropped', number('--dropout', { min: 0, max: 1 }))
    .option('--unconditional', 'train without labels')
    .option('--distill-guidance <weight>', 'teach the guided velocity at this weight too', number('--distill-guidance'))
    .option('--save-every <n>', 'updates between checkpoints', number('--save-every', { integer: true, min: 1 }), 250)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--tuning <which>', `${TUNING_HELP}; a run keeps to what it began with unless another is named`)
    .option('--json', 'print one JSON document at the end instead of text')
    .addHelpText(
      'after',
      `
Examples:
  odelt train --steps 500 --out runs/first
  odelt train --resume --out runs/first
  odelt train --resume step-250 --lr 3e-4 --out runs/first    (from an earlier checkpoint, more slowly)
  odelt train --data my-pictures/ --preset dit-s/2 --batch 16
  odelt train --preset dit-b/2 --batch 8 --accumulate 4 --recompute blocks    (less memory)

Ctrl-C finishes the update, writes a checkpoint and exits with 130; --resume continues bit for bit.`,
    )
    .action((flags: TrainFlags) => train(flags).catch(inFlags));
}

function resumeStep(text: string): number {
  const step = /^(?:step-)?(\d+)$/.exec(text)?.[1];
  if (step !== undefined) return Number(step);
  throw new ConfigError(`--resume is '${text}'; it must be a checkpoint, such as step-250`, {
    hint: 'leave the step out for the newest checkpoint; --out names the run folder',
  });
}

async function train(flags: TrainFlags): Promise<void> {
  await checkOutput('--out', flags.out, { folder: true });
  const signal = interruptSignal();
  const line = new ProgressLine();
  const reading = { signal, onProgress: readingProgress(line), onRecognised: (what: string) => log(`data: ${what}`) };
  const opening = flags.resume !== undefined ? resumedRun(flags, reading) : newRun(flags, reading);
  const { config, data } = await opening.finally(() => line.end());
  for (const { file, reason } of data.skipped) log(`skipped ${file}: ${reason}`);
  const session = await openSession(flags.adapter);
  if (flags.resume !== undefined && flags.tuning === undefined) await tuneAsBefore(session, config.tuning);
  else await tuneSession(session, flags.tuning);
  const { model, train } = config;
  const size = `${data.height}x${data.width}x${data.channels}`;
  const where = isStreamed(data) ? ', read from disk as they are needed' : '';
  log(`${data.name}: ${data.count} pictures of ${size}, ${data.classes} classes${where}`);
  log(
    `model: ${paramLayout(model).count.toLocaleString('en')} parameters, ${model.depth} blocks of width ${model.width}`,
  );
  log(`adapter: ${session.adapter.adapter.name}`);
  let first = 0;
  const started = performance.now();
  let sinceStart = started;
  let last: unknown = null;
  const checkpoint = await runTraining(session.engine, {
    folder: flags.out,
    config,
    data,
    resume: flags.resume ?? false,
    otherTuning: flags.tuning !== undefined,
    saveEvery: flags.saveEvery,
    environment: { adapter: session.adapter, node: process.version, command: process.argv.slice(2) },
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
    },
    onStep(event) {
      last = event;
      const perStep = (performance.now() - sinceStart) / 1000 / (event.step - first);
      const { loss, flow, time, length } = event.losses;
      const parts = [
        `flow ${flow.toFixed(4)}`,
        time === undefined ? '' : `time ${time.toFixed(4)}`,
        length === undefined ? '' : `length ${length.toFixed(4)}`,
      ];
      line.update(
        `step ${event.step}/${train.steps}  loss ${loss.toFixed(4)} (${parts.filter(Boolean).join(', ')})  ` +
          `${((train.batch * train.accumulate) / perStep).toFixed(1)} samples/s  ${duration((train.steps - event.step) * perStep)} left`,
        event.step === train.steps,
      );
    },
    onNotice(text) {
      line.end();
      log(text);
    },
    onSave(folder) {
      line.end();
      log(`saved ${folder}`);
    },
  }).finally(() => line.end());
  session.engine.dispose();
  if (flags.json) printJson({ checkpoint, seconds: (performance.now() - started) / 1000, last });
  else log(`done: ${checkpoint}`);
}

interface Run {
  readonly config: RunConfig;
  readonly data: TrainingData;
}

/** Says how far reading is, once it has taken two seconds. */
function readingProgress(line: ProgressLine): (done: number, total: number) => void {
  const began = performance.now();
  return (done, total) => {
    if (performance.now() - began > 2000) line.update(`reading pictures: ${done} of ${total}`);
  };
}

async function resumedRun(flags: TrainFlags, reading: OpenOptions): Promise<Run> {
  const config = await resumedConfig(flags);
  const { imageSize: size, channels } = config.model;
  return { config, data: await openPlace(config.data, { ...reading, size, channels: channels as 1 | 3 }) };
}

/** The run's configuration with what was given instead. @throws ConfigError for what a run cannot change. */
async function resumedConfig(flags: TrainFlags): Promise<RunConfig> {
  const before = await readRunConfig(flags.out);
  const { imageSize, channels, classes } = before.model;
  const given = givenModel(flags);
  const config: RunConfig = {
    ...before,
    data: flags.data === undefined ? before.data : dataPlace(flags.data),
    model:
      flags.preset === undefined
        ? parseModelConfig({ ...before.model, ...given })
        : preset(flags.preset, { imageSize, channels, classes, ...given }),
    train: parseTrainConfig({ ...before.train, ...givenTrain(flags) }),
  };
  changesOnResume(before, config);
  return config;
}

/** The data, and the model that they and the flags make of the preset; what cannot be is refused before pictures are read. */
async function newRun(flags: TrainFlags, reading: OpenOptions): Promise<Run> {
  const train = parseTrainConfig({ emaDecay: EMA_DECAY, ...givenTrain(flags) });
  const presetName = flags.preset ?? 'tiny';
  const given = givenModel(flags);
  const place = dataPlace(flags.data);
  const data = await openPlace(place, {
    ...reading,
    size: flags.imageSize ?? preset(presetName).imageSize,
    channels: flags.channels,
    onShape: (shape) => void modelForData(presetName, shape, given),
  });
  return { data, config: { model: modelForData(presetName, data, given), train, data: place } };
}

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

/** The fields that were given. */
const over = <T extends object>(fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;

const givenModel = ({ imageSize, channels, width, patch, heads, depth, dropout }: TrainFlags): Partial<ModelConfig> =>
  over({ imageSize, channels, width, patch, heads, depth, dropout });

function givenTrain(flags: TrainFlags): Partial<TrainConfig> {
  const guidance = flags.unconditional
    ? { guidance: null, classDropout: 1 }
    : flags.distillGuidance === undefined
      ? {}
      : { guidance: { weight: flags.distillGuidance, distill: true } };
  return { ...givenFlags(TRAIN_OPTIONS, flags), ...guidance };
}
