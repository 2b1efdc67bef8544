/** An engine for tests, on whatever adapter ODELT_ADAPTER or the machine gives. */
import { requestNodeDevice } from '../../engine/adapters.node.ts';
import { Engine } from '../../engine/engine.ts';

export async function testEngine(): Promise<Engine> {
  const { device, adapter } = await requestNodeDevice();
  return new Engine(device, adapter.kind);
}
