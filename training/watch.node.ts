/**
 * What is kept of a run to be looked at while it trains, beside metrics.jsonl: TensorBoard's event files, and pictures of samples. Nothing
 * of it changes the training, and nothing of it ends a run: what cannot be written is told once and then left out.
 */
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError, LimitError, OutOfMemoryError, OutputError } from '../engine/errors.ts';
import { checkOutput, writeAtomically } from '../formats/files.node.ts';
import type { ParamSet } from '../model/params.ts';
import { inspectionSummaries, lossHistogram, memorySummaries, updateSummaries } from './board.ts';
import { type EventFile, startEventFile } from './event-file.node.ts';
import type { TrainEvent, Trainer } from './trainer.ts';

/** A picture as a file holds it. */
export interface DrawnPicture {
  readonly png: Uint8Array;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
}

/** What of a run is to be looked at. */
export interface WatchOptions {
  /** Event files for TensorBoard in the run folder. Default: none. */
  readonly tensorboard?: {
    /** Updates between norms and bytes; losses are written after each. Default 10. */
    readonly logEvery?: number;
    /** Updates between histograms. Default 100. */
    readonly histogramEvery?: number;
  };
  /** Pictures drawn by the averaged weights, in the run folder's `samples/`, after every `every` updates and the last. Default: none. */
  readonly samples?: {
    readonly every: number;
    /**
     * The picture of these weights after `step` updates. OutputError, OutOfMemoryError and LimitError end the drawing, not the run;
     * InterruptedError leaves this picture out: the run ends by its own signal.
     */
    readonly draw: (average: ParamSet, step: number) => Promise<DrawnPicture>;
  };
}

/** Writes while a run goes on. */
export interface Watch {
  /** Between updates, after `event`. */
  after(event: TrainEvent, trainer: Trainer): Promise<void>;
  close(): Promise<void>;
}

/** @throws ConfigError for numbers of updates that are none. */
export function checkWatch({ tensorboard, samples }: WatchOptions): void {
  const { logEvery = 1, histogramEvery = 1 } = tensorboard ?? {};
  for (const [name, n] of Object.entries({ logEvery, histogramEvery, 'samples.every': samples?.every ?? 1 })) {
    if (!(Number.isInteger(n) && n >= 1)) throw new ConfigError(`watch.${name} is ${n}; it must be a positive integer`);
  }
}

/**
 * Starts to watch a run whose folder is there and which has done `done` updates. @throws OutputError where the files cannot be written,
 * before anything is trained
 */
export async function startWatch(
  engine: Engine,
  run: { readonly folder: string; readonly done: number; readonly steps: number; readonly samplesEach: number },
  { tensorboard, samples }: WatchOptions,
  onNotice: (text: string) => void = () => {},
): Promise<Watch> {
  const pictures = join(run.folder, 'samples');
  if (samples) await checkOutput('the folder of samples', pictures, { folder: true });
  const { logEvery = 10, histogramEvery = 100 } = tensorboard ?? {};
  let file: EventFile | null = tensorboard ? await startEventFile(run.folder, run.done) : null;
  let drawing = samples !== undefined;

  const log = async (event: TrainEvent, trainer: Trainer) => {
    const due = (every: number) => event.step % every === 0;
    const histograms = due(histogramEvery);
    await file?.write(event.step, [
      ...updateSummaries(event, run.samplesEach),
      ...(due(logEvery) ? memorySummaries(engine.memory.report()) : []),
      ...(due(logEvery) || histograms ? inspectionSummaries(await trainer.inspect({ histograms })) : []),
      ...(histograms ? [lossHistogram(trainer.sampleLosses())] : []),
    ]);
  };
  const draw = async (step: number, trainer: Trainer) => {
    const picture = await samples!.draw(await trainer.average(), step);
    await writeAtomically(join(pictures, `${step}.png`), [picture.png]);
    return picture;
  };

  return {
    async after(event, trainer) {
      const { step } = event;
      if (file) {
        await log(event, trainer).catch(async (error: unknown) => {
          if (!(error instanceof OutputError)) throw error;
          onNotice(`${error.message}: TensorBoard gets nothing more of this run`);
          await file?.close().catch(() => {});
          file = null;
        });
      }
      if (!drawing || !(step % samples!.every === 0 || step === run.steps)) return;
      try {
        const picture = await draw(step, trainer);
        await file?.write(step, [{ tag: 'samples', ...picture }]);
      } catch (error) {
        // The run looks for an interrupt itself, after its next update, where all of its processes agree on it.
        if (error instanceof InterruptedError) return;
        const isOurs = [OutputError, OutOfMemoryError, LimitError].some((Kind) => error instanceof Kind);
        if (!isOurs) throw error;
        drawing = false;
        onNotice(`${(error as Error).message}: no more samples are drawn in this run`);
      }
    },
    async close() {
      await file?.close().catch((error: Error) => onNotice(error.message));
    },
  };
}
