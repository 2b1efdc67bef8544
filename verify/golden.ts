/** Golden data of the reference: what a directory of recorded cases says about its model, and how tensors are sampled. */
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { fromGolden, type ModelConfig } from '../model/config.ts';

/** One recorded model: a folder with a config.json. */
export interface GoldenModel {
  /** The folder's name. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Seed of the formula that gives the parameters of the forward and gradient cases. */
  readonly seed: number;
  /** The parsed config.json. */
  readonly raw: unknown;
  /** Names of the files in the folder. */
  readonly files: readonly string[];
  /** A safetensors file of the folder, by its name without ending, read when first asked for; undefined without one. */
  tensors(stem: string): Promise<Tensors | undefined>;
  /** A JSON file of the folder, parsed; undefined without one. */
  json(stem: string): Promise<unknown>;
}

/** A folder with a config.json, which may turn out to describe no model. */
export interface GoldenFolder {
  readonly name: string;
  /** Where it is in the directory: '' for the directory itself, else ending in '/'. */
  readonly path: string;
  /** @throws DataError or ConfigError for a config.json that describes no model. */
  open(): Promise<GoldenModel>;
}

/** Golden data, wherever they are: on disk (golden.node.ts), behind a URL, in memory. */
export interface GoldenDir {
  readonly path: string;
  readonly folders: readonly GoldenFolder[];
  /** Sizes in bytes of all files in it and below, by path in the directory, folders being separated by '/'. */
  readonly files: ReadonlyMap<string, number>;
  /** A JSON file at the top (solver_toy, formula_check, ...), parsed; undefined without one. */
  json(stem: string): Promise<unknown>;
  /** The bytes of one of `files`. @throws DataError */
  bytes(path: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** Texts about recordings, which may change; nothing is computed from them. */
export const isAbout = (path: string): boolean => /\.(md|txt)$/i.test(path);

/** Model and formula seed from a golden config.json. Throws ConfigError or DataError. */
export function parseGoldenConfig(raw: unknown, file: string): { config: ModelConfig; seed: number } {
  const config = fromGolden(raw);
  const { formula_seed, seed } = raw as { formula_seed?: unknown; seed?: unknown };
  const found = formula_seed ?? seed;
  if (typeof found !== 'number' || !Number.isInteger(found) || found < 0 || found >= 2 ** 32) {
    throw new DataError(
      `${file}: formula_seed or seed must be an integer in [0, 2^32), found ${JSON.stringify(found)}`,
    );
  }
  return { config, seed: found };
}

/** Places of the elements that a sampled tensor of `kept` values keeps of a leaf with `size` elements. */
export function sampleIndices(size: number, kept: number): number[] {
  return Array.from({ length: kept }, (_, i) => Math.floor((i * size) / kept));
}

/** The elements of a leaf that a sampled tensor of `kept` values keeps. */
export function sampleOf(values: Float32Array, kept: number): Float32Array {
  return Float32Array.from(sampleIndices(values.length, kept), (i) => values[i]!);
}

/**
 * True for the bias of an attention key. Its gradient is zero but for rounding (softmax ignores a shift of the logits), so
 * its recorded gradient, moments and final value are noise.
 */
export function isKeyBias(leaf: string): boolean {
  return /^DiTBlock_\d+\/Dense_1\/bias$/.test(leaf);
}
