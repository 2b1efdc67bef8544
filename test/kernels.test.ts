/**
 * Every registered kernel against its float64 reference, its backward against central differences of that reference,
 * eager against a replayed program bit for bit, and its surroundings untouched.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { Program, record } from '../engine/program.ts';
import { Tape } from '../engine/tape.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { addGradients } from '../kernels/add.ts';
import type { Contract } from '../kernels/contract.ts';
import { contracts } from '../kernels/registry.ts';
import { testEngine } from './support/engine.ts';
import { normals } from './support/normals.ts';

const EPS = 2 ** -23;
let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

type Arrays = Record<string, Float64Array>;

/** Inputs rounded to what the GPU holds, so that the reference sees the same numbers. */
function inputsOf(c: Contract, k: object): Arrays {
  const normal = normals(17);
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype, fill }]) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const round = dtype === 'u32' ? (v: number) => v : Math.fround;
      return [name, Float64Array.from({ length: size }, (_, i) => round(fill ? fill(i, normal) : normal()))];
    }),
  );
}

function upload(c: Contract, k: object, arrays: Arrays): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype }]) => {
      const data = dtype === 'u32' ? Uint32Array.from(arrays[name]!) : Float32Array.from(arrays[name]!);
      return [name, engine.tensor(name, [...shape] as [number, ...number[]], { dtype, data })];
    }),
  );
}

/** Error allowed for sums of `reduction` float32 terms of the size of the result, with a factor for library functions. */
const tolerance = (c: Contract, k: object) =>
  EPS * (16 + 4 * Math.sqrt(c.reduction(k)) + c.reduction(k) / 16) * (c.slack ?? 1);

function compare(name: string, got: ArrayLike<number>, want: Float64Array, tol: number) {
  expect(got.length, `${name}: size`).toBe(want.length);
  const scale = Math.max(1e-3, Math.sqrt(want.reduce((s, v) => s + v * v, 0) / want.length));
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / (scale + Math.abs(want[i]!));
    if (!(error <= tol)) expect.fail(`${name}[${i}]: got ${got[i]}, want ${want[i]} (error ${error}, allowed ${tol})`);
  }
}

/** d(sum of outputs * cotangents) / d(input element), by central differences in float64. */
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
    for (const [key, dy] of Object.entries(cotangents))
      for (let j = 0; j < dy.length; j++) sum += outputs[key]![j]! * dy[j]!;
    return sum;
  };
  const h = 1e-4;
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

for (const c of contracts) {
  describe(c.name, () => {
    for (const k of c.cases) {
      it(`${JSON.stringify(k)} agrees with float64, backward with central differences, replay with eager`, async () => {
        const arrays = inputsOf(c, k);
        const inputs = upload(c, k, arrays);
        const want = c.reference(arrays, k);
        const normal = normals(23);
        const cotangents: Arrays = Object.fromEntries(
          Object.entries(want).map(([name, v]) => [name, Float64Array.from(v, () => Math.fround(normal()))]),
        );
        const seeds = Object.fromEntries(
          Object.entries(cotangents).map(([name, v]) => [
            name,
            engine.tensor(name, [v.length], { data: Float32Array.from(v) }),
          ]),
        );
        const gradients = Object.fromEntries(
          c.differentiable.map((name) => [name, engine.tensor(`d(${name})`, inputs[name]!.shape)]),
        );
        const clear = () => {
          for (const g of Object.values(gradients)) engine.write(g, new Float32Array(maxSize(g)).fill(Number.NaN));
        };
        const build = (ctx: Parameters<Contract['run']>[0]) => {
          const tape = c.differentiable.length > 0 ? new Tape(addGradients) : null;
          for (const name of c.differentiable) tape!.watch(inputs[name]!, gradients[name]!);
          ctx.tape = tape;
          const outputs = c.run(ctx, inputs, k);
          tape?.backward(
            ctx,
            Object.entries(outputs).map(([name, y]) => [y, { ...seeds[name]!, shape: y.shape }] as const),
          );
          return outputs;
        };

        clear();
        const integers = new Set<string>();
        const once = await eager(engine, async (ctx) => {
          const outputs = build(ctx);
          const values: Record<string, Float32Array> = {};
          for (const [name, y] of Object.entries(outputs)) if (y.dtype === 'u32') integers.add(name);
          // A view of columns cannot be read by itself; no contract returns one.
          for (const [name, y] of Object.entries(outputs)) values[name] = await engine.read(y);
          for (const [name, g] of Object.entries(gradients)) values[`d(${name})`] = await engine.read(g);
          return values;
        });
        for (const [name, value] of Object.entries(want)) {
          compare(name, integers.has(name) ? new Uint32Array(once[name]!.buffer) : once[name]!, value, tolerance(c, k));
        }
        for (const name of c.differentiable) {
          const got = once[`d(${name})`]!;
          const picks =
            got.length <= 48
              ? [...got.keys()]
              : Array.from({ length: 48 }, (_, j) => Math.floor((j * got.length) / 48));
          const expected = Float64Array.from(picks, (i) => centralDifference(c, k, arrays, cotangents, name, i));
          compare(
            `d(${name})`,
            picks.map((i) => got[i]!),
            expected,
            4 * tolerance(c, k) + 1e-9,
          );
          expect(got.every(Number.isFinite), `every element of d(${name}) is written`).toBe(true);
        }

        const { recording, result } = record(engine, c.name, (ctx, keep) => {
          const outputs = build(ctx);
          for (const y of Object.values(outputs)) keep(y);
          return outputs;
        });
        const program = await Program.compile(engine, recording);
        for (let repeat = 0; repeat < 2; repeat++) {
          clear();
          program.run();
          for (const [name, y] of Object.entries(result)) {
            expect(bits((await program.read(y))[0]!), `${name}, replay ${repeat}`).toEqual(bits(once[name]!));
          }
          for (const [name, g] of Object.entries(gradients)) {
            expect(bits(await engine.read(g)), `d(${name}), replay ${repeat}`).toEqual(bits(once[`d(${name})`]!));
          }
        }
        program.dispose();
        for (const t of [...Object.values(inputs), ...Object.values(seeds), ...Object.values(gradients)])
          engine.release(t);
      });
    }
  });
}

const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength).toString('base64');
