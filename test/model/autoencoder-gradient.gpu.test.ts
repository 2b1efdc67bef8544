/** Gradients through whole halves of an autoencoder, of every parameter and of the input, against central differences of runs on the adapter. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { maxSize, type Tensor } from '../../engine/tensor.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { inOneBand, whole } from '../../model/autoencoder/bands.ts';
import { type Layer, layerParams, runLayer } from '../../model/autoencoder/layers.ts';
import { smallKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

/** Along a direction of unit length. Losses here have rounding errors of about 1e-5; differences of fourth order leave h^4. */
const H = 0.02;

/** Of the whole gradient's length: gradients below it (that of the keys' bias is nothing but rounding) cannot be told from none. */
const FLOOR = 0.01;

/** TAESD's kinds of layers, without the kinks of its activations: those are in the kernels' contracts. */
const RANGES: readonly Layer[] = [
  { kind: 'clamp', limit: 3 },
  { kind: 'convolution', name: 'wide', input: 4, output: 8, side: 3, upsample: true, bias: false },
  { kind: 'convolution', name: 'halved', input: 8, output: 6, side: 3, stride: 2 },
  { kind: 'range', scale: 2, shift: -1 },
];

/** What a half needs, on the GPU. */
function inputsOf(layers: readonly Layer[], shape: readonly [number, number, number, number]) {
  const normal = normals(11);
  const make = (name: string, dims: [number, ...number[]], offset: number, scale: number) => {
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => offset + scale * normal());
    return { tensor: engine.tensor(name, dims, { data }), data };
  };
  const all = new Map([['x', make('x', [...shape], 0, 1)]]);
  for (const { name, shape: stored } of layers.flatMap(layerParams)) {
    const outputs = stored.at(-1)!;
    const inputs = stored.reduce((a, b) => a * b) / outputs;
    const dims: [number, ...number[]] = stored.length === 1 ? [outputs] : [inputs, outputs];
    const gain = /norm\w*\.weight$/.test(name);
    all.set(name, make(name, dims, gain ? 1 : 0, stored.length > 1 ? 1 / Math.sqrt(inputs) : 0.2));
  }
  return all;
}

it.each([
  ['the encoder', smallKl().encoder!, [1, 6, 10, 3]],
  ['the decoder', smallKl().decoder!, [1, 3, 4, 4]],
  ['ranges and a clamp', RANGES, [1, 3, 4, 4]],
] as const)(
  'of %s',
  async (_, layers, shape) => {
    const inputs = inputsOf(layers, shape);
    const run = (ctx: Parameters<Parameters<typeof record>[2]>[0]): Tensor => {
      let x = inputs.get('x')!.tensor;
      for (const layer of layers) {
        const get = (name: string) => inputs.get(name)!.tensor;
        x = whole(runLayer(ctx, layer, inOneBand(ctx, x), get, Number.POSITIVE_INFINITY));
      }
      return x;
    };
    const gradients = new Map(
      [...inputs].map(([name, { tensor }]) => [name, engine.tensor(`d(${name})`, tensor.shape)] as const),
    );
    const forward = record(engine, 'forward', (ctx, keep) => {
      const y = run(ctx);
      keep(y);
      return y;
    });
    const size = maxSize(forward.result);
    const normal = normals(12);
    const seed = Float32Array.from({ length: size }, () => normal());
    const dy = engine.tensor('dy', forward.result.shape, { data: seed });
    const backward = record(engine, 'backward', (ctx) => {
      const tape = createTape();
      for (const [name, gradient] of gradients) tape.watch(inputs.get(name)!.tensor, gradient);
      ctx.tape = tape;
      tape.backward(ctx, [[run(ctx), dy]]);
    });
    const [forwards, both] = [
      await Program.compile(engine, forward.recording),
      await Program.compile(engine, backward.recording),
    ];
    const loss = async (): Promise<number> => {
      forwards.run();
      const [y] = await forwards.read(forward.result);
      return y!.reduce((sum: number, v: number, i: number) => sum + v * seed[i]!, 0);
    };
    both.run();
    const found = new Map<string, Float32Array>();
    for (const [name, gradient] of gradients) found.set(name, await engine.read(gradient));
    const length = Math.hypot(...[...found.values()].map((g) => Math.hypot(...g)));
    for (const [name, { tensor, data }] of inputs) {
      const direction = Float64Array.from(data, () => normal());
      const norm = Math.hypot(...direction);
      const at = async (h: number) => {
        engine.write(
          tensor,
          data.map((v, i) => v + (h * direction[i]!) / norm),
        );
        return loss();
      };
      const [a, b, c, d] = [await at(H), await at(-H), await at(2 * H), await at(-2 * H)];
      engine.write(tensor, data);
      const want = (8 * (a - b) - (c - d)) / (12 * H);
      const gradient = found.get(name)!;
      const got = gradient.reduce((sum, v, i) => sum + (v * direction[i]!) / norm, 0);
      // What such a sum is likely to be, and what rounding makes of the differences.
      const usual = Math.hypot(...gradient) / Math.sqrt(gradient.length) + FLOOR * length;
      expect(Math.abs(got - want) / usual, `${name}: ${got}, ${want}`).toBeLessThan(0.01);
    }
    expect(length).toBeGreaterThan(1);
    for (const program of [forwards, both]) program.dispose();
  },
  600_000,
);
