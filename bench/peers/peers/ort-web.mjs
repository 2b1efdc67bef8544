/** ONNX Runtime Web with its WebGPU provider: inputs and outputs are GPU buffers. Graph capture would fail at its second run under Node. */
import { onnxModel } from '../onnx.mjs';
import { versionOf } from '../versions.mjs';
import { asleep, provideWebGpu } from '../webgpu.mjs';

export async function open({ adapter }) {
  const described = await provideWebGpu(adapter);
  const ort = await import('onnxruntime-web/webgpu');
  ort.env.wasm.numThreads = 1;
  return {
    version: versionOf('onnxruntime-web'),
    adapter: described,
    async prepare(workload, inputs) {
      const built = onnxModel(workload, inputs);
      if (!built) return undefined;
      const session = await ort.InferenceSession.create(built.model, {
        executionProviders: ['webgpu'],
        graphOptimizationLevel: 'all',
        preferredOutputLocation: 'gpu-buffer',
      });
      const device = await ort.env.webgpu.device;
      const buffer = ({ shape, data }) => {
        const gpuBuffer = device.createBuffer({
          size: Math.ceil(shape.reduce((a, b) => a * b, 4) / 16) * 16,
          usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
        });
        if (data) device.queue.writeBuffer(gpuBuffer, 0, data);
        return ort.Tensor.fromGpuBuffer(gpuBuffer, { dataType: 'float32', dims: shape });
      };
      const feeds = Object.fromEntries(Object.entries(built.fed).map(([name, input]) => [name, buffer(input)]));
      const y = buffer({ shape: built.shape });
      return {
        run: () => asleep(session.run(feeds, { y })),
        done: () => asleep(device.queue.onSubmittedWorkDone()),
        async read() {
          const size = y.gpuBuffer.size;
          const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
          const encoder = device.createCommandEncoder();
          encoder.copyBufferToBuffer(y.gpuBuffer, 0, staging, 0, size);
          device.queue.submit([encoder.finish()]);
          await staging.mapAsync(GPUMapMode.READ);
          const values = new Float32Array(staging.getMappedRange().slice(0));
          return {
            y: values.subarray(
              0,
              built.shape.reduce((a, b) => a * b, 1),
            ),
          };
        },
      };
    },
  };
}
