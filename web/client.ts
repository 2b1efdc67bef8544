/** The page's side of the worker: typed calls, each a promise of its result and an async iterable of its progress. */
import { InterruptedError, UnsupportedError, UsageError } from '../engine/errors.ts';
import { receivedError } from './errors.ts';
import { fileAt } from './files.ts';
import {
  type Answer,
  type BenchRequest,
  type BreakdownRequest,
  type CallName,
  type Calls,
  type DecoderOptions,
  type DecoderSource,
  type Handed,
  type LoadOptions,
  type Question,
  type ShowRequest,
  type TrainRequest,
  transferables,
  type VerifyRequest,
} from './protocol.ts';

/** A call under way: await its result, or iterate over its progress, or both. */
export type Call<Name extends CallName> = Promise<Calls[Name]['result']> & AsyncIterable<Calls[Name]['progress']>;

/** How a call can be ended. */
export interface CallOptions {
  /** The call then fails with InterruptedError; training hands over a checkpoint first. */
  readonly signal?: AbortSignal;
}

/** What the client needs of a worker, or of a port to one. */
export interface WorkerPort {
  /** Sends a call, handing over what is in `transfer`. */
  postMessage(message: unknown, transfer: Handed[]): void;
  /** Tells of answers, and of a worker that cannot be started. */
  addEventListener(type: 'message' | 'error' | 'messageerror', listener: (event: Event) => void): void;
  /** Of a MessagePort: lets messages come, once somebody listens. */
  start?(): void;
  /** Ends the worker, after `dispose` or an error of its own. */
  terminate?(): void;
}

/** odelt in a worker. Errors are those that were thrown there: class, code and hint arrive. */
export interface OdeltWorker {
  /**
   * Loads a model file: a URL, read block by block and kept in the browser's cache, a Blob, read block by block, or bytes. Of a run's
   * checkpoint, in memory or a Blob, the averaged weights are loaded. A model before it stays where this fails.
   * @throws as openModelUrl, parseCheckpoint, ResidentModel; LimitError for a checkpoint of 2 GiB or more.
   */
  load(source: string | URL | Uint8Array | Blob, options?: LoadOptions & CallOptions): Call<'load'>;
  /**
   * Loads the decoder of that model's latents, an autoencoder's file as `readAutoencoder` takes it: a URL, read whole, or bytes. From then on
   * `sample` gives pictures, until another model is loaded. A decoder before it stays where this fails.
   * @throws ConfigError for an autoencoder of other latents or without a decoder; CheckpointError for what is none, or cannot be read;
   * LimitError for one that does not fit, with the smallest limit that would do; OutOfMemoryError; UsageError without a model.
   */
  loadDecoder(source: string | URL | Uint8Array | Blob, options?: DecoderOptions & CallOptions): Call<'loadDecoder'>;
  /** Draws samples of the model that was loaded last. @throws as Sampler.sample; UsageError without a model. */
  sample(request: Calls['sample']['args'], options?: CallOptions): Call<'sample'>;
  /** Looks inside one sample of that model, at one step of its way. @throws as Inspector.look; UsageError without a model. */
  inspect(request: Calls['inspect']['args'], options?: CallOptions): Call<'inspect'>;
  /** Times one evaluation of that model for one sample, kernel by kernel. @throws as timeDispatches; UsageError without a model. */
  breakdown(request?: BreakdownRequest, options?: CallOptions): Call<'breakdown'>;
  /** How the flow of the model that was loaded last moves points. @throws as traceFlow; UsageError without a model. */
  flow(request: Calls['flow']['args'], options?: CallOptions): Call<'flow'>;
  /** Trains to the end, whatever the page does meanwhile; goes on by itself where the GPU is lost. @throws as createTrainer and its run. */
  train(request: TrainRequest, options?: CallOptions): Call<'train'>;
  /** Replays recordings on this browser's GPU. @throws as verify. */
  verify(request: VerifyRequest, options?: CallOptions): Call<'verify'>;
  /** Checks and times kernels. @throws as runBench. */
  bench(request?: BenchRequest, options?: CallOptions): Call<'bench'>;
  /** Describes the adapter that the worker computes on. @throws UnsupportedError where there is none. */
  adapter(options?: CallOptions): Call<'adapter'>;
  /** Frees the GPU and ends the worker; calls under way fail with InterruptedError. */
  dispose(): Promise<void>;
}

/** Progress that is kept for whoever iterates later; of what is large, only the last of its kind, until somebody does. */
const MOST_KEPT = 1000;
const LARGE: readonly unknown[] = ['checkpoint', 'shown'];

interface Pending {
  tell(progress: unknown): void;
  settle(outcome: { result: unknown } | { error: Error }): void;
  /** What the page ends the call by. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A client of `port`; default: a new worker of this package's own module. Bundlers that do not build workers want a worker of yours,
 * whose module is `odelt/worker/module`.
 * @throws UnsupportedError where there are no workers.
 */
export function createWorker(port: WorkerPort = ownWorker()): OdeltWorker {
  const calls = new Map<number, Pending>();
  let ids = 0;
  let ended: Error | null = null;
  const end = (error: Error) => {
    ended ??= error;
    for (const call of calls.values()) call.settle({ error: ended });
    calls.clear();
    port.terminate?.();
  };
  port.addEventListener('message', (event) => {
    const answer = (event as Event & { data: Answer }).data;
    const call = calls.get(answer.id);
    if (!call) return;
    if ('progress' in answer) return call.tell(answer.progress);
    calls.delete(answer.id);
    if (!('error' in answer)) return call.settle(answer);
    const error = receivedError(answer.error);
    // Reasons stay in the page: they may be anything.
    if (error instanceof InterruptedError && call.signal?.aborted) error.cause = call.signal.reason;
    call.settle({ error });
  });
  port.addEventListener('error', (event) => {
    event.preventDefault();
    const { message } = event as ErrorEvent;
    end(
      new UnsupportedError('the worker could not be started or has failed', {
        details: message || 'its module could not be loaded',
        hint: "serve odelt/worker/module from the page's own origin, and allow it: Content-Security-Policy: worker-src 'self'",
      }),
    );
  });
  port.addEventListener('messageerror', () => end(new UsageError('a message of the worker cannot be read')));
  port.start?.();

  function ask<Name extends CallName>(
    call: Name,
    args: Calls[Name]['args'],
    { signal }: CallOptions = {},
    transfer: Handed[] = [],
  ): Call<Name> {
    const id = ++ids;
    const { promise, iterable, pending } = underWay<Calls[Name]['result'], Calls[Name]['progress']>();
    const abort = () => port.postMessage({ id, abort: true } satisfies Question, []);
    if (ended) pending.settle({ error: ended });
    else if (signal?.aborted)
      pending.settle({ error: new InterruptedError(`${call} was interrupted`, { cause: signal.reason }) });
    else {
      try {
        port.postMessage({ id, call, args } satisfies Question, transfer);
        calls.set(id, { ...pending, signal });
        signal?.addEventListener('abort', abort, { once: true });
      } catch (cause) {
        const hint = 'give plain data, typed arrays, blobs and bitmaps; functions stay in the page';
        pending.settle({ error: new UsageError(`${call} cannot be sent to the worker`, { cause, hint }) });
      }
    }
    const forget = () => signal?.removeEventListener('abort', abort);
    promise.then(forget, forget);
    return Object.assign(promise, iterable);
  }

  return {
    load(source, { signal, ...options } = {}) {
      return ask('load', { source: placed(source), options }, { signal });
    },
    loadDecoder(source, { signal, ...options } = {}) {
      return ask('loadDecoder', sentDecoder(source, options), { signal });
    },
    sample: (request, options) => ask('sample', request, options),
    inspect: (request, options) => ask('inspect', request, options),
    breakdown: (request = {}, options) => ask('breakdown', request, options),
    flow: (request, options) => ask('flow', request, options),
    train(request, options) {
      const { data, show } = request;
      const sent = data?.kind === 'files' ? { ...data, files: Array.from(data.files ?? [], fileAt) } : data;
      const bitmaps = transferables(sent).filter((item) => !(item instanceof ArrayBuffer));
      return ask('train', { ...request, data: sent, show: show && sentShow(show) }, options, bitmaps);
    },
    verify: (request, options) => ask('verify', { ...request, url: absolute(request.url) }, options),
    bench: (request = {}, options) => ask('bench', request, options),
    adapter: (options) => ask('adapter', undefined, options),
    async dispose() {
      if (ended) return;
      // Behind a port without an end of its own it frees the GPU by itself.
      const last = ask('dispose', undefined);
      end(new InterruptedError('the worker has been disposed'));
      await last.catch(() => undefined);
    },
  };
}

/** Of what is shown, the address of a decoder. */
const sentShow = ({ decoder, ...show }: ShowRequest): ShowRequest =>
  decoder ? { ...show, decoder: sentDecoder(decoder.source, decoder.options) } : show;

/** As the page means it: in the worker it would be relative to the worker's module. */
const absolute = (url: string | URL): string => new URL(url, globalThis.location?.href).href;

/** The same, of an address; anything else as it is. */
const placed = <T extends object>(given: string | URL | T): string | Exclude<T, URL> =>
  typeof given === 'string' || given instanceof URL ? absolute(given) : (given as Exclude<T, URL>);

function sentDecoder(source: DecoderSource['source'] | URL, options: DecoderOptions = {}): DecoderSource {
  const { config } = options;
  return {
    source: placed(source),
    options: config === undefined ? options : { ...options, config: placed(config) },
  };
}

function ownWorker(): WorkerPort {
  if (!('Worker' in globalThis)) {
    throw new UnsupportedError('there are no web workers here', {
      hint: 'under Node use the library itself: createEngine, Sampler, createTrainer',
    });
  }
  // Bundlers find the module by this expression, and give its address in its place: there must be no other.
  const start = () => new Worker(new URL('./module.js', import.meta.url), { type: 'module' });
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const policy = trustedTypes && policyOf(trustedTypes);
  if (!policy) return start();
  // Pages that require trusted types want the address from a policy, which is slipped in on its way. To try without would be reported.
  const plain = globalThis.Worker;
  globalThis.Worker = class extends plain {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(policy!.createScriptURL(`${url}`) as unknown as string, options);
    }
  };
  try {
    return start();
  } finally {
    globalThis.Worker = plain;
  }
}

/** The part of the Trusted Types API that is used. */
interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): ScriptPolicy;
}

interface ScriptPolicy {
  createScriptURL(url: string): object;
}

/** A page lets a policy's name be taken once, and may start several workers: its policy is kept. */
const POLICIES = new WeakMap<TrustedTypes, ScriptPolicy>();

/** Undefined where the page allows none of this name: it may not require one. */
function policyOf(trustedTypes: TrustedTypes): ScriptPolicy | undefined {
  const known = POLICIES.get(trustedTypes);
  if (known) return known;
  try {
    const made = trustedTypes.createPolicy('odelt', { createScriptURL: (url) => url });
    POLICIES.set(trustedTypes, made);
    return made;
  } catch {
    return undefined;
  }
}

/** A promise with its settling outside, and what is told before it settles as an async iterable for one reader. */
function underWay<T, P>() {
  const kept: P[] = [];
  let isRead = false;
  let settled: { error?: Error } | null = null;
  let wake = () => {};
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  const pending: Pending = {
    tell(progress) {
      const typeOf = (each: unknown) => (each as { readonly type?: unknown }).type;
      const type = typeOf(progress);
      const before = isRead || !LARGE.includes(type) ? -1 : kept.findIndex((each) => typeOf(each) === type);
      if (before >= 0) kept.splice(before, 1);
      kept.push(progress as P);
      if (kept.length > MOST_KEPT) kept.shift();
      wake();
    },
    settle(outcome) {
      settled = 'error' in outcome ? outcome : {};
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.result as T);
      wake();
    },
  };
  const iterable: AsyncIterable<P> = {
    async *[Symbol.asyncIterator]() {
      isRead = true;
      // Whoever iterates is told of the error here.
      promise.catch(() => undefined);
      for (;;) {
        while (kept.length > 0) yield kept.shift()!;
        if (settled?.error) throw settled.error;
        if (settled) return;
        await new Promise<void>((woken) => {
          wake = woken;
        });
      }
    },
  };
  return { promise, iterable, pending };
}
