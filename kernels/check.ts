/**
 * Whether a kernel computes what its contract says, on the adapter at hand: forward against float64, every gradient against central
 * differences, replay against eager execution. Tests, benchmarks and whoever writes a kernel use it; of kernels it knows the copy alone,
 * by which halves are read.
 */

import type { Context } from '../engine/context.ts';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { OdeltError, UsageError } from '../engine/errors.ts';
import { normals, permutation } from '../engine/philox.ts';
import { Program, record } from '../engine/program.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { copyInto } from './add.ts';
import type { Arrays, Contract, Pick } from './contract.ts';
import { createTape } from './derivatives.ts';

const EPS = 2 ** -23;
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

/** The inputs of a case as tensors; the caller releases them. */
export function uploadCase(engine: Engine, c: Contract, k: object, arrays: Arrays): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype }]) => {
      const data = dtype === 'u32' ? new Uint32Array(arrays[name]!) : new Float32Array(arrays[name]!);
      return [name, engine.tensor(name, [...shape] as [number, ...number[]], { dtype, data })];
    }),
  );
}

/**
 * Error allowed for sums of `reduction` float32 terms, relative to the size of the result, with a factor for library functions.
 * Gradients may be off by four times as much: they pass through more operations.
 */
export const tolerance = (c: Contract, k: object): number =>
  EPS * (16 + 4 * Math.sqrt(c.reduction(k)) + c.reduction(k) / 16) * (c.slack ?? 1);

const gradientTolerance = (c: Contract, k: object): number => 4 * tolerance(c, k) + 1e-9;

/** Where `got` is farthest from `want`, and by how much relative to its size (root mean square plus the element's own). */
export function worstElement(got: ArrayLike<number>, want: Float64Array): { error: number; index: number } {
  if (got.length !== want.length) return { error: Number.POSITIVE_INFINITY, index: -1 };
  let squares = 0;
  for (let i = 0; i < want.length; i++) squares += want[i]! ** 2;
  const scale = Math.max(1e-3, Math.sqrt(squares / want.length));
  let worst = { error: 0, index: 0 };
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (scale + Math.abs(want[i]!));
    if (!(error <= worst.error)) worst = { error: Number.isNaN(error) ? Number.POSITIVE_INFINITY : error, index: i };
  }
  return worst;
}

/** @throws OdeltError naming the element that is farthest off, where that is too far. Returns its error. */
function compare(what: string, got: ArrayLike<number>, want: Float64Array, allowed: number): number {
  const { error, index } = worstElement(got, want);
  if (error <= allowed) return error;
  const found =
    index < 0
      ? `${got.length} elements, ${want.length} expected`
      : `element ${index} is ${got[index]}, ${want[index]} expected (error ${error.toExponential(1)}, allowed ${allowed.toExponential(1)})`;
  throw new OdeltError('wrong-result', `${what}: ${found}`, {
    hint: 'run `odelt verify` on this adapter; a driver may be at fault',
  });
}

const nameOf = (c: Contract, k: object): string => `${c.name} ${JSON.stringify(k)}`;

/**
 * Runs a case forward and compares it with its reference, which the caller has computed.
 * @returns the largest relative error. @throws OdeltError ('wrong-result') where that exceeds the tolerance.
 */
export async function checkForward(
  engine: Engine,
  c: Contract,
  k: object,
  inputs: Record<string, Tensor>,
  want: Arrays,
): Promise<number> {
  const got = await eager(engine, (ctx) => readOutputs(engine, inFloats(ctx, c.run(ctx, inputs, k))));
  const errors = Object.entries(want).map(([name, values]) =>
    compare(`${nameOf(c, k)}, ${name}`, got[name] ?? [], values, tolerance(c, k)),
  );
  return Math.max(...errors);
}

/** How many of a case's outputs were compared, and the largest relative error among them. */
export interface PartChecked {
  readonly error: number;
  readonly checked: number;
  readonly outputs: number;
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

/**
 * As `checkForward`, for a case that is too large for its whole reference: compares the outputs that the contract's `bench.part` picks at
 * random (always the same), of those that the whole run on the adapter gives. `expected` saves computing them again.
 * @throws OdeltError ('wrong-result'); UsageError for a contract without `part`.
 */
export async function checkPart(
  engine: Engine,
  c: Contract,
  k: object,
  inputs: Record<string, Tensor>,
  arrays: Arrays,
  expected: ExpectedPart = expectPart(c, k, arrays),
): Promise<PartChecked> {
  const got = await eager(engine, (ctx) => readOutputs(engine, inFloats(ctx, c.run(ctx, inputs, k))));
  let [error, checked] = [0, 0];
  for (const [name, values] of Object.entries(expected.outputs)) {
    const place = expected.places[name]!;
    const picked = Float64Array.from(values, (_, i) => got[name]?.[place(i)] ?? Number.NaN);
    error = Math.max(error, compare(`${nameOf(c, k)}, part of ${name}`, picked, values, tolerance(c, k)));
    checked += values.length;
  }
  const outputs = Object.values(got).reduce((sum, values) => sum + values.length, 0);
  return { error, checked, outputs };
}

const pick: Pick = (count, of) => {
  if (of <= count) return Array.from({ length: of }, (_, i) => i);
  const order = permutation({ seed: PARTS, stream: 0, step: 0 }, of);
  const between = [...order].filter((i) => i > 0 && i < of - 1).slice(0, Math.max(0, count - 2));
  return [0, ...between, of - 1].sort((a, b) => a - b);
};

/** Outputs as they can be read: what is stored as halves, copied into f32. */
export const inFloats = (ctx: Context, outputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, y]) => [
      name,
      y.dtype === 'f16' ? copyInto(ctx, y, ctx.empty(`f32(${y.label})`, y.shape)) : y,
    ]),
  );

async function readOutputs(
  engine: Engine,
  outputs: Record<string, Tensor>,
): Promise<Record<string, ArrayLike<number>>> {
  const values: Record<string, ArrayLike<number>> = {};
  for (const [name, y] of Object.entries(outputs)) {
    values[name] = y.dtype === 'u32' ? await engine.readU32(y) : await engine.read(y);
  }
  return values;
}

/** The largest relative errors of a case: of its outputs, and of its gradients (0 without any). */
export interface Checked {
  readonly forward: number;
  readonly backward: number;
}

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

/** Tensors of a case, which all its runs can share, however many variants are checked. */
export interface CaseTensors {
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** Gradients of the outputs, given. */
  readonly seeds: Readonly<Record<string, Tensor>>;
  /** Room for those of the inputs. */
  readonly gradients: Readonly<Record<string, Tensor>>;
}

/** Uploads what `checkCase` needs on the device. The caller releases it (`releaseCase`). */
export function placeCase(engine: Engine, c: Contract, k: object, expected: Expected): CaseTensors {
  const inputs = uploadCase(engine, c, k, expected.arrays);
  const { places } = expected;
  const whole = places && record(engine, 'outputs', (ctx) => c.run(ctx, inputs, k)).result;
  const seeds = Object.fromEntries(
    Object.entries(expected.cotangents).map(([name, values]) => {
      const data = new Float32Array(whole ? maxSize(whole[name]!) : values.length);
      values.forEach((v, i) => {
        data[places?.[name]?.(i) ?? i] = v;
      });
      return [name, engine.tensor(name, [data.length], { data })];
    }),
  );
  const gradients = Object.fromEntries(
    c.differentiable.map((name) => [name, engine.tensor(`d(${name})`, inputs[name]!.shape)]),
  );
  return { inputs, seeds, gradients };
}

export function releaseCase(engine: Engine, { inputs, seeds, gradients }: CaseTensors): void {
  for (const t of [inputs, seeds, gradients].flatMap((group) => Object.values(group))) engine.release(t);
}

/**
 * Checks all that a contract promises for a case: outputs against the reference; gradients of the sum of outputs times random
 * cotangents against central differences of the reference, every element written and finite; and a recorded program, replayed
 * twice, against eager execution bit for bit. `expected` saves computing it again, `placed` uploading it.
 * @throws OdeltError ('wrong-result') naming case, tensor and element where something is not so.
 */
export async function checkCase(
  engine: Engine,
  c: Contract,
  k: object,
  expected: Expected = expectCase(c, k),
  placed?: CaseTensors,
): Promise<Checked> {
  const { outputs: want } = expected;
  const tensors = placed ?? placeCase(engine, c, k, expected);
  const { inputs, seeds, gradients } = tensors;
  const build = (ctx: Context) => {
    const tape = c.differentiable.length > 0 ? createTape() : null;
    for (const [name, gradient] of Object.entries(gradients)) tape?.watch(inputs[name]!, gradient);
    ctx.tape = tape;
    const outputs = c.run(ctx, inputs, k);
    tape?.backward(
      ctx,
      Object.entries(outputs).map(([name, y]) => [y, { ...seeds[name]!, shape: y.shape }] as const),
    );
    return inFloats(ctx, outputs);
  };
  // What no kernel writes stays NaN.
  const clear = () => {
    for (const g of Object.values(gradients)) engine.write(g, new Float32Array(maxSize(g)).fill(Number.NaN));
  };
  const readGradients = async () => {
    const values: Record<string, Float32Array> = {};
    for (const [name, g] of Object.entries(gradients)) values[name] = await engine.read(g);
    return values;
  };
  try {
    clear();
    const once = await eager(engine, async (ctx) => {
      const outputs = build(ctx);
      return { outputs: await readOutputs(engine, outputs), gradients: await readGradients() };
    });
    const forward = Object.entries(want).map(([name, values]) => {
      const got = once.outputs[name] ?? [];
      const place = expected.places?.[name];
      const part = place ? Float64Array.from(values, (_, i) => got[place(i)] ?? Number.NaN) : got;
      return compare(`${nameOf(c, k)}, ${place ? 'part of ' : ''}${name}`, part, values, tolerance(c, k));
    });
    const backward = Object.entries(once.gradients).map(([name, got]) => {
      const what = `${nameOf(c, k)}, d(${name})`;
      const unwritten = got.findIndex((v) => !Number.isFinite(v));
      if (unwritten >= 0) throw new OdeltError('wrong-result', `${what}: element ${unwritten} is ${got[unwritten]}`);
      const { picks, values } = expected.gradients[name]!;
      const picked = picks.map((i) => got[i]!);
      return compare(what, picked, values, gradientTolerance(c, k));
    });
    await compareReplay(engine, nameOf(c, k), build, once, { clear, readGradients });
    return { forward: Math.max(...forward), backward: Math.max(0, ...backward) };
  } finally {
    if (!placed) releaseCase(engine, tensors);
  }
}

interface Values {
  readonly outputs: Record<string, ArrayLike<number>>;
  readonly gradients: Record<string, Float32Array>;
}

/** Records what ran once and replays it twice. @throws OdeltError where a bit differs. */
async function compareReplay(
  engine: Engine,
  what: string,
  build: (ctx: Context) => Record<string, Tensor>,
  once: Values,
  { clear, readGradients }: { clear: () => void; readGradients: () => Promise<Record<string, Float32Array>> },
): Promise<void> {
  const { recording, result } = record(engine, what, (ctx, keep) => {
    const outputs = build(ctx);
    for (const y of Object.values(outputs)) keep(y);
    return outputs;
  });
  const program = await Program.compile(engine, recording);
  try {
    for (let repeat = 0; repeat < 2; repeat++) {
      clear();
      program.run();
      for (const [name, y] of Object.entries(result)) {
        sameBits(`${what}, ${name}, replay ${repeat}`, (await program.read(y))[0]!, once.outputs[name]!);
      }
      for (const [name, g] of Object.entries(await readGradients())) {
        sameBits(`${what}, d(${name}), replay ${repeat}`, g, once.gradients[name]!);
      }
    }
  } finally {
    program.dispose();
  }
}

/** Compares words, so that NaNs and the signs of zeros count. */
function sameBits(what: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  const [a, b] = [words(got), words(want)];
  const index = a.length === b.length ? a.findIndex((word, i) => word !== b[i]) : 0;
  if (index >= 0) throw new OdeltError('wrong-result', `${what}: element ${index} differs from eager execution`);
}

const words = (x: ArrayLike<number>): Uint32Array =>
  x instanceof Float32Array || x instanceof Uint32Array
    ? new Uint32Array(x.buffer, x.byteOffset, x.length)
    : Uint32Array.from(x);

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
