/**
 * A device that does nothing but count: the same code runs on it as on a GPU and the accountant adds up what would be allocated, so
 * an estimate made with it equals the real thing to the byte.
 */
import { Engine } from './engine.ts';

/** An engine without a GPU, with the limits, features, class, tuning and mirrors of `like`. What is read back from it is zero. */
export function dryEngine({
  device: like,
  adapterClass,
  largestBinding,
  matrixUnits,
  boundsChecks,
  tuning,
  mirrors,
}: Engine): Engine {
  const nothing = () => ({});
  const device = {
    limits: like.limits,
    features: like.features,
    adapterInfo: like.adapterInfo,
    lost: new Promise<never>(() => {}),
    addEventListener: () => {},
    destroy: () => {},
    createBuffer: ({ size, label }: GPUBufferDescriptor) => ({
      size,
      label,
      destroy: () => {},
      mapAsync: async () => {},
      getMappedRange: () => new ArrayBuffer(size),
      unmap: () => {},
    }),
    createTexture: ({ size }: { size: readonly [number, number] }) => ({
      height: size[1],
      createView: nothing,
      destroy: nothing,
    }),
    createBindGroupLayout: nothing,
    createPipelineLayout: nothing,
    createShaderModule: nothing,
    createBindGroup: nothing,
    createComputePipeline: nothing,
    createComputePipelineAsync: async () => ({}),
    createCommandEncoder: () => ({
      beginComputePass: () => ({
        setPipeline: nothing,
        setBindGroup: nothing,
        dispatchWorkgroups: nothing,
        end: nothing,
      }),
      copyBufferToBuffer: nothing,
      copyBufferToTexture: nothing,
      finish: nothing,
    }),
    pushErrorScope: nothing,
    popErrorScope: async () => null,
    queue: { writeBuffer: nothing, submit: nothing, onSubmittedWorkDone: async () => {} },
  };
  return new Engine(device as unknown as GPUDevice, adapterClass, {
    ...{ largestBinding, matrixUnits, boundsChecks, tuning, mirrors },
  });
}
