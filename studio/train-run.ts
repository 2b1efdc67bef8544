/** A training run as the page drives it: begun, paused, gone on with, stopped, opened from a file. Knows the worker, but no page. */
import { InterruptedError, OdeltError, UnsupportedError, UsageError } from '../engine/errors.ts';
import type { TrainConfig } from '../training/config.ts';
import type { TrainEvent } from '../training/trainer.ts';
import type { OdeltWorker } from '../web/client.ts';
import type { LoadedModel, SentData, Shown, ShowRequest, TrainRequest } from '../web/protocol.ts';
import { isPicture } from './paint.ts';
import { isPlane } from './train-request.ts';

/** 'paused' is between updates, 'done' after the last; 'stopped' and 'failed' can go on where there is a checkpoint. */
export type Phase = 'none' | 'starting' | 'running' | 'pausing' | 'paused' | 'stopped' | 'done' | 'failed';

/** Whether a run is under way. */
export const isBusy = (phase: Phase): boolean => phase === 'starting' || phase === 'running' || phase === 'pausing';

/** What is said to whoever opens something meanwhile. */
export const underWay = (): UsageError =>
  new UsageError('A run is under way: nothing else is opened.', { hint: 'Pause or stop it first.' });

/** Bytes of a run's checkpoint. */
export interface Kept {
  readonly step: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Who is told. */
export interface RunListener {
  onPhase(phase: Phase): void;
  /** What `begin` began has taken the place of the run before: its first update is done, or there is a checkpoint. */
  onBegun(): void;
  onUpdate(event: TrainEvent): void;
  /** What the averaged weights draw after so many updates. */
  onShown(step: number, shown: Shown): void;
  /** The GPU was lost, and the run has gone on from this update. */
  onRecovered(step: number): void;
  /** @param error what ended the run, or kept it from beginning. */
  onFailure(error: unknown): void;
}

export interface Run {
  readonly phase: Phase;
  /** Updates of the run, all of them, by their number. */
  readonly updates: readonly TrainEvent[];
  /** The last state that can be gone on from. */
  readonly kept: Kept | null;
  /** Begins anew; what was kept stays until the first update. Resolves when the run rests. */
  begin(request: TrainRequest): Promise<void>;
  /** Stops after the update under way, with a checkpoint. */
  pause(): void;
  /** Ends the run at once, with its worker; the last checkpoint stays. */
  stop(): void;
  /** Goes on from what is kept. @throws UsageError where nothing is. */
  resume(request: { data?: SentData; train: Partial<TrainConfig>; show: ShowRequest }): Promise<void>;
  /**
   * Opens a checkpoint in place of the run, and says what it is.
   * @throws UsageError while a run is under way, or where one has begun meanwhile; as OdeltWorker.load. The run then stays.
   */
  open(file: Blob): Promise<LoadedModel>;
  /** Draws what is kept, unless the run is another by then. */
  look(show: ShowRequest): Promise<void>;
}

/** A run on workers that `start` starts, one at a time. */
export function createRun(start: () => OdeltWorker, listener: RunListener): Run {
  let worker: OdeltWorker | null = null;
  let phase: Phase = 'none';
  let updates: TrainEvent[] = [];
  let kept: Kept | null = null;
  let controller = new AbortController();
  /** Runs begun, gone on with, stopped or opened so far: what comes late of one before is dropped. */
  let runs = 0;
  const enter = (next: Phase) => {
    phase = next;
    listener.onPhase(next);
  };
  const own = (): OdeltWorker => {
    worker ??= start();
    return worker;
  };

  async function train(request: TrainRequest, isNew: boolean): Promise<void> {
    const mine = ++runs;
    let replaces = isNew;
    const replace = () => {
      if (!replaces) return;
      replaces = false;
      [updates, kept] = [[], null];
      listener.onBegun();
    };
    controller = new AbortController();
    enter('starting');
    try {
      const call = own().train(request, { signal: controller.signal });
      for await (const event of call) {
        if (event.type === 'step' || event.type === 'checkpoint') replace();
        if (event.type === 'step') {
          // After a lost GPU some are done again.
          while (updates.length > 0 && updates.at(-1)!.step >= event.step) updates.pop();
          updates.push(event);
          if (phase === 'starting') enter('running');
          listener.onUpdate(event);
        } else if (event.type === 'checkpoint') kept = event;
        else if (event.type === 'shown') listener.onShown(event.step, event);
        else if (event.type === 'recovered') listener.onRecovered(event.step);
      }
      const { step, checkpoint } = await call;
      kept = { step, bytes: checkpoint };
      enter('done');
    } catch (error) {
      if (runs !== mine) return;
      if (error instanceof InterruptedError) {
        // Before the first update there is nothing to keep, but of the run before.
        enter(kept ? 'paused' : 'none');
        if (kept && !replaces && request.show) await look(request.show);
        return;
      }
      fail(error);
    }
  }

  /** What a worker fails with that has not started, or lacks code: the next attempt gets another. */
  function replaceDead(error: unknown): void {
    if (error instanceof OdeltError && !(error instanceof UnsupportedError || error instanceof UsageError)) return;
    const dead = worker;
    worker = null;
    void dead?.dispose();
  }

  function fail(error: unknown): void {
    replaceDead(error);
    enter('failed');
    listener.onFailure(error);
  }

  function refuseBusy(): void {
    if (isBusy(phase)) throw underWay();
  }

  async function look({ samples = [], flow }: ShowRequest): Promise<void> {
    if (!kept) throw new UsageError('there is no checkpoint to draw');
    const { step, bytes } = kept;
    const mine = runs;
    try {
      const drawing = own();
      await drawing.load(bytes, { batch: Math.max(1, ...samples.map(({ labels }) => labels.length)) });
      const drawn = [];
      for (const request of samples) {
        if (runs !== mine) return;
        drawn.push(await drawing.sample(request));
      }
      const shown = { samples: drawn, flow: flow && runs === mine ? await drawing.flow(flow) : [] };
      if (runs === mine) listener.onShown(step, shown);
    } catch (error) {
      if (runs === mine) fail(error);
    }
  }

  return {
    get phase() {
      return phase;
    },
    get updates() {
      return updates;
    },
    get kept() {
      return kept;
    },
    begin: (request) => train(request, true),
    pause() {
      if (phase !== 'starting' && phase !== 'running') return;
      enter('pausing');
      controller.abort();
    },
    stop() {
      runs++;
      enter('stopped');
      const old = worker;
      worker = null;
      void old?.dispose();
    },
    resume({ data, train: changed, show }) {
      if (!kept) throw new UsageError('there is no checkpoint to go on from');
      return train({ ...(data ? { data } : {}), train: changed, show, resume: kept.bytes }, false);
    },
    async open(file) {
      refuseBusy();
      const model = await own()
        .load(file)
        .catch((error: unknown) => {
          replaceDead(error);
          throw error;
        });
      if (!model.run) {
        throw new UsageError('this is a model, not a checkpoint of a run', {
          hint: 'open it in Sample; a checkpoint, as it is downloaded here, has what training needs to go on',
        });
      }
      if (!isPlane(model.config) && !isPicture(model.config)) {
        throw new UsageError(
          `this run learns latents of ${model.config.channels} channels, of which the studio has none`,
          {
            hint: 'Sample shows what it draws, with its autoencoder; `odelt train` trains on latents',
          },
        );
      }
      const bytes = new Uint8Array(await file.arrayBuffer());
      // Reading takes its time, in which a run may have been begun.
      refuseBusy();
      runs++;
      [updates, kept] = [[], { step: model.run.step, bytes }];
      enter(model.run.step < model.run.train.steps ? 'paused' : 'done');
      return model;
    },
    look,
  };
}
