/** Compiled pipelines, one per kernel specialisation, shared by every program of an engine. */
import { OdeltError } from './errors.ts';
import { type CheckedDispatch, type Kernel, linkedKernel, variantKey } from './kernel.ts';
import type { MirrorTextures } from './mirrors.ts';
import { placeOf } from './tensor.ts';
import { type Constants, type LinkedWgsl, type Mirror, PARAMS_BINDING } from './wgsl.ts';

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  /** Layout of its bind group: the tensors in binding order and, where it has parameters, their block. */
  readonly layout: GPUBindGroupLayout;
  readonly hasParams: boolean;
}

export interface Variant {
  readonly kernel: Kernel;
  readonly entry: string;
  readonly constants: Constants;
  /** Read-only bindings to declare read_write, because their buffer is also written by the same dispatch. */
  readonly promoted: readonly string[];
}

/** Bytes of one dispatch's uniform block: the smallest offset alignment WebGPU guarantees. */
export const PARAMS_BYTES = 256;

/** The bind group of a dispatch: where its tensors lie, in the order of its bindings, or their mirrors, and its parameters' block. */
export function bindGroup(
  device: GPUDevice,
  { layout, hasParams }: Pipeline,
  { label, entry, bindings }: CheckedDispatch,
  params: { readonly buffer: GPUBuffer; readonly offset?: number },
  mirrors: MirrorTextures,
): GPUBindGroup {
  const tensors = bindings.map(({ tensor: t, mirror }, i) => ({
    binding: entry.bindings[i]!.binding,
    resource: mirror ? mirrors.get(mirror.name).createView() : { ...placeOf(t), size: t.storage.bytes },
  }));
  const block = { binding: PARAMS_BINDING, resource: { ...params, size: PARAMS_BYTES } };
  return device.createBindGroup({ label, layout, entries: hasParams ? [...tensors, block] : tensors });
}

export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #ready = new Map<string, Pipeline>();
  readonly #pending = new Map<string, Promise<Pipeline>>();
  /** A number for each kernel, so that two of the same name do not mix. */
  readonly #kernels = new Map<Kernel, number>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get size(): number {
    return this.#ready.size;
  }

  /** The compiled pipeline, or null when it has yet to be compiled. */
  get(variant: Variant): Pipeline | null {
    return this.#ready.get(this.#key(variant)) ?? null;
  }

  /** Compiles asynchronously; calls for the same variant share one compilation. */
  compile(variant: Variant): Promise<Pipeline> {
    const k = this.#key(variant);
    let pending = this.#pending.get(k);
    const ready = this.#ready.get(k);
    if (!pending && ready) pending = Promise.resolve(ready);
    if (!pending) {
      pending = this.#compile(variant).then((p) => {
        this.#ready.set(k, p);
        return p;
      });
      this.#pending.set(k, pending);
      // What failed for want of memory may be tried again.
      const settled = () => this.#pending.delete(k);
      pending.then(settled, settled);
    }
    return pending;
  }

  /** Compiles at once (eager mode). */
  compileNow(variant: Variant): Pipeline {
    const known = this.get(variant);
    if (known) return known;
    const { linked, descriptor, ...made } = this.#describe(variant);
    const pipeline = { pipeline: this.#device.createComputePipeline(descriptor(linked.code)), ...made };
    this.#ready.set(this.#key(variant), pipeline);
    return pipeline;
  }

  #key({ kernel, entry, constants, promoted }: Variant): string {
    const id = this.#kernels.get(kernel) ?? this.#kernels.size;
    this.#kernels.set(kernel, id);
    return `${id}/${entry}|${variantKey(constants, promoted)}`;
  }

  async #compile(variant: Variant): Promise<Pipeline> {
    const { linked, descriptor, ...made } = this.#describe(variant);
    // What is wrong with the source is thrown below with its lines; left uncaptured it would also fail a later check().
    this.#device.pushErrorScope('validation');
    const description = descriptor(linked.code);
    this.#device.popErrorScope().catch(() => null);
    try {
      return { pipeline: await this.#device.createComputePipelineAsync(description), ...made };
    } catch (cause) {
      const info = await description.compute.module.getCompilationInfo();
      throw new OdeltError('shader', `kernel ${variant.kernel.name}/${variant.entry} does not compile`, {
        details: `\n${listing(linked, info)}`,
        cause,
      });
    }
  }

  #describe(variant: Variant) {
    const { kernel, entry, constants, promoted } = variant;
    const linked = linkedKernel(kernel, constants, promoted);
    const label = `${kernel.name}/${entry}`;
    const { bindings, params } = linked.entries.get(entry)!;
    const bound = (binding: number, type: GPUBufferBindingType) => ({
      ...{ binding, visibility: GPU_COMPUTE },
      buffer: { type },
    });
    const hasParams = params.length > 0;
    const layout = this.#device.createBindGroupLayout({
      label,
      entries: [
        ...bindings.map((b) =>
          b.mirror ? mirrored(b.binding, b.mirror) : bound(b.binding, b.writable ? 'storage' : 'read-only-storage'),
        ),
        ...(hasParams ? [bound(PARAMS_BINDING, 'uniform')] : []),
      ],
    });
    const pipelineLayout = this.#device.createPipelineLayout({ label, bindGroupLayouts: [layout] });
    const descriptor = (code: string) => ({
      label,
      layout: pipelineLayout,
      compute: { module: this.#device.createShaderModule({ label, code }), entryPoint: entry },
    });
    return { linked, descriptor, layout, hasParams };
  }
}

/** GPUShaderStage.COMPUTE; the global is missing in some runtimes. */
const GPU_COMPUTE = 4;

const mirrored = (binding: number, { format }: Mirror): GPUBindGroupLayoutEntry => ({
  binding,
  visibility: GPU_COMPUTE,
  storageTexture: { access: 'read-only', format },
});

/** Compiler messages with the source line each points at. */
function listing(linked: LinkedWgsl, info: GPUCompilationInfo): string {
  const lines = linked.code.split('\n');
  return info.messages
    .map((m) => `${m.type} at ${m.lineNum}:${m.linePos}: ${m.message}\n  ${lines[m.lineNum - 1]?.trim() ?? ''}`)
    .join('\n');
}
