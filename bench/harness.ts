/**
 * How kernels are measured: checked against their float64 reference first, then timed in submissions of at least 10 ms, variants
 * interleaved, with median and quartiles. Knows no particular kernel.
 */
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { OdeltError } from '../engine/errors.ts';
import type { Program } from '../engine/program.ts';
import { normals } from '../engine/random.ts';
import type { Tensor } from '../engine/tensor.ts';
import type { Contract } from '../kernels/contract.ts';

export type Arrays = Readonly<Record<string, Float64Array>>;

/** Inputs of a case, rounded to what the GPU holds, so that the reference sees the same numbers. */
export function caseInputs(c: Contract, k: object): Arrays {
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, fill }], stream) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const drawn = normals({ seed: 17, stream, step: 0 }, size);
      let next = 0;
      const normal = () => drawn[next++ % size]!;
      return [name, Float64Array.from({ length: size }, (_, i) => Math.fround(fill ? fill(i, normal) : drawn[i]!))];
    }),
  );
}

export function uploadCase(engine: Engine, c: Contract, k: object, arrays: Arrays): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype }]) => {
      const data = dtype === 'u32' ? Uint32Array.from(arrays[name]!) : Float32Array.from(arrays[name]!);
      return [name, engine.tensor(name, [...shape] as [number, ...number[]], { dtype, data })];
    }),
  );
}

/** Error allowed for sums of `reduction` float32 terms, relative to the size of the result, as in test/kernels.test.ts. */
export const tolerance = (c: Contract, k: object): number =>
  2 ** -23 * (16 + 4 * Math.sqrt(c.reduction(k)) + c.reduction(k) / 16) * (c.slack ?? 1);

/** Largest error of `got` relative to the size of `want` (root mean square plus the element's own). */
export function largestError(got: ArrayLike<number>, want: Float64Array): number {
  const scale = Math.max(1e-3, Math.sqrt(want.reduce((s, v) => s + v * v, 0) / want.length));
  let worst = got.length === want.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (scale + Math.abs(want[i]!));
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}

/**
 * Runs a case forward and compares it with its reference.
 * @returns the largest relative error. @throws OdeltError when it exceeds the tolerance: a wrong kernel is not worth timing.
 */
export async function checkCase(
  engine: Engine,
  c: Contract,
  k: object,
  inputs: Record<string, Tensor>,
  want: Arrays,
): Promise<number> {
  const got = await eager(engine, async (ctx) => {
    const values: Record<string, ArrayLike<number>> = {};
    for (const [name, y] of Object.entries(c.run(ctx, inputs, k))) {
      values[name] = y.dtype === 'u32' ? await engine.readU32(y) : await engine.read(y);
    }
    return values;
  });
  const worst = Math.max(...Object.entries(want).map(([name, values]) => largestError(got[name] ?? [], values)));
  if (!(worst <= tolerance(c, k))) {
    throw new OdeltError(
      'wrong-result',
      `${c.name} ${JSON.stringify(k)} is off by ${worst} (allowed ${tolerance(c, k)})`,
      {
        hint: 'run `odelt verify` on this adapter; a driver may be at fault',
      },
    );
  }
  return worst;
}

/** Something to time: a compiled program that does the same work `repeats` times in one submission. */
export interface Timed {
  readonly engine: Engine;
  readonly program: Program;
  readonly repeats: number;
}

/** Seconds of one repeat. */
export interface Timing {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
  readonly samples: number;
}

/** Seconds from submitting the program to its end. Sleeps through most of `expected`, for Dawn under Node polls on a whole core. */
export async function runSeconds(
  { engine, program }: Timed,
  expected = 0,
): Promise<{ seconds: number; late: boolean }> {
  const nap = engine.adapterClass === 'gpu' ? 0 : Math.max(0, 0.7 * expected - 0.002);
  const started = performance.now();
  program.run();
  const done = engine.device.queue.onSubmittedWorkDone();
  if (nap > 0) await new Promise((resolve) => setTimeout(resolve, nap * 1000));
  const rested = performance.now();
  await done;
  const now = performance.now();
  engine.check();
  // Over before the nap was: the time is an upper bound only.
  return { seconds: (now - started) / 1000, late: nap > 0 && now - rested < 0.5 };
}

/** Quantile of sorted values, interpolated. */
export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}

/** Times several programs in turn (A, B, A, B, ...), so that a change of the machine's load meets all of them. */
export async function interleave(timed: readonly Timed[], rounds: number): Promise<Timing[]> {
  const seconds = timed.map((): number[] => []);
  const fastest = timed.map(() => 0);
  for (let round = -1; round < rounds; round++) {
    for (const [i, t] of timed.entries()) {
      const run = await runSeconds(t, fastest[i]);
      if (run.late) fastest[i]! *= 0.7;
      else fastest[i] = fastest[i] === 0 ? run.seconds : Math.min(fastest[i]!, run.seconds);
      if (round >= 0) seconds[i]!.push(run.seconds / t.repeats);
    }
  }
  return seconds.map((all) => {
    const sorted = all.sort((a, b) => a - b);
    return {
      median: quantile(sorted, 0.5),
      q1: quantile(sorted, 0.25),
      q3: quantile(sorted, 0.75),
      samples: all.length,
    };
  });
}
