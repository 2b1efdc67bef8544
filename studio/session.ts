/** The model and its worker as the page uses them: one piece of work at a time, measured when nothing is done for the first time. */
import { isGuided } from '../sampling/request.ts';
import type { OdeltWorker } from '../web/client.ts';
import type { Calls, LoadedDecoder, LoadedModel, Sampled } from '../web/protocol.ts';
import { ladder } from './state.ts';

/** What is drawn, of everything that a request can say. */
export type Drawn = Required<Pick<Calls['sample']['args'], 'labels' | 'guidance' | 'seed'>> & {
  readonly steps: number;
  readonly blocks: number;
  readonly first?: number;
};

/** Who is told while it is drawn. */
export interface Told {
  readonly signal: AbortSignal;
  /** Pictures in fewer steps, which are drawn first where somebody wants them, and then those that were asked for. */
  onPictures?(pictures: Sampled, steps: number): void;
  /** From 0 to 1. */
  onProgress?(share: number): void;
}

/** Milliseconds up to which a draw is made again, so that its time is one without compiling; one of fewer than four steps always is, as none comes before it. */
const QUICK = 1500;

export interface Session {
  /** Loads a model in place of the one before, which stays where this fails. */
  load(source: string | File): Promise<LoadedModel>;
  /** Loads the decoder of that model's latents: what is drawn from then on are its pictures. */
  loadDecoder(weights: File, config: File | null): Promise<LoadedDecoder>;
  /** Draws in few steps, then in all, and gives the latter with what they took. */
  draw(request: Drawn, told: Told): Promise<Sampled>;
  /** Looks inside a sample, and times an evaluation; neither with the draws. */
  inspect(request: Calls['inspect']['args'], signal: AbortSignal): Promise<Calls['inspect']['result']>;
  breakdown(request: Calls['breakdown']['args'], signal: AbortSignal): Promise<Calls['breakdown']['result']>;
  dispose(): Promise<void>;
}

export function createSession(worker: OdeltWorker): Session {
  let last = '';
  let decodes = false;
  /** Milliseconds that decoding took last. */
  let decoding = 0;
  let turn: Promise<unknown> = Promise.resolve();
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  };

  async function sampled(request: Drawn, { signal }: Told, tell: (share: number) => void): Promise<Sampled> {
    const call = worker.sample(request, { signal });
    // A picture that is to be decoded counts as a step.
    const pictures = decodes ? request.labels.length : 0;
    for await (const { done, total, decoded = 0 } of call) tell((done + decoded) / ((total ?? done) + pictures));
    return call;
  }

  async function draw(request: Drawn, told: Told): Promise<Sampled> {
    const { steps, blocks, guidance, labels } = request;
    const way = `${blocks}/${isGuided(guidance)}/${labels.length}/${steps}`;
    const known = way === last;
    // Where this is interrupted, nobody knows what has been compiled.
    last = '';
    // Where decoding takes long, fewer steps come hardly sooner.
    const rungs = known || !told.onPictures || decoding > QUICK ? [steps] : ladder(steps);
    const work = rungs.reduce((sum, rung) => sum + rung, 0);
    let done = 0;
    let pictures: Sampled | undefined;
    for (const rung of rungs) {
      pictures = await sampled({ ...request, steps: rung }, told, (share) =>
        told.onProgress?.((done + share * rung) / work),
      );
      done += rung;
      told.onPictures?.(pictures, rung);
    }
    decoding = pictures!.decoded?.milliseconds ?? 0;
    if (!known && decoding < QUICK && (steps < 4 || pictures!.milliseconds < QUICK)) {
      pictures = await sampled(request, told, () => {});
    }
    last = way;
    return pictures!;
  }

  return {
    load: (source) =>
      exclusive(async () => {
        last = '';
        const model = await worker.load(source);
        [decodes, decoding] = [false, 0];
        return model;
      }),
    loadDecoder: (weights, config) =>
      exclusive(async () => {
        last = '';
        const decoder = await worker.loadDecoder(weights, config ? { config } : {});
        [decodes, decoding] = [true, 0];
        return decoder;
      }),
    draw: (request, told) => exclusive(() => draw(request, told)),
    inspect: (request, signal) => exclusive(async () => worker.inspect(request, { signal })),
    breakdown: (request, signal) => exclusive(async () => worker.breakdown(request, { signal })),
    dispose: () => worker.dispose(),
  };
}
