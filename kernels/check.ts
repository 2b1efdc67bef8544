/**
 * Whether a kernel computes what its contract says, on the adapter at hand: forward against float64, every gradient against central
 * differences, replay against eager execution. Tests, benchmarks and whoever writes a kernel use it; of kernels it knows the copy alone,
 * by which halves are read.
 */

import type { Context } from '../engine/context.ts';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { OdeltError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { copyInto } from './add.ts';
import type { Arrays, Contract } from './contract.ts';
import { createTape } from './derivatives.ts';
import { type Expected, type ExpectedPart, expectCase, expectPart } from './expected.ts';

const EPS = 2 ** -23;
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
