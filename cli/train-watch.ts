/** What `odelt train` shows of a run besides its progress: held-out pictures, TensorBoard, sheets of samples, the plot of losses. */
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { lossPlot } from '../evaluation/loss-plot.ts';
import { sampleSheet } from '../evaluation/sample-sheet.ts';
import { writeText } from '../formats/files.node.ts';
import type { LatentsOrigin } from '../model/autoencoder/origin.ts';
import { encodePng } from '../pictures/png.ts';
import type { TrainingData } from '../training/data/dataset.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import type { OpenOptions } from '../training/data/open.ts';
import { holdOut } from '../training/held-out.ts';
import { readMetrics } from '../training/metrics.node.ts';
import { defaultMean } from '../training/metrics.ts';
import type { RunConfig } from '../training/run-config.node.ts';
import type { Settings } from '../training/settings.ts';
import type { WatchOptions } from '../training/watch.node.ts';
import { openDecoder } from './models.node.ts';
import { bytes, log } from './output.node.ts';
import { dataPlace, encodedChannels, openPlace } from './train-flags.ts';

/** What is kept of --validation: a share, 'test', or a path that holds from any folder. @throws ConfigError for a share that is none. */
export function validationPlace(flag: string | undefined): string | undefined {
  if (flag === undefined || flag === 'test') return flag;
  if (!Number.isFinite(Number(flag))) return dataPlace(flag);
  if (Number(flag) > 0 && Number(flag) < 1) return flag;
  throw new ConfigError(`--validation is ${flag}; a share of the pictures must lie between 0 and 1`, {
    hint: "give a share such as 0.1, 'test', or the path of other pictures",
  });
}

/** The pictures that are trained on, and those that are held out, if the run's configuration names any. */
export async function withHeldOut(
  { model, data: place, validation }: RunConfig,
  data: TrainingData,
  reading: OpenOptions,
): Promise<{ readonly data: TrainingData; readonly held?: TrainingData }> {
  if (validation === undefined) return { data };
  if (Number.isFinite(Number(validation))) {
    const { train, held } = holdOut(data, Number(validation));
    return { data: train, held };
  }
  const options = { ...reading, size: model.imageSize, channels: encodedChannels(model.channels) };
  const held = await (validation === 'test'
    ? openPlace(place, { ...options, split: 'test' })
    : openPlace(validation, options));
  const [a, b] = [fingerprint(data), fingerprint(held)];
  if (a.pixels === b.pixels && a.labels === b.labels) {
    throw new ConfigError(`--validation ${validation} has the pictures that are trained on (${data.name})`, {
      hint: 'hold a share of them out instead: --validation 0.1',
    });
  }
  return { data, held };
}

const numbersOf = (list: string): number[] => list.split(',').map(Number);

/** What is written beside the metrics, as `out` says. @throws ConfigError for samples that the model does not make */
export async function watchOf(
  engine: Engine,
  { model, latents }: Pick<RunConfig, 'model'> & { readonly latents?: LatentsOrigin },
  out: Settings['out'],
  signal: AbortSignal,
): Promise<WatchOptions> {
  const { tensorboard, logEvery, histogramEvery, sampleEvery, sampleSteps, sampleBlocks, sampleCount, decode } = out;
  const board = tensorboard ? { tensorboard: { logEvery, histogramEvery } } : {};
  if (sampleEvery === 0) {
    if (decode === undefined) return board;
    throw new ConfigError('out.decode makes pictures for sheets of samples, and there are none', {
      hint: 'give out.sampleEvery, the updates between sheets, too',
    });
  }
  const decoder = decode === undefined ? undefined : await (await openDecoder(decode, model, latents)).create(engine);
  const sheet = await sampleSheet(engine, model, {
    decoder,
    ...(sampleSteps === undefined ? {} : { steps: numbersOf(sampleSteps) }),
    ...(sampleBlocks === undefined ? {} : { blocks: numbersOf(sampleBlocks) }),
    count: sampleCount,
    guidance: out.sampleGuidance,
  });
  log(
    `samples: L=${sheet.blocks.join(',')} x T=${sheet.steps.join(',')} every ${sampleEvery} updates, ${bytes(sheet.peakBytes)} of GPU memory more while they are drawn`,
  );
  return {
    ...board,
    samples: {
      every: sampleEvery,
      async draw(average, step) {
        const picture = await sheet.draw(average, `${step} updates`, signal);
        return { png: encodePng(picture), width: picture.width, height: picture.height };
      },
    },
  };
}

/** Draws loss.svg in a run folder that has updates; what goes wrong is told, as the run itself has ended. */
export async function drawLosses(folder: string): Promise<void> {
  try {
    const { events = [] } = (await readMetrics(join(folder, 'metrics.jsonl'))) ?? {};
    if (events.length === 0) return;
    const { svg, series } = lossPlot(events, defaultMean(events.length));
    if (series.length > 0) await writeText(join(folder, 'loss.svg'), svg);
  } catch (error) {
    log(`loss.svg was not drawn: ${(error as Error).message}`);
  }
}
