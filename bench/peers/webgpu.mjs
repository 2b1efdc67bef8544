/** WebGPU for libraries written for browsers: `navigator.gpu` on the adapter that odelt chooses, and waiting that costs no core. */
import { waitAsleep } from '../../dist/engine/engine.node.js';
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

/** Waiting is the same for all: a browser does not poll, so a library must not pay for it here. */
export { waitAsleep as asleep };
