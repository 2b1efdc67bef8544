/**
 * What a case of a contract must give, computed on the host in float64: its inputs, its outputs, and elements of its gradients by central
 * differences; of large cases a few outputs. check.ts holds what an adapter computes against it.
 */
import { UsageError } from '../engine/errors.ts';
import { normals, permutation } from '../engine/philox.ts';
import type { Arrays, Contract, Pick } from './contract.ts';

/** Random streams of inputs and of cotangents. */
const INPUTS = 17;
const COTANGENTS = 23;
const PARTS = 29;
/** Elements of a gradient that are compared with central differences, each of which costs four references. */
const PICKS = 48;
/**
 * Normals that are drawn for an input: larger ones repeat them, as copying takes a tenth of the time. A prime, so that no two rows are
 * alike.
 */
const DRAWN = 1_048_573;

/** A source of standard normals, one at a time. */
function normalSource(seed: number, stream: number): () => number {
  const size = 1024;
  let next = 0;
  let drawn: Float32Array = new Float32Array();
  return () => {
    if (next % size === 0) drawn = normals({ seed, stream, step: 0 }, size, next);
    return drawn[next++ % size]!;
  };
}

/** Inputs of a case, rounded to what the GPU holds, so that the reference sees the same numbers. */
export function caseInputs(c: Contract, k: object): Arrays {
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype, fill }], stream) => {
      const values = new Float64Array(shape.reduce((a, b) => a * b, 1));
      const normal = normalSource(INPUTS, stream);
      const drawn = fill ? values.length : Math.min(values.length, DRAWN);
      const round = dtype === 'u32' ? (v: number) => v : Math.fround;
      for (let i = 0; i < drawn; i++) values[i] = round(fill ? fill(i, normal) : normal());
      for (let at = drawn; at < values.length; at += drawn) values.copyWithin(at, 0, drawn);
      return [name, values];
    }),
  );
}

/** Outputs of a large case that are compared: what they must be, and where they lie. */
export interface ExpectedPart {
  readonly outputs: Arrays;
  /** By output: where element i of those above lies in the whole one. */
  readonly places: Readonly<Record<string, (i: number) => number>>;
}

/** The outputs that the contract's `bench.part` picks at random, always the same. @throws UsageError for a contract without `part`. */
export function expectPart(c: Contract, k: object, arrays: Arrays): ExpectedPart {
  const part = c.bench?.part?.(k, arrays, pick);
  if (!part) throw new UsageError(`the contract '${c.name}' has no bench.part`);
  return { outputs: c.reference(part.inputs, part.case), places: part.places };
}

const pick: Pick = (count, of) => {
  if (of <= count) return Array.from({ length: of }, (_, i) => i);
  const order = permutation({ seed: PARTS, stream: 0, step: 0 }, of);
  const between = [...order].filter((i) => i > 0 && i < of - 1).slice(0, Math.max(0, count - 2));
  return [0, ...between, of - 1].sort((a, b) => a - b);
};

/** What a case must give, computed on the host: the same for every variant of the kernels behind it. */
export interface Expected {
  readonly arrays: Arrays;
  readonly outputs: Arrays;
  /** Of these outputs; of all others none. */
  readonly cotangents: Arrays;
  /** By differentiable input: elements of its gradient, and their values by central differences. */
  readonly gradients: Readonly<Record<string, { readonly picks: readonly number[]; readonly values: Float64Array }>>;
  /** Where only some outputs were computed: where element i of `outputs` lies in the whole one. */
  readonly places?: ExpectedPart['places'];
}

/**
 * Inputs, reference and gradients of a case; `picks`: elements of each gradient, each of which costs four references. A case of more than
 * `mostFlops` operations whose contract has `bench.part` is computed in part: a few outputs, the only ones with cotangents.
 */
export function expectCase(c: Contract, k: object, picks = PICKS, mostFlops = Number.POSITIVE_INFINITY): Expected {
  const arrays = caseInputs(c, k);
  const { bench } = c;
  if (bench?.part && bench.cost(k).flops > mostFlops) return expectFew(c, k, arrays, picks);
  const outputs = c.reference(arrays, k);
  const cotangents = drawCotangents(outputs);
  const gradients = c.differentiable.map((name) => {
    const at = spread(picks, arrays[name]!.length);
    const values = Float64Array.from(at, (i) => centralDifference(c, k, arrays, cotangents, name, i));
    return [name, { picks: at, values }];
  });
  return { arrays, outputs, cotangents, gradients: Object.fromEntries(gradients) };
}

function drawCotangents(outputs: Arrays): Arrays {
  const normal = normalSource(COTANGENTS, 0);
  return Object.fromEntries(
    Object.entries(outputs).map(([name, v]) => [name, Float64Array.from(v, () => Math.fround(normal()))]),
  );
}

const spread = (picks: number, length: number): number[] => {
  const count = Math.min(picks, length);
  return Array.from({ length: count }, (_, j) => Math.floor((j * length) / count));
};

/** As `expectCase`, by the smallest part: other outputs have no cotangent, so that its gradients are those of the whole. */
function expectFew(c: Contract, k: object, arrays: Arrays, picks: number): Expected {
  const least: Pick = (_, of) => pick(1, of);
  const part = c.bench!.part!(k, arrays, least);
  // A part's inputs are elements of the whole ones: of inputs that say where they lie, it says where they lay.
  const numbered = Object.fromEntries(Object.entries(arrays).map(([name, v]) => [name, v.map((_, i) => i)]));
  const origins = c.bench!.part!(k, numbered, least).inputs;
  const outputs = c.reference(part.inputs, part.case);
  const cotangents = drawCotangents(outputs);
  const gradients = c.differentiable.map((name) => {
    const at = spread(picks, part.inputs[name]!.length);
    const values = Float64Array.from(at, (i) => centralDifference(c, part.case, part.inputs, cotangents, name, i));
    return [name, { picks: at.map((i) => origins[name]![i]!), values }];
  });
  return { arrays, outputs, cotangents, gradients: Object.fromEntries(gradients), places: part.places };
}

/** d(sum of outputs times cotangents) / d(input element), by central differences of fourth order in float64. */
function centralDifference(
  c: Contract,
  k: object,
  arrays: Arrays,
  cotangents: Arrays,
  name: string,
  i: number,
): number {
  const at = (delta: number) => {
    const moved = { ...arrays, [name]: Float64Array.from(arrays[name]!) };
    moved[name]![i]! += delta;
    const outputs = c.reference(moved, k);
    let sum = 0;
    for (const [key, dy] of Object.entries(cotangents)) {
      for (let j = 0; j < dy.length; j++) sum += outputs[key]![j]! * dy[j]!;
    }
    return sum;
  };
  const h = 1e-4;
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}
