/**
 * `odelt demo`: the shipped model at every (T, L) of T in {1, 4, 16} x L in {4, 8, 12} on the same noise, as one contact sheet and a
 * table of seconds, bytes and class agreement; of FD, too, where the model's file carries its evaluation.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { classAgreement, prepareReference } from '../evaluation/agreement.ts';
import type { Measured } from '../evaluation/measured.ts';
import { describeMeasured } from '../evaluation/results.ts';
import { evaluationOf } from '../evaluation/stored.ts';
import { checkOutput } from '../formats/files.node.ts';
import { shippedData, shippedModel } from '../formats/shipped.node.ts';
import { allowedLengths, usualSteps } from '../model/config.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import { type ModelSource, prefetching, reporting } from '../model/weights/source.ts';
import { checkPictureSize, contactSheet, fromUnit, gridSize, type Picture } from '../pictures/picture.ts';
import { writePng } from '../pictures/png.node.ts';
import { checkClasses, usualGuidance, usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { openDataset } from '../training/data/open.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { interruptSignal } from './ends.node.ts';
import { checkShown, openModel } from './models.node.ts';
import { bytes, log, ProgressLine, print, printJson } from './output.node.ts';
import { checkEnding } from './sample-output.ts';
import { number, openSession } from './session.node.ts';

const STEPS = [1, 4, 16];
/** Pictures side by side where there are no classes, else one of each. */
const COLUMNS = 10;
/** Pictures computed at once, at most. */
const MOST_AT_ONCE = 128;

interface DemoFlags {
  model: string;
  data: string;
  perClass: number;
  guidance?: number;
  seed: number;
  out: string;
  adapter?: string;
  json?: boolean;
}

interface Cell {
  readonly steps: number;
  readonly blocks: number;
  readonly secondsPerPicture: number;
  readonly peakBytes: number;
  /** Share of pictures of the class asked for; null where none was. */
  readonly agreement: number | null;
  /** Fréchet distance of the model's stored evaluation, where it has this cell. */
  readonly fd?: Measured;
}

/**
 * Distances by cell that a model's file carries, if they are of pictures drawn as here, and a line that says what they are.
 * @throws CheckpointError for an evaluation that is none
 */
function storedDistances(file: ModelSource & { path: string }, guidance: number) {
  const evaluation = evaluationOf(file, file.path);
  if (!evaluation) return undefined;
  const { cells, count, features, solver, guidance: evaluated } = evaluation;
  if (solver !== 'euler' || evaluated !== guidance) {
    log(`the model's evaluation is of ${solver}, w=${evaluated}: its FD is not shown at euler, w=${guidance}`);
    return undefined;
  }
  return {
    of: (steps: number, blocks: number) => cells.find((cell) => cell.steps === steps && cell.blocks === blocks)?.fd,
    source: `FD of the stored evaluation: ${count.toLocaleString('en')} samples, ${features} features`,
  };
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

export function addDemo(command: Command): void {
  command
    .option('--model <path>', '.safetensors file, its URL, checkpoint or run folder', shippedModel())
    .option('--data <path>', 'pictures that class agreement is judged by', shippedData())
    .option(
      '--per-class <n>',
      'pictures per class and cell; of a model without classes ten times as many',
      number('--per-class', { integer: true, min: 1 }),
      3,
    )
    .option(
      '--guidance <w>',
      'guidance weight (default: 1, or 0 of a model that was trained without labels)',
      number('--guidance'),
    )
    .option('--seed <n>', 'seed of the noise', number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }), 0)
    .option('--out <file>', 'PNG to write', join('out', 'demo.png'))
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--json', 'print one JSON document')
    .action((flags: DemoFlags) => demo(flags));
}

async function demo(flags: DemoFlags): Promise<void> {
  const started = performance.now();
  checkEnding(flags.out, { numbers: false });
  await checkOutput('--out', flags.out);
  const signal = interruptSignal('stopping');
  const file = await openModel(flags.model, 'ema', signal);
  try {
    await demoOf(file, flags, started, signal);
  } finally {
    await file.close();
  }
}

async function demoOf(
  opened: ModelSource & { path: string },
  flags: DemoFlags,
  started: number,
  signal: AbortSignal,
): Promise<void> {
  const { config, source: file } = opened;
  checkShown(config, flags.model);
  const { guidance = usualGuidance(config) } = flags;
  checkClasses(config, { guidance });
  const distances = storedDistances(opened, guidance);
  const lengths = allowedLengths(config);
  const allSteps = usualSteps(config, STEPS);
  const columns = config.unconditional ? COLUMNS : config.classes;
  const count = columns * flags.perClass;
  const cellGrid = { columns, scale: 1, pad: 2 };
  const cell = gridSize(count, { width: config.imageSize, height: config.imageSize }, cellGrid);
  checkPictureSize(`a sheet of ${count} pictures per cell`, allSteps.length * cell.width, lengths.length * cell.height);
  // The first row is drawn while the blocks of the next ones arrive. Rows share blocks: what has been read is kept.
  const groups = lengths.flatMap((blocks) => groupsFor(config, blocks));
  const source = prefetching(file, { keep: true });
  source.prefetch(groups, { signal });
  const { imageSize: size, channels } = config;
  const data = await openDataset(flags.data, { split: 'test', size, channels: channels === 1 ? 1 : 3, signal });
  checkComparable(config, data);
  // Of no class that was asked for, none can be agreed with.
  const reference = guidance === 0 ? null : prepareReference(data);
  const { engine, adapter } = await openSession(flags.adapter);
  log(`${flags.model} on ${adapter.adapter.name}`);
  const labels = usualLabels(config, count);
  const line = new ProgressLine();
  const shown = reporting(source, groups, (progress) => line.reading(progress));
  const model = new ResidentModel(engine, config, shown);
  const sampler = new Sampler(engine, model, {
    batch: Math.min(labels.length, MOST_AT_ONCE),
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
  });
  const cells: Cell[] = [];
  const pictures: Picture[][] = [];
  for (const blocks of lengths) {
    const common = { labels, blocks, guidance, seed: flags.seed, signal };
    for (const steps of allSteps) {
      // The first use compiles, which is not sampling time; what is compiled depends on steps and on the classes that occur.
      await sampler.sample({ ...common, labels: labels.slice(0, columns), steps });
      engine.memory.resetPeak();
      const cellStarted = performance.now();
      const { values } = await sampler.sample({
        ...common,
        steps,
        onProgress: ({ done, total }) => line.update(`L=${blocks} T=${steps}: step ${done}/${total}`),
      });
      const seconds = (performance.now() - cellStarted) / 1000;
      cells.push({
        steps,
        blocks,
        secondsPerPicture: seconds / labels.length,
        peakBytes: engine.memory.report().peak,
        agreement: reference && classAgreement(reference, values, labels.map(Number)).share,
        fd: distances?.of(steps, blocks),
      });
      pictures.push(fromUnit(values, config.imageSize, config.imageSize, config.channels));
    }
  }
  line.end();
  const at = (r: number, c: number) => r * allSteps.length + c;
  const sheet = contactSheet({
    title: 'ODE_t(ODE_l): time steps and blocks chosen per call',
    subtitle: `same noise everywhere; rows: blocks L, columns: time steps T; ${distances ? `${distances.source}; ` : ''}${adapter.adapter.name}`,
    rowLabels: lengths.map((L) => `L=${L}`),
    columnLabels: allSteps.map((T) => `T=${T}`),
    cell: (r, c) => pictures[at(r, c)]!,
    caption: (r, c) => {
      const cell = cells[at(r, c)]!;
      const cost = `${(cell.secondsPerPicture * 1000).toFixed(0)} ms/picture, ${bytes(cell.peakBytes)}`;
      const agreement = cell.agreement === null ? '' : `, agreement ${percent(cell.agreement)}`;
      // First, as a caption ends where its cell does.
      return `${cell.fd ? `FD ${cell.fd.value.toPrecision(3)}, ` : ''}${cost}${agreement}`;
    },
    grid: cellGrid,
  });
  await writePng(flags.out, sheet);
  engine.dispose();
  const seconds = (performance.now() - started) / 1000;
  if (flags.json) return printJson({ out: flags.out, adapter: adapter.adapter, seconds, cells, fd: distances?.source });
  print(`blocks  steps  s/picture   peak GPU bytes  class agreement${distances ? '  FD' : ''}`);
  for (const c of cells) {
    const columns = [
      String(c.blocks).padStart(6),
      String(c.steps).padStart(6),
      c.secondsPerPicture.toFixed(3).padStart(10),
    ];
    print(
      `${columns.join(' ')} ${c.peakBytes.toLocaleString('en').padStart(16)} ${(c.agreement === null ? '-' : percent(c.agreement)).padStart(16)}${c.fd ? `  ${describeMeasured(c.fd)}` : ''}`,
    );
  }
  if (distances) log(distances.source);
  log(`wrote ${flags.out} in ${seconds.toFixed(0)} s`);
}
