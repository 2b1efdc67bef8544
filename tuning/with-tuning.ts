/** Engines with the tuning that they are asked to have. What knows of tuning is loaded only where some is asked for. */
import type { Engine } from '../engine/engine.ts';
import type { EngineTuning } from './open.ts';
import type { TuningStore } from './store.ts';

/** What engines are given beside their device. */
export interface TunedEngineOptions {
  /**
   * Which variants of kernels to take: a table that `tune` of odelt/bench made, 'auto' for what is kept for this adapter (in the browser's
   * IndexedDB; under Node in the user's cache folder) or comes with odelt, or choices of your own. Default: what is known of
   * the adapter's kind. The last bits of results depend on it.
   */
  readonly tuning?: EngineTuning;
  /** Told of each entry of the tuning that is left out, in one sentence. Default: console.warn. */
  readonly onNotice?: (text: string) => void;
}

/** The engine with its tuning; disposed where that fails. `store`: what 'auto' looks in. @throws TuningError. */
export async function withTuning(
  engine: Engine,
  { tuning, onNotice = console.warn }: TunedEngineOptions,
  store: () => Promise<TuningStore | null>,
): Promise<Engine> {
  if (tuning === undefined) return engine;
  try {
    const { useTuning } = await import('./open.ts');
    await useTuning(engine, tuning, { store: await store(), onNotice });
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}
