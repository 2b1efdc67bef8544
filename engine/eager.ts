/** Eager execution: every dispatch is encoded as it is called. For tests and debugging; programs replay much faster. */
import { Context } from './context.ts';
import { type Engine, STORAGE_USAGE } from './engine.ts';
import { UsageError } from './errors.ts';
import { type CheckedDispatch, gridOf, workgroups } from './kernel.ts';
import { encodeMirrors, MirrorTextures, mirrorNeeds } from './mirrors.ts';
import { bindGroup, PARAMS_BYTES } from './pipeline.ts';
import { isSym } from './scalar.ts';
import { placeOf, storageBytes, tensor } from './tensor.ts';
import { packParams } from './uniforms.ts';

const UNIFORM_COPY_DST = 0x40 | 0x8;

/** Runs `body` eagerly; tensors it made live until its promise settles (read what you need inside). */
export async function eager<T>(engine: Engine, body: (ctx: Context) => Promise<T>): Promise<T> {
  const buffers: GPUBuffer[] = [];
  const mirrors = new MirrorTextures(engine.memory, 'eager');
  const ctx = new Context(engine, {
    empty(label, shape, dtype) {
      const bytes = storageBytes({ shape, dtype });
      const buffer = engine.memory.create('activations', label, bytes, STORAGE_USAGE);
      buffers.push(buffer);
      return tensor(label, shape, dtype, { label, bytes, place: { buffer, offset: 0 } });
    },
    dispatch(checked) {
      buffers.push(execute(engine, checked, mirrors));
    },
  });
  try {
    const result = await body(ctx);
    await engine.allocated();
    return result;
  } finally {
    for (const buffer of buffers) engine.memory.destroy(buffer);
    mirrors.dispose();
  }
}

/** Encodes and submits one dispatch; returns its uniform buffer, which must outlive it. */
function execute(engine: Engine, d: CheckedDispatch, mirrors: MirrorTextures): GPUBuffer {
  const { device } = engine;
  const given = gridOf(d.dispatch.grid);
  const symbol = [...given, ...Object.values(d.dispatch.params ?? {})].find(isSym);
  if (symbol) {
    throw new UsageError(`${d.label}: the symbolic scalar '${symbol.name}' has no value in eager mode`, {
      hint: 'pass a number, or record() a program and give the value to run()',
    });
  }
  const counts = workgroups(given as number[], device.limits.maxComputeWorkgroupsPerDimension, d.label);
  const places = d.bindings.map((b) => ({ ...b, place: placeOf(b.tensor) }));
  const written = new Set(places.filter((p) => p.writable).map((p) => p.place.buffer));
  const promoted = places.filter((p) => !p.writable && !p.mirror && written.has(p.place.buffer)).map((p) => p.name);
  const { kernel, entry, constants = {} } = d.dispatch;
  const pipeline = engine.pipelines.compileNow({ kernel, entry, constants, promoted });
  const block = new DataView(new ArrayBuffer(PARAMS_BYTES));
  packParams(d, block, 0);
  const uniforms = engine.memory.create('uniforms', d.label, PARAMS_BYTES, UNIFORM_COPY_DST);
  device.queue.writeBuffer(uniforms, 0, block.buffer);
  mirrors.reserve(mirrorNeeds([d]));
  const encoder = device.createCommandEncoder({ label: d.label });
  encodeMirrors(encoder, d, mirrors);
  const pass = encoder.beginComputePass({ label: d.label });
  pass.setPipeline(pipeline.pipeline);
  pass.setBindGroup(0, bindGroup(device, pipeline, d, { buffer: uniforms }, mirrors));
  if (counts.every((c) => c > 0)) pass.dispatchWorkgroups(...counts);
  pass.end();
  device.queue.submit([encoder.finish()]);
  return uniforms;
}
