/** `odelt sample`: draws pictures from a model at a chosen number of time steps and blocks. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { allowedLengths, checkLength } from '../model/config.ts';
import { ACTIVATIONS, type Activations, checkActivations } from '../model/dit.ts';
import { groupsFor, ResidentModel } from '../model/model.ts';
import { PRECISIONS, type Precision } from '../model/quantize.ts';
import { type ModelSource, prefetching, reporting } from '../model/source.ts';
import { chooseSettings, describeSettings, type Settings } from '../sampling/budget.ts';
import { fromUnit, grid } from '../sampling/picture.ts';
import { checkSteps, Sampler } from '../sampling/sampler.ts';
import { openModel, type WhichWeights } from './models.node.ts';
import { bundledModel } from './paths.node.ts';
import { writePng } from './png.node.ts';
import { bytes, interruptSignal, log, number, openSession, ProgressLine, printJson } from './session.node.ts';

interface SampleFlags {
  model: string;
  weights: WhichWeights;
  count?: number;
  labels?: string;
  steps: number;
  blocks?: string;
  precision?: Precision;
  activations?: Activations;
  residentBlocks?: number;
  maxMemory?: number;
  guidance: number;
  seed: number;
  batch: number;
  out: string;
  scale: number;
  adapter?: string;
  json?: boolean;
}

export function addSample(program: Command): void {
  program
    .command('sample')
    .description('draw pictures from a model (no flags: one row per class from the shipped model)')
    .option('--model <path>', '.safetensors file, its URL, checkpoint or run folder', bundledModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option(
      '--count <n>',
      'number of pictures (default: eight per label)',
      number('--count', { integer: true, min: 1 }),
    )
    .option('--labels <list>', 'classes, e.g. 0,3,9 (default: all); "none" for unconditional')
    .option('--steps <T>', 'Euler steps: 1, 2, 4, ..., 128', number('--steps', { integer: true, min: 1 }), 16)
    .option('--blocks <L>', 'transformer blocks to run (default: all); auto lets --max-memory choose')
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
      parseBytes,
    )
    .option(
      '--guidance <w>',
      '0: no class, 1: the class, else classifier-free guidance at twice the work',
      number('--guidance'),
      2,
    )
    .option(
      '--seed <n>',
      'picture n of a seed is the same whatever the batch',
      number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      0,
    )
    .option('--batch <n>', 'pictures computed at once', number('--batch', { integer: true, min: 1 }), 16)
    .option('--out <file>', 'PNG to write', join('out', 'sample.png'))
    .option('--scale <n>', 'enlarge pictures', number('--scale', { integer: true, min: 1, max: 16 }), 3)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  odelt sample --steps 4 --blocks 8\n  odelt sample --labels 5,7,9 --guidance 2 --seed 3 --out shoes.png',
    )
    .action((flags: SampleFlags) => sample(flags));
}

/** 300MB, 1.5GB, 64000000: powers of ten. @throws ConfigError. */
function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(B|kB|MB|GB)?$/i.exec(text.trim());
  if (!match) throw new ConfigError(`--max-memory is '${text}'; write it like 300MB or 1.5GB`);
  return Number(match[1]) * { b: 1, kb: 1e3, mb: 1e6, gb: 1e9 }[(match[2] ?? 'B').toLowerCase() as 'b']!;
}

/** Labels of `count` pictures: the asked ones in equal runs. */
export function chooseLabels(text: string | undefined, classes: number, count: number | undefined): (number | null)[] {
  const asked: (number | null)[] =
    text === undefined
      ? Array.from({ length: classes }, (_, i) => i)
      : text.split(',').map((part) => {
          if (part.trim() === 'none') return null;
          const label = Number(part);
          if (part.trim() === '' || !Number.isInteger(label) || label < 0 || label >= classes) {
            throw new ConfigError(`--labels has '${part}'`, { hint: `classes are 0 to ${classes - 1}, or none` });
          }
          return label;
        });
  const total = count ?? 8 * asked.length;
  return Array.from({ length: total }, (_, i) => asked[Math.floor((i * asked.length) / total)]!);
}

async function sample(flags: SampleFlags): Promise<void> {
  if (flags.weights !== 'ema' && flags.weights !== 'raw')
    throw new ConfigError(`--weights is '${flags.weights}'; it must be ema or raw`);
  const signal = interruptSignal('stopping');
  const file = await openModel(flags.model, flags.weights, signal);
  try {
    await sampleFrom(file, flags, signal);
  } finally {
    await file.close();
  }
}

async function sampleFrom(file: ModelSource & { path: string }, flags: SampleFlags, signal: AbortSignal) {
  const { config } = file;
  checkSteps(flags.steps, config.ignoreDt);
  if (flags.precision && !PRECISIONS.includes(flags.precision)) {
    throw new ConfigError(`--precision is '${flags.precision}'; it must be one of ${PRECISIONS.join(', ')}`);
  }
  if (flags.activations && !ACTIVATIONS.includes(flags.activations)) {
    throw new ConfigError(`--activations is '${flags.activations}'; it must be one of ${ACTIVATIONS.join(', ')}`);
  }
  checkActivations(config, flags.activations ?? 'f32');
  if (flags.blocks === 'auto' && flags.maxMemory === undefined)
    throw new ConfigError('--blocks auto needs --max-memory');
  const longest = Math.max(...allowedLengths(config));
  const blocks: number | 'auto' =
    flags.blocks === 'auto'
      ? 'auto'
      : flags.blocks === undefined
        ? longest
        : number('--blocks', { integer: true })(flags.blocks);
  if (blocks !== 'auto') checkLength(config, blocks);
  const labels = chooseLabels(flags.labels, config.classes, flags.count);
  const batch = Math.min(flags.batch, labels.length);
  const request = { labels, steps: flags.steps, guidance: flags.guidance };
  let settings: Settings = {
    blocks: blocks === 'auto' ? longest : blocks,
    precision: flags.precision ?? 'f32',
    activations: flags.activations,
    residentBlocks: flags.residentBlocks,
    batch,
  };
  const source = prefetching(file.source);
  const readAhead = () => {
    // What passes through few buffers is not to pile up in the host's memory.
    if (settings.residentBlocks === undefined) source.prefetch(groupsFor(config, settings.blocks), { signal });
  };
  // From here on weights arrive while the device is acquired, memory estimated and shaders compiled.
  if (flags.maxMemory === undefined) readAhead();
  const { engine, adapter } = await openSession(flags.adapter);
  const line = new ProgressLine();
  if (flags.maxMemory !== undefined) {
    const { precision, activations, residentBlocks } = flags;
    const wanted = { blocks, precision, activations, residentBlocks, batch };
    const began = performance.now();
    const onTry = (tried: Settings) => {
      if (performance.now() - began > 2000) line.update(`trying ${describeSettings(tried)}`);
    };
    const choice = await chooseSettings(engine, config, wanted, request, flags.maxMemory, { signal, onTry });
    line.end();
    log(choice.why);
    settings = choice.settings;
    engine.memory.limit = flags.maxMemory;
    readAhead();
  }
  log(`${file.path} on ${adapter.adapter.name}: ${labels.length} pictures, T=${flags.steps}, L=${settings.blocks}`);
  const shown = reporting(source, groupsFor(config, settings.blocks), (progress) => line.reading(progress));
  const { precision, activations } = settings;
  const model = new ResidentModel(engine, config, shown, { precision, activations });
  const sampler = new Sampler(engine, model, {
    batch: settings.batch,
    residentBlocks: settings.residentBlocks,
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
  });
  const started = performance.now();
  const { values } = await sampler
    .sample({
      ...{ ...request, blocks: settings.blocks, seed: flags.seed, signal },
      onProgress: ({ done, total }) => line.update(`step ${done}/${total}`),
    })
    .finally(() => line.end());
  const seconds = (performance.now() - started) / 1000;
  const pictures = fromUnit(values, config.imageSize, config.imageSize, config.channels);
  writePng(flags.out, grid(pictures, { columns: Math.ceil(labels.length / new Set(labels).size), scale: flags.scale }));
  const { peak } = engine.memory.report();
  engine.dispose();
  if (flags.json) {
    printJson({
      out: flags.out,
      labels,
      steps: flags.steps,
      ...settings,
      guidance: flags.guidance,
      seed: flags.seed,
      weights: file.path,
      seconds,
      peakBytes: peak,
    });
  } else log(`wrote ${flags.out} in ${seconds.toFixed(1)} s; peak ${bytes(peak)} of GPU buffers`);
}
