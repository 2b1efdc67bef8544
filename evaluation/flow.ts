/**
 * How a flow moves points, for several numbers of steps and blocks on the same noise: the way of each sample, step by step, and the
 * velocities at fixed places at the beginning of each step. What a picture of the method is drawn of.
 */
import { throwIfAborted } from '../engine/abort.ts';
import { ConfigError, UsageError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { checkRequest } from '../sampling/request.ts';
import type { Velocities } from './velocities.ts';

/** What of a flow is to be looked at. */
export interface FlowRequest {
  /** Numbers of steps and of blocks, as a sampler takes them. */
  readonly cells: readonly { readonly steps: number; readonly blocks: number }[];
  /** `[samples, H, W, C]`: where their ways begin, in each cell. */
  readonly noise: Float32Array;
  /** `[places, H, W, C]`: where velocities are asked for. Default: none. */
  readonly places?: Float32Array;
}

/** A flow with one number of steps and of blocks, without labels. */
export interface Flow {
  readonly steps: number;
  readonly blocks: number;
  /** `[steps + 1, samples, H, W, C]`: where the samples are at times 0, 1 / steps, ..., 1. */
  readonly ways: Float32Array;
  /** `[steps, places, H, W, C]`: velocities at times 0, ..., 1 - 1 / steps, told this number of steps. */
  readonly field: Float32Array;
}

const sizeOf = ({ imageSize, channels }: ModelConfig): number => imageSize ** 2 * channels;

/** Rows that `traceFlow` evaluates at once. */
export const flowRows = (config: ModelConfig, { noise, places }: FlowRequest): number =>
  (noise.length + (places?.length ?? 0)) / sizeOf(config);

/** @throws ConfigError for steps and blocks that the model does not have; UsageError for numbers that are no samples or places. */
export function checkFlow(config: ModelConfig, { cells, noise, places = new Float32Array(0) }: FlowRequest): void {
  const size = sizeOf(config);
  if (!(noise instanceof Float32Array) || noise.length === 0 || noise.length % size !== 0)
    throw new UsageError(`noise must be a Float32Array of samples of ${size} numbers each`);
  if (!(places instanceof Float32Array) || places.length % size !== 0)
    throw new UsageError(`places must be a Float32Array of ${size} numbers each`);
  if (!Array.isArray(cells) || cells.length === 0) throw new UsageError('cells is no list of steps and blocks');
  if (config.predicts === 'noise') throw new ConfigError('the flow of a model that predicts noise cannot be traced');
  for (const { steps, blocks } of cells) checkRequest({ labels: [null], steps, blocks }, config);
}

/** Walks each cell by Euler's method, told its own step size. `velocities` must take `flowRows` rows. @throws as checkFlow; the signal's reason */
export async function traceFlow(
  velocities: Velocities,
  config: ModelConfig,
  request: FlowRequest,
  signal?: AbortSignal,
): Promise<Flow[]> {
  checkFlow(config, request);
  const { cells, noise, places = new Float32Array(0) } = request;
  const labels = new Array<number>(flowRows(config, request)).fill(config.classes);
  const flows: Flow[] = [];
  for (const { steps, blocks } of cells) {
    const ways = new Float32Array((steps + 1) * noise.length);
    const field = new Float32Array(steps * places.length);
    ways.set(noise);
    const x = new Float32Array(noise.length + places.length);
    x.set(places, noise.length);
    const level = config.ignoreDt ? 0 : Math.log2(steps);
    for (let step = 0; step < steps; step++) {
      throwIfAborted(signal, 'tracing a flow was interrupted');
      const from = ways.subarray(step * noise.length, (step + 1) * noise.length);
      x.set(from);
      const v = await velocities.of({ x, labels, t: step / steps, level, blocks });
      for (let i = 0; i < noise.length; i++) ways[(step + 1) * noise.length + i] = from[i]! + v[i]! / steps;
      field.set(v.subarray(noise.length), step * places.length);
    }
    flows.push({ steps, blocks, ways, field });
  }
  return flows;
}
