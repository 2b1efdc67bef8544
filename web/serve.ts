/**
 * The worker's side: one engine, made when it is needed and made anew where the GPU was lost, the model that was loaded last, and
 * answers to calls. Loops run on messages and on the GPU's own promises, never on the page's timers.
 */
import type { CaseProgress } from '../bench/kernels.bench.ts';
import { describeAdapter } from '../engine/device.ts';
import type { Engine } from '../engine/engine.ts';
import { DeviceLostError, InterruptedError, UsageError } from '../engine/errors.ts';
import { type BrowserEngineOptions, createEngine } from '../tuning/browser-engine.ts';
import { sendableError } from './errors.ts';
import { type Answer, type CallName, type Calls, type Handed, type Question, transferables } from './protocol.ts';
import type { Serving } from './serving.ts';

/** Where messages come from and go: a worker's global scope, or a port. */
export interface Scope {
  /** Sends an answer, handing over what is in `transfer`. */
  postMessage(message: unknown, transfer: Handed[]): void;
  /** Tells of calls. */
  addEventListener(type: 'message', listener: (event: { readonly data: Question }) => void): void;
  /** Of a MessagePort: lets calls come, once somebody listens. */
  start?(): void;
  /** Ends the worker, after `dispose`. */
  close?(): void;
}

/** How a worker serves. */
export interface ServeOptions {
  /** How to get an engine. Default: `createEngine` of `odelt`. */
  readonly createEngine?: (options?: BrowserEngineOptions) => Promise<Engine>;
}

/** What each call loads when it is first made. */
type Handlers = {
  readonly [Name in Exclude<CallName, 'dispose'>]: (call: Serving<Name>) => Promise<Calls[Name]['result']>;
};

/** Answers calls until `dispose`. Calls that use the engine come one after the other. */
export function serveWorker(scope: Scope, options: ServeOptions = {}): void {
  const make = options.createEngine ?? createEngine;
  let engine: Promise<Engine> | null = null;
  const calls = new Map<number, AbortController>();
  let last: Promise<unknown> = Promise.resolve();

  const drop = async () => {
    const dropped = engine;
    engine = null;
    (await dropped?.catch(() => null))?.dispose();
  };
  const within = async <T>(body: (engine: Engine) => Promise<T>): Promise<T> => {
    // One that was lost while nobody used it costs no call.
    if (engine && (await isLost(engine))) await drop();
    engine ??= make();
    try {
      return await body(await engine);
    } catch (error) {
      if (error instanceof DeviceLostError) await drop();
      // What failed to start is tried anew next time.
      else if (
        await engine?.then(
          () => false,
          () => true,
        )
      )
        engine = null;
      throw error;
    }
  };
  const handlers: Handlers = lazyHandlers();

  const answer = (message: Answer) => scope.postMessage(message, transferables(message));
  const serve = async ({ id, call, args }: Extract<Question, { call: unknown }>) => {
    const controller = new AbortController();
    calls.set(id, controller);
    const { signal } = controller;
    const tell = (progress: unknown) => answer({ id, progress });
    const run = async (): Promise<unknown> => {
      signal.throwIfAborted();
      const handler = handlers[call as Exclude<CallName, 'dispose'>] as
        | ((serving: Serving<CallName>) => Promise<unknown>)
        | undefined;
      if (!handler) throw new UsageError(`the worker knows no call '${call}'`);
      return handler({ args: args as Serving<CallName>['args'], signal, tell, within });
    };
    const turn = last.then(run);
    last = turn.catch(() => undefined);
    try {
      answer({ id, result: await turn });
    } catch (error) {
      answer({ id, error: sendableError(error) });
    } finally {
      calls.delete(id);
    }
  };
  scope.addEventListener('message', ({ data }) => {
    if ('abort' in data) return calls.get(data.id)?.abort(interruption());
    if (data.call !== 'dispose') return void serve(data);
    for (const controller of calls.values()) controller.abort(interruption());
    // At once: what is under way fails, and nobody waits for it.
    void drop().then(() => {
      answer({ id: data.id, result: undefined });
      scope.close?.();
    });
  });
  scope.start?.();
}

/** @throws what else went wrong on its device meanwhile. */
async function isLost(engine: Promise<Engine>): Promise<boolean> {
  try {
    (await engine).check();
    return false;
  } catch (error) {
    if (error instanceof DeviceLostError) return true;
    throw error;
  }
}

const interruption = () => new InterruptedError('the call was interrupted');

/** Handlers that load their code with the first call of their kind. */
function lazyHandlers(): Handlers {
  const models = once(async () => (await import('./model-calls.ts')).createModelCalls());
  return {
    load: async (call) => (await models()).load(call),
    loadDecoder: async (call) => (await models()).loadDecoder(call),
    sample: async (call) => (await models()).sample(call),
    inspect: async (call) => (await models()).inspect(call),
    breakdown: async (call) => (await models()).breakdown(call),
    flow: async (call) => (await models()).flow(call),
    train: async (call) => (await import('./train-call.ts')).train(call),
    verify: async ({ args, signal, tell, within }) => {
      const { verifyUrl } = await import('./verify-url.ts');
      return within((engine) => verifyUrl(engine, args, { signal, tell }));
    },
    bench: async ({ args, signal, tell, within }) => {
      const { runBench } = await import('../bench/main.ts');
      const onCase = (text: string, place: CaseProgress) => tell({ text, ...place });
      return within((engine) => runBench([{ name: 'here', engine }], { ...args, signal, onCase }));
    },
    adapter: async ({ within }) => within(async ({ device }) => describeAdapter(device)),
  };
}

/** What has been made once is kept; what could not be, such as code that did not arrive, is made anew the next time. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}
