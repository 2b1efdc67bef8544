/** `odelt eval`: how good samples are at every number of steps and blocks, and what they cost. */
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { describeMachine } from '../bench/machine.node.ts';
import { table } from '../bench/markdown.ts';
import { ConfigError } from '../engine/errors.ts';
import { cellsOf, checkGrid, type EvaluationGrid, evaluateModel, weightsDigest } from '../evaluation/evaluate.ts';
import { FEATURE_NAMES, type FeatureName, featuresOf } from '../evaluation/features.ts';
import { realPictures } from '../evaluation/real.ts';
import { readResults, resultsFile, writeResults } from '../evaluation/results.node.ts';
import {
  checkSameSettings,
  describeCell,
  describeMeasured,
  type Provenance,
  resultRows,
  sameCell,
} from '../evaluation/results.ts';
import { checkOutput } from '../formats/files.node.ts';
import { shippedData, shippedModel } from '../formats/shipped.node.ts';
import { allowedLengths } from '../model/config.ts';
import { type ModelSource, prefetching } from '../model/weights/source.ts';
import { checkOneOf, isAdaptive, SOLVERS, type Solver } from '../sampling/request.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import { openParts } from '../training/data/open.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { interruptSignal } from './ends.node.ts';
import { checkShown, openModel, type WhichWeights } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { number, numbers, openSession } from './session.node.ts';

interface EvalFlags {
  weights: WhichWeights;
  steps: number[];
  blocks?: number[];
  guidance: number[];
  solver: Solver;
  count: number;
  features: FeatureName;
  data: string;
  seed: number;
  batch: number;
  out: string;
  adapter?: string;
  json?: boolean;
}

export function addEval(command: Command): void {
  command
    .argument('[model]', '.safetensors file, its URL, checkpoint or run folder', shippedModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option('--steps <Ts>', 'numbers of steps', numbers('--steps', { integer: true, min: 1 }), [1, 4, 16])
    .option(
      '--blocks <Ls>',
      "numbers of blocks (default: all the model's)",
      numbers('--blocks', { integer: true, min: 1 }),
    )
    .option('--guidance <ws>', 'guidance weights', numbers('--guidance'), [1])
    .option('--solver <name>', `of fixed steps: ${SOLVERS.filter((name) => !isAdaptive(name)).join(', ')}`, 'euler')
    .option('--count <n>', 'samples of each cell', number('--count', { integer: true, min: 1 }), 1000)
    .option(
      '--features <name>',
      'what pictures are compared by: pca64 (leading principal components of the data), pixels (averaged to 256 at most), random (a fixed projection)',
      'pca64',
    )
    .option(
      '--data <path>',
      'real pictures; with both parts, samples are compared with the training part',
      shippedData(),
    )
    .option(
      '--seed <n>',
      'of noise, subsets and intervals',
      number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      0,
    )
    .option('--batch <n>', 'samples computed at once', number('--batch', { integer: true, min: 1 }), 128)
    .option('--out <folder>', 'for results.json, results.csv and plots (.svg)', join('out', 'eval'))
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
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
  agreement  share of samples that their nearest real pictures take for the class that was asked for
  nearer     probability that a sample is nearer to a real picture than a held-out one is: 0.5 is right, 1 are copies

Intervals are of 95 %. The line "real" has held-out real pictures in the samples' place: no model gets below it but
by chance. Figures of other features, counts or data cannot be compared with these. Ctrl-C leaves the cells that are
done; the same command goes on, and other steps, blocks and weights may be added to a folder.

Examples:
  odelt eval --steps 1,4 --blocks 4,12 --count 200
  odelt eval runs/mine --data data/cifar-10 --guidance 1,2 --count 10000 --out out/mine`,
    )
    .action((model: string, flags: EvalFlags) => evaluate(model, flags));
}

async function evaluate(model: string, flags: EvalFlags): Promise<void> {
  checkOneOf('--weights', flags.weights, ['ema', 'raw']);
  checkOneOf('--features', flags.features, FEATURE_NAMES);
  checkOneOf('--solver', flags.solver, SOLVERS);
  if (isAdaptive(flags.solver)) {
    throw new ConfigError(
      `--solver ${flags.solver} chooses its own steps; --steps ${flags.steps.join()} were asked for`,
      {
        hint: 'compare numbers of steps with a solver of fixed steps',
      },
    );
  }
  await checkOutput('--out', flags.out, { folder: true });
  const before = await readResults(flags.out);
  const signal = interruptSignal('stopping');
  const file = await openModel(model, flags.weights, signal);
  try {
    await evaluateFrom(file, flags, before, signal);
  } finally {
    await file.close();
  }
}

async function evaluateFrom(
  { config, source: file, path }: ModelSource & { path: string },
  flags: EvalFlags,
  before: Awaited<ReturnType<typeof readResults>>,
  signal: AbortSignal,
): Promise<void> {
  checkShown(config, path);
  const { steps, guidance, solver, count, seed, batch, out } = flags;
  const grid: EvaluationGrid = { steps, blocks: flags.blocks ?? allowedLengths(config), guidance, solver };
  checkGrid(grid, count, config);
  for (const name of ['results.json', 'results.csv']) await checkOutput('--out', join(out, name));
  const channels = config.channels === 1 ? 1 : 3;
  const parts = await openParts(flags.data, { size: config.imageSize, channels, signal });
  const there = [parts.train, parts.test].filter((part) => part !== undefined);
  for (const part of there) checkComparable(config, part);
  const source = prefetching(file, { keep: true });
  const model = await weightsDigest(source, signal);
  const session = await openSession(flags.adapter);
  const { engine } = session;
  const line = new ProgressLine();
  try {
    const { name, driver } = session.adapter.adapter;
    const { odelt, ...versions } = describeMachine().versions as { odelt: string };
    line.update(`features of real pictures: ${flags.features}`, true);
    const features = featuresOf(flags.features, there[0]!);
    const provenance: Provenance = {
      ...{ model, weights: flags.weights, seed, samples: count, batch },
      features: { name: features.name, width: features.width },
      data: { name: there.map((part) => part.name).join(', '), digests: there.flatMap(digests) },
      ...{ adapter: [name, driver].filter(Boolean).join(', '), odelt, versions },
    };
    if (before) checkSameSettings(before.provenance, provenance, resultsFile(out));
    const real = realPictures(parts, count, seed);
    const wanted = cellsOf(grid);
    const done = wanted.filter((key) => before?.cells.some((cell) => sameCell(cell, key))).length;
    line.end();
    log(
      `${basename(path)} on ${name}: ${wanted.length} cells of ${count} samples${done ? `, ${done} of them done` : ''}`,
    );
    const shown = new Set(before?.cells.map(describeCell));
    const results = await evaluateModel(engine, {
      ...{ config, source, grid, features, real, provenance, before, signal },
      onProgress: ({ at, done, cells, samples }) => {
        const what = at === 'real pictures' ? at : `${describeCell(at)}: sample ${samples}/${count}`;
        line.update(`${done}/${cells} cells; ${what}`);
      },
      onCell: async (so) => {
        await writeResults(out, so);
        const last = so.cells.find((cell) => !shown.has(describeCell(cell)))!;
        shown.add(describeCell(last));
        line.clear();
        log(`${describeCell(last)}: FD ${describeMeasured(last.fd)}, ${last.secondsPerSample.toFixed(4)} s per sample`);
      },
    });
    line.end();
    const files = await writeResults(out, results);
    if (flags.json) printJson(results);
    else print(table(resultRows(results)).join('\n'));
    log(`wrote ${files.length} files into ${out}`);
  } finally {
    line.end();
    engine.dispose();
  }
}

const digests = (part: Parameters<typeof fingerprint>[0]): string[] => {
  const { pixels, labels } = fingerprint(part);
  return [pixels, labels];
};
