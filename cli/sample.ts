/** `odelt sample`: draws pictures from a model at a chosen number of time steps and blocks. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { allowedLengths } from '../model/config.ts';
import { memorySource, ResidentModel } from '../model/model.ts';
import { fromUnit, grid } from '../sampling/picture.ts';
import { checkSteps, Sampler } from '../sampling/sampler.ts';
import { readModel, type WhichWeights } from './models.node.ts';
import { bundledModel } from './paths.node.ts';
import { writePng } from './png.node.ts';
import { bytes, interruptSignal, log, number, openSession, ProgressLine, printJson } from './session.node.ts';

interface SampleFlags {
  model: string;
  weights: WhichWeights;
  count?: number;
  labels?: string;
  steps: number;
  blocks?: number;
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
    .option('--model <path>', '.safetensors file, checkpoint or run folder', bundledModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option(
      '--count <n>',
      'number of pictures (default: eight per label)',
      number('--count', { integer: true, min: 1 }),
    )
    .option('--labels <list>', 'classes, e.g. 0,3,9 (default: all); "none" for unconditional')
    .option('--steps <T>', 'Euler steps: 1, 2, 4, ..., 128', number('--steps', { integer: true, min: 1 }), 16)
    .option('--blocks <L>', 'transformer blocks to run (default: all)', number('--blocks', { integer: true, min: 1 }))
    .option('--guidance <w>', '0: no class, 1: the class, else classifier-free guidance', number('--guidance'), 1)
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
  const signal = interruptSignal();
  const file = await readModel(flags.model, flags.weights);
  const { config } = file;
  checkSteps(flags.steps, config.ignoreDt);
  const blocks = flags.blocks ?? Math.max(...allowedLengths(config));
  const labels = chooseLabels(flags.labels, config.classes, flags.count);
  const { engine, adapter } = await openSession(flags.adapter);
  log(`${file.path} on ${adapter.adapter.name}: ${labels.length} pictures, T=${flags.steps}, L=${blocks}`);
  const line = new ProgressLine();
  const model = new ResidentModel(engine, config, memorySource(file.params));
  const sampler = new Sampler(engine, model, {
    batch: Math.min(flags.batch, labels.length),
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
  });
  const started = performance.now();
  const { values } = await sampler
    .sample({
      ...{ labels, steps: flags.steps, blocks, guidance: flags.guidance, seed: flags.seed, signal },
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
      blocks,
      guidance: flags.guidance,
      seed: flags.seed,
      weights: file.path,
      seconds,
      peakBytes: peak,
    });
  } else log(`wrote ${flags.out} in ${seconds.toFixed(1)} s; peak ${bytes(peak)} of GPU buffers`);
}
