/** `odelt plot`: the loss curves of a run folder as an SVG. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { writeAtomically } from '../formats/files.node.ts';
import { linePlot } from '../pictures/line-plot.ts';
import type { TrainEvent } from '../training/trainer.ts';
import { log, number } from './session.node.ts';

export function addPlot(program: Command): void {
  program
    .command('plot')
    .description("draw a run's losses over its updates")
    .argument('<run>', 'run folder')
    .option('--out <file>', 'SVG to write (default: loss.svg in the run folder)')
    .option('--mean <n>', 'updates that are averaged into one point', number('--mean', { integer: true, min: 1 }), 25)
    .action((run: string, flags: { out?: string; mean: number }) => plot(run, flags));
}

async function plot(run: string, { out = join(run, 'loss.svg'), mean }: { out?: string; mean: number }): Promise<void> {
  const path = join(run, 'metrics.jsonl');
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new ConfigError(`${path} cannot be read`, { cause, hint: 'give the folder of a training run' });
  });
  const events = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as TrainEvent);
  const series = (['flow', 'time', 'length'] as const).map((name) => {
    const points: { x: number; y: number }[] = [];
    for (let from = 0; from + mean <= events.length; from += mean) {
      const values = events.slice(from, from + mean).flatMap((event) => event.losses[name] ?? []);
      if (values.length > 0) points.push({ x: from + mean, y: values.reduce((a, b) => a + b, 0) / values.length });
    }
    return { name, x: points.map((p) => p.x), y: points.map((p) => p.y) };
  });
  const svg = linePlot({
    title: 'Mean squared velocity error by what a sample learns',
    x: { label: 'updates' },
    y: { label: 'loss', log: true },
    series: series.filter((s) => s.x.length > 0),
  });
  await writeAtomically(out, [new TextEncoder().encode(svg)]);
  log(`wrote ${out}`);
}
