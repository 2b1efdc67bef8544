/** An engine for tests, on whatever adapter ODELT_ADAPTER or the machine gives. */

import { createNodeEngine } from '../../engine/engine.node.ts';
import type { Engine } from '../../engine/engine.ts';

export async function testEngine(): Promise<Engine> {
  return (await createNodeEngine({ onError: () => {} })).engine;
}

/**
 * For files whose shaders are made for other machines and here only checked for values, or which run many variants once: lavapipe spares
 * itself optimising them, which takes longer than running them. (Its cache on disk keeps the two kinds apart.) To be called before any
 * engine of the process.
 */
export function sparingOptimisation(): void {
  process.env.GALLIVM_PERF ??= 'nopt';
}

/** The same, with an engine. */
export async function unoptimisedEngine(): Promise<Engine> {
  sparingOptimisation();
  return testEngine();
}
