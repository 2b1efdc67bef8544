/** How the dispatches of a program become commands. */
import type { CheckedDispatch } from './kernel.ts';
import { encodeMirrors, type MirrorTextures } from './mirrors.ts';
import type { Pipeline } from './pipeline.ts';

/** A dispatch, and what it is bound by. */
export interface Step {
  readonly node: CheckedDispatch;
  /** Whether it reads mirrors, which are copied before it. */
  readonly mirroring: boolean;
  pipeline: Pipeline | null;
  group: GPUBindGroup | null;
}

/** A program whose inputs have been written. @internal */
export interface Prepared {
  readonly steps: readonly Readonly<Step>[];
  /** Workgroups of each dispatch, in three dimensions. */
  readonly counts: Uint32Array;
  readonly mirrors: MirrorTextures;
}

/** Which steps to encode. */
interface Wanted {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  /** What else the first and the last pass say, which may then be without a dispatch: engine/timed.ts. */
  readonly ends?: (first: boolean, last: boolean) => GPUComputePassDescriptor;
}

/**
 * Encodes those steps that have work to do, in order, in one compute pass, or in several between which mirrors are copied.
 * @returns how many
 */
export function encodeSteps(encoder: GPUCommandEncoder, prepared: Prepared, wanted: Wanted): number {
  const { steps, counts, mirrors } = prepared;
  const { label, from, to, ends } = wanted;
  const works = (i: number): boolean => counts[3 * i]! > 0 && counts[3 * i + 1]! > 0 && counts[3 * i + 2]! > 0;
  const begins = [from];
  for (let i = from; i < to; i++) if (steps[i]!.mirroring && works(i)) begins.push(i);
  let encoded = 0;
  begins.forEach((begin, n) => {
    const last = n === begins.length - 1;
    const end = last ? to : begins[n + 1]!;
    if (n > 0) encodeMirrors(encoder, steps[begin]!.node, mirrors);
    if (begin === end && !ends) return;
    const pass = encoder.beginComputePass({ label, ...ends?.(n === 0, last) });
    let current: GPUComputePipeline | null = null;
    for (let i = begin; i < end; i++) {
      if (!works(i)) continue;
      const { pipeline, group } = steps[i]!;
      if (pipeline!.pipeline !== current) {
        current = pipeline!.pipeline;
        pass.setPipeline(current);
      }
      pass.setBindGroup(0, group!);
      pass.dispatchWorkgroups(counts[3 * i]!, counts[3 * i + 1]!, counts[3 * i + 2]!);
      encoded++;
    }
    pass.end();
  });
  return encoded;
}
