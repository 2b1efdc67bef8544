/** An engine under Node: the device of adapters.node.ts, and waiting that leaves the CPU to those who compute. */
import { type NodeDevice, type NodeDeviceOptions, requestNodeDevice } from './adapters.node.ts';
import { dawnFlags } from './dawn.node.ts';
import { Engine, type EngineOptions } from './engine.ts';

/** An engine under Node, and the device behind it. */
export interface NodeEngine {
  readonly engine: Engine;
  readonly node: NodeDevice;
}

/** Acquires a device and makes an engine on it. @throws UnsupportedError naming the ways out when there is none. */
export async function createNodeEngine(
  options: NodeDeviceOptions & Pick<EngineOptions, 'mirrors' | 'submissionBudget'> = {},
): Promise<NodeEngine> {
  const node = await requestNodeDevice(options);
  const wait = node.adapter.kind === 'gpu' ? undefined : waitAsleep;
  const { mirrors, submissionBudget } = options;
  const { matrixUnits, kind } = node.adapter;
  const boundsChecks = !dawnFlags(options).some((flag) => /^enable-.*\bdisable_robustness\b/.test(flag));
  const engine = new Engine(node.device, kind, { wait, matrixUnits, boundsChecks, mirrors, submissionBudget });
  return { engine, node };
}

/**
 * Awaits `pending`, asleep most of the time. Dawn under Node polls from the event loop, without pause, for as long as something
 * is pending; on a CPU adapter that costs a core that the kernels could use. So every turn of the loop sleeps a little.
 * @public bench/peers waits for other libraries so
 */
export async function waitAsleep<T>(pending: Promise<T>): Promise<T> {
  const bell = new Int32Array(new SharedArrayBuffer(4));
  let done = false;
  let turns = 0;
  const turn = () => {
    if (done) return;
    // Short waits stay short: the sleep grows from nothing to 2 ms.
    if (++turns > 8) Atomics.wait(bell, 0, 0, Math.min(2, turns / 16));
    setImmediate(turn);
  };
  setImmediate(turn);
  try {
    return await pending;
  } finally {
    done = true;
  }
}
