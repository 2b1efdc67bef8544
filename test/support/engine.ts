/** An engine for tests, on whatever adapter ODELT_ADAPTER or the machine gives. */

import { createNodeEngine } from '../../engine/engine.node.ts';
import type { Engine } from '../../engine/engine.ts';

export async function testEngine(): Promise<Engine> {
  return (await createNodeEngine({ onError: () => {} })).engine;
}
