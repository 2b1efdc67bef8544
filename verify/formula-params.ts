/**
 * Parameters by formula: every value is a hash of its place, so that golden data need not carry weights. The formula is
 * the one of the reference's golden set; `odelt verify` fills models with it.
 */
import type { ModelConfig } from '../model/config.ts';
import { allSpecs, type ParamSet, type ParamSpec, paramEntries, paramLayout, zeroParams } from '../model/params.ts';

/** An integer hash of 32 bits: every input bit changes about half of the output's. */
export function lowbias32(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Writes elements 0, 1, ... of leaf k: uniform in [-scale, scale) about `offset`, in steps of scale / 2^23, rounded once to float32. */
export function formulaFill(out: Float32Array, leaf: number, seed: number, scale: number, offset = 0): void {
  const mixed = (Math.imul(leaf, 0x85ebca6b) + seed) >>> 0;
  for (let i = 0; i < out.length; i++) {
    const unit = (lowbias32(Math.imul(i, 0x9e3779b1) ^ mixed) >>> 8) / 2 ** 24;
    out[i] = offset + (2 * unit - 1) * scale;
  }
}

/** Largest magnitude of a leaf's values; `strong` makes the blocks, and errors in their attention, dominate the output. */
export function formulaScale(spec: ParamSpec, strong: boolean): number {
  const kind = spec.name.slice(spec.name.lastIndexOf('/') + 1);
  if (kind === 'bias') return strong ? 0.2 : 0.02;
  if (kind === 'embedding') return (strong ? 0.5 : 0.02) * Math.sqrt(3);
  const fanIn = spec.size / spec.shape.at(-1)!;
  return (strong ? 3 : 1) / Math.sqrt(fanIn);
}

/** Names of the length-wired model's parameters by code unit: a leaf's place in this list is its number in the formula. */
function leafNumbers(config: ModelConfig): Map<string, number> {
  const full = config.lengths === null ? { ...config, lengths: { min: 1, group: 1 } } : config;
  const names = allSpecs(paramLayout(full)).map((spec) => spec.name);
  return new Map(names.sort((a, b) => (a < b ? -1 : 1)).map((name, leaf) => [name, leaf]));
}

/**
 * The formula's parameters for a model. A conventional model (lengths null) gets the same values as the length-wired one,
 * less the length embedding.
 */
export function formulaParams(config: ModelConfig, seed: number, options: { strong?: boolean } = {}): ParamSet {
  const set = zeroParams(paramLayout(config));
  const leaves = leafNumbers(config);
  for (const { spec, values } of paramEntries(set)) {
    formulaFill(values, leaves.get(spec.name)!, seed, formulaScale(spec, options.strong ?? false));
  }
  return set;
}
