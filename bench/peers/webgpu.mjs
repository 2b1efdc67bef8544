/** WebGPU for libraries written for browsers: `navigator.gpu` on the adapter that odelt chooses, and waiting that costs no core. */
import { requestNodeDevice } from '../../dist/node.js';

/** A global, also where the platform has one that cannot be assigned. */
export const setGlobal = (name, value) =>
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

/** Gives this process `navigator.gpu`, Dawn on the driver for `adapter`, whatever library asks. Returns what it is. */
export async function provideWebGpu(adapter) {
  const { gpu, device, adapterReport } = await requestNodeDevice({ adapter });
  device.destroy(); // libraries make their own
  // Held by the global for good: Dawn ends the process where its instance is collected before its devices.
  setGlobal('navigator', {
    gpu,
    userAgent: 'Node',
    platform: process.platform,
    hardwareConcurrency: 1,
    language: 'en',
  });
  acceptSharedMemory();
  return adapterReport.adapter;
}

/** Browsers write buffers from shared memory, as a threaded WebAssembly module has it; Dawn under Node refuses it. */
function acceptSharedMemory() {
  const { writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.writeBuffer = function (buffer, offset, data, ...range) {
    const memory = ArrayBuffer.isView(data) ? data.buffer : data;
    const own = memory instanceof SharedArrayBuffer ? data.slice() : data;
    return writeBuffer.call(this, buffer, offset, own, ...range);
  };
}

/**
 * Awaits `pending`, asleep between turns of the event loop: Dawn under Node polls without pause while something is pending, and on a
 * CPU adapter that is a core which the kernels could use. A browser does not poll, so a library must not pay for it here.
 */
export async function asleep(pending) {
  const bell = new Int32Array(new SharedArrayBuffer(4));
  let [done, turns] = [false, 0];
  const turn = () => {
    if (done) return;
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
