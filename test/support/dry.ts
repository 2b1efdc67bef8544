/** An engine that runs nothing and only counts, for tests of what is recorded and allocated. */
import { dryEngine } from '../../engine/dry-device.ts';
import type { Engine } from '../../engine/engine.ts';

const MEBI = 2 ** 20;

/** A GPU with WebGPU's guaranteed limits; `largestBinding` in bytes. */
export function dryGpu(largestBinding = 128 * MEBI): Engine {
  const limits = {
    maxBufferSize: 256 * MEBI,
    maxStorageBufferBindingSize: largestBinding,
    maxComputeWorkgroupsPerDimension: 65535,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
  };
  const device = { limits, features: new Set(), adapterInfo: {} } as unknown as GPUDevice;
  return dryEngine({ device, adapterClass: 'gpu', largestBinding } as Engine);
}
