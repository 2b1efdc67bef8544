/** Gives an engine its tuning: a table, a `Tuning`, or what is known of its adapter. */
import type { Engine } from '../engine/engine.ts';
import type { Tuning } from '../engine/tuning.ts';
import { tuningOf } from '../kernels/candidates.ts';
import { families as allFamilies, type TunedFamily } from '../kernels/families.ts';
import { choicesOf } from './choices.ts';
import { shippedResults } from './shipped.ts';
import type { TuningStore } from './store.ts';
import { checkAdapter, mergeResults, parseTable, type TuningTable, tunedAdapter } from './table.ts';

/**
 * Which variants of kernels an engine takes: 'auto' for what the store has for its adapter, over what comes with odelt, over the
 * reviewed choices; a table, as tuning gives it or parsed from JSON; or choices of your own: `tuningOf`, `tuningBy`.
 */
export type EngineTuning = 'auto' | TuningTable | Tuning;

/** Where tuning comes from, and who is told. */
export interface UseTuningOptions {
  /** For 'auto'; null: only what comes with odelt. */
  readonly store?: TuningStore | null;
  /** Default: all of odelt's. */
  readonly families?: readonly TunedFamily[];
  /** What to call a table in errors. */
  readonly where?: string;
  /** Told of each entry that is left out, in one sentence. */
  readonly onNotice?: (text: string) => void;
}

/**
 * Sets an engine's tuning. Entries that name what is not there, or that were measured with other kernels, are left out.
 * @throws TuningError for a table that is damaged, of another version or of another adapter, and where the store cannot be used.
 */
export async function useTuning(engine: Engine, tuning: EngineTuning, options: UseTuningOptions = {}): Promise<void> {
  const { families = allFamilies, store = null, where = 'the tuning table', onNotice } = options;
  if (tuning !== 'auto' && typeof (tuning as Tuning)?.variant === 'function') {
    engine.tuning = tuning as Tuning;
    return;
  }
  const adapter = tunedAdapter(engine);
  if (tuning !== 'auto') {
    const table = parseTable(tuning, where);
    checkAdapter(table, adapter, where);
    engine.tuning = tuningOf(await choicesOf(engine, families, table.results, onNotice), families);
    return;
  }
  const stored = (await store?.get(adapter))?.results ?? [];
  const results = mergeResults(await shippedResults(engine.adapterClass), stored);
  engine.tuning = tuningOf(await choicesOf(engine, families, results, onNotice), families);
}
