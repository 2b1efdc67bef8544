/** ONNX Runtime, native, on the CPU: no WebGPU, but what the processor behind a software driver can do. */

import { onnxModel } from '../onnx.mjs';
import { versionOf } from '../versions.mjs';

export async function open() {
  const ort = (await import('onnxruntime-node')).default;
  return {
    version: versionOf('onnxruntime-node'),
    adapter: { name: 'CPU', driver: '' },
    async prepare(workload, inputs) {
      const built = onnxModel(workload, inputs);
      if (!built) return undefined;
      const session = await ort.InferenceSession.create(built.model, { graphOptimizationLevel: 'all' });
      const feeds = Object.fromEntries(
        Object.entries(built.fed).map(([name, { shape, data }]) => [name, new ort.Tensor('float32', data, shape)]),
      );
      let outputs;
      return {
        async run() {
          outputs = await session.run(feeds);
        },
        done: async () => {},
        read: async () => ({ y: outputs.y.data }),
      };
    },
  };
}
