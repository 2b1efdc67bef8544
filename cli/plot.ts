/** `odelt plot`: the loss curves of a run folder as an SVG. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { lossPlot } from '../evaluation/loss-plot.ts';
import { checkOutput, type FailFile, failAs, writeText } from '../formats/files.node.ts';
import { readMetrics } from '../training/metrics.node.ts';
import { defaultMean } from '../training/metrics.ts';
import { log, printJson } from './output.node.ts';
import { number } from './session.node.ts';

export function addPlot(command: Command): void {
  command
    .argument('<run>', 'run folder')
    .option('--out <file>', 'SVG to write (default: loss.svg in the run folder)')
    .option(
      '--mean <n>',
      'updates that are averaged into one point (default 25, fewer for a run of fewer than 500)',
      number('--mean', { integer: true, min: 1 }),
    )
    .option('--json', 'print one JSON document')
    .action(plot);
}

interface PlotFlags {
  readonly out?: string;
  readonly mean?: number;
  readonly json?: boolean;
}

async function plot(run: string, { out = join(run, 'loss.svg'), mean, json }: PlotFlags): Promise<void> {
  await checkOutput('--out', out);
  const path = join(run, 'metrics.jsonl');
  const refuse: FailFile = failAs(ConfigError, path, 'give the folder of a training run');
  const metrics = (await readMetrics(path)) ?? refuse('cannot be read: there is no such file');
  const { events, torn, foreign } = metrics;
  if (torn) log(`${path} ends within a line, which is left out`);
  if (foreign.length > 0) log(`${path}: left out lines that are no updates: ${foreign.join(', ')}`);
  if (events.length === 0) refuse('has no updates');
  const averaged = mean ?? defaultMean(events.length);
  const { svg, series } = lossPlot(events, averaged);
  if (series.length === 0) refuse(`has ${events.length} updates without a loss`);
  await writeText(out, svg);
  if (json) printJson({ out, updates: events.length, mean: averaged, series });
  else log(`wrote ${out}`);
}
