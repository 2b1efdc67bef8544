/** Which cases of a contract are timed: its own small ones, those of diffusion transformers of the usual sizes, those of decoders of latents. */
import { ConfigError } from '../engine/errors.ts';
import type { BlockShape, Contract } from '../kernels/contract.ts';
import { type PresetName, preset, tokenCount } from '../model/config.ts';
import { decoderCases } from './decoder-cases.ts';

/** Networks whose blocks give cases, by the names that commands use. */
const NETWORKS = { s: 'dit-s/2', b: 'dit-b/2', l: 'dit-l/2', xl: 'dit-xl/2' } as const satisfies Record<
  string,
  PresetName
>;

/**
 * `small`: the contract's own cases; then blocks of DiT-S/2 to XL/2; `decoder`: the layers of decoders of latents, for 256 pixels;
 * `square`: products of two matrices of 4,096 rows, f32 and halves, by which GPUs are compared.
 */
export const SHAPES = ['small', ...(Object.keys(NETWORKS) as (keyof typeof NETWORKS)[]), 'decoder', 'square'] as const;
/** Name of a size of problem: small, a published model's blocks, decoders, or large products. */
export type ShapeName = (typeof SHAPES)[number];

/** Cases to choose from. */
export interface CaseChoice {
  /** Default: small and b. */
  readonly shapes?: readonly ShapeName[];
  /** Samples at once, for the blocks. Default: 1. */
  readonly batches?: readonly number[];
  /** Only cases whose forward pass takes at most so many operations. Default: all. */
  readonly mostFlops?: number;
}

/** @throws ConfigError for an unknown name. */
export function parseShapes(names: readonly string[]): ShapeName[] {
  return names.map((name) => {
    const shape = SHAPES.find((known) => known === name);
    if (shape === undefined) {
      throw new ConfigError(`there are no shapes '${name}'`, { hint: `shapes: ${SHAPES.join(', ')}` });
    }
    return shape;
  });
}

/** The sizes of a block of the network. */
export function blockShape(shape: keyof typeof NETWORKS, batch: number): BlockShape {
  const config = preset(NETWORKS[shape]);
  const { width, heads, mlpRatio } = config;
  return { batch, tokens: tokenCount(config), width, heads, hidden: mlpRatio * width };
}

/** Rows and columns of the shape `square`. */
export const SQUARE_SIDE = 4096;

/** The cases to time, each once. Empty for a contract without `bench`, or without cases of these shapes. */
export function casesOf(c: Contract, choice: CaseChoice = {}): object[] {
  const { bench } = c;
  if (!bench) return [];
  const { shapes = ['small', 'b'], batches = [1], mostFlops = Number.POSITIVE_INFINITY } = choice;
  const cases = shapes.flatMap((shape) => {
    if (shape === 'small') return bench.cases;
    if (shape === 'decoder') return decoderCases(c.name);
    if (shape === 'square') return bench.square?.(SQUARE_SIDE) ?? [];
    return batches.flatMap((batch) => bench.block?.(blockShape(shape, batch)) ?? []);
  });
  const fitting = cases.filter((k) => bench.cost(k).flops <= mostFlops);
  return [...new Map(fitting.map((k) => [JSON.stringify(k), k])).values()];
}
