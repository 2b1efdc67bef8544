/** A model whose output is the picture: the velocity made of it, gradients through that, and samples however they are computed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import type { Activations } from '../../model/dit.ts';
import { type ParamSet, paramEntries } from '../../model/params.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network, type Rows } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { tinyModel } from '../support/tiny.ts';

const SEED = 7;
/** The loss does not depend on these, as softmax takes away what all keys have in common: their gradients are rounding. */
const keyBias = (name: string): boolean => /^DiTBlock_\d+\/Dense_1\/bias$/.test(name);
/** The least that 1 - t counts as. */
const FLOOR = 0.05;
const PIXELS = 64;
/** The same weights, their output read in two ways. */
const plain: ModelConfig = parseModelConfig({ ...tinyModel, channels: 1 });
const data: ModelConfig = parseModelConfig({ ...plain, predicts: 'data' });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

/** Both sides of the floor, and the ends; 0.9501 and 0.9499 are on either side of it. */
const TIMES = [0, 0.3, 0.9499, 0.9501, 0.97, 1];
const normal = normals(2);
const rows: Rows = {
  x: Float32Array.from({ length: TIMES.length * PIXELS }, normal),
  t: TIMES,
  step: [0, 1, 2, 3, 4, 5],
  labels: [0, 1, 2, 3, 0, 1],
  // Not in the order that the network runs them in.
  lengths: [2, 4, 2, 4, 4, 2],
};

const left = (t: number): number => Math.max(1 - t, FLOOR);

/** In float64: the velocity toward `picture` of rows of PIXELS. */
const toward = (picture: ArrayLike<number>, { x, t }: Pick<Rows, 'x' | 't'>): Float64Array =>
  Float64Array.from(x, (value, i) => (picture[i]! - value) / left(t[Math.floor(i / PIXELS)]!));

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((s, v) => s + v * v, 0));
const relative = (got: ArrayLike<number>, want: ArrayLike<number>): number =>
  norm(Array.from(got, (v, i) => v - want[i]!)) / norm(want);

async function withNetwork<T>(
  config: ModelConfig,
  use: (network: Network) => Promise<T>,
  activations: Activations = 'f32',
): Promise<T> {
  const network = new Network(engine, config, { activations });
  network.load(SEED, true);
  try {
    return await use(network);
  } finally {
    network.dispose();
  }
}

describe('the velocity', () => {
  it.each<[string, Rows, Activations]>([
    ['lengths of their own', rows, 'f32'],
    ['all blocks in sequence', { ...rows, lengths: undefined }, 'f32'],
    ['activations in f16', rows, 'f16'],
  ])('is what the output makes, row by row: %s', async (_, at, activations) => {
    const output = await withNetwork(plain, (network) => network.velocity(at), activations);
    const v = await withNetwork(data, (network) => network.velocity(at), activations);
    const want = toward(output, at);
    for (let r = 0; r < TIMES.length; r++) {
      const row = (values: ArrayLike<number>) => Array.from(values).slice(r * PIXELS, (r + 1) * PIXELS);
      expect(relative(row(v), row(want)), `t = ${TIMES[r]}`).toBeLessThan(1e-6);
      expect(relative(row(v), row(output)), `t = ${TIMES[r]}`).toBeGreaterThan(0.1);
    }
  });

  it('needs nothing of a model of velocities that it did not have', () => {
    expect(parseModelConfig({ ...data, predicts: 'velocity' })).toEqual(plain);
  });
});

describe('gradients', () => {
  const target = Float32Array.from({ length: rows.x.length }, normal);

  it('are those of the output, times what the velocity makes of it', async () => {
    // At one time the loss is that of the output against x + (1 - t) target, over (1 - t)^2.
    for (const t of [0.3, 0.99]) {
      const at = { ...rows, t: TIMES.map(() => t) };
      const picture = rows.x.map((x, i) => x + left(t) * target[i]!);
      const output = await withNetwork(plain, (network) => network.gradients(at, picture));
      const found = await withNetwork(data, (network) => network.gradients(at, target));
      expect(found.loss).toBeCloseTo(output.loss / left(t) ** 2, 3);
      for (const [name, gradient] of output.gradients) {
        if (keyBias(name)) continue;
        const want = gradient.map((g) => g / left(t) ** 2);
        if (norm(want) === 0) expect(norm(found.gradients.get(name)!), name).toBe(0);
        else expect(relative(found.gradients.get(name)!, want), name).toBeLessThan(1e-4);
      }
    }
  });

  it('are central differences of the loss, for every parameter along its gradient', async () => {
    await withNetwork(data, async (network) => {
      const start = formulaParams(data, SEED, { strong: true });
      network.place(start);
      const { gradients } = await network.gradients(rows, target);
      const lossAt = async (params: ParamSet) => {
        network.place(params);
        const v = await network.velocity(rows);
        return v.reduce((s, value, i) => s + (value - target[i]!) ** 2, 0) / v.length;
      };
      let compared = 0;
      for (const { spec, group, values } of paramEntries(start)) {
        const gradient = gradients.get(spec.name)!;
        const slope = norm(gradient);
        if (slope === 0 || keyBias(spec.name)) continue;
        const h = 2e-3 * (norm(values) + 0.1);
        const at = values.byteOffset / 4 - start.groups[group]!.byteOffset / 4;
        const along = (distance: number) => {
          const groups = [...start.groups];
          groups[group] = start.groups[group]!.slice();
          gradient.forEach((g, i) => {
            groups[group]![at + i]! += (distance * g) / slope;
          });
          return lossAt({ ...start, groups });
        };
        const difference =
          (8 * ((await along(h)) - (await along(-h))) - ((await along(2 * h)) - (await along(-2 * h)))) / (12 * h);
        expect(Math.abs(difference / slope - 1), `${spec.name}: ${difference}, gradient ${slope}`).toBeLessThan(1e-2);
        compared++;
      }
      // All but the rows of tables that no sample asks for are compared whole.
      expect(compared).toBeGreaterThan(60);
    });
  });
});

describe('samples', () => {
  const labels = [2, null, 0];
  const steps = 32;
  const noise = Float32Array.from({ length: labels.length * PIXELS }, normal);

  const draw = async (options: SamplerOptions, request: object, activations: Activations = 'f32') => {
    const params = memorySource(formulaParams(data, SEED, { strong: true }));
    const model = new ResidentModel(engine, data, params, { activations });
    const sampler = new Sampler(engine, model, { batch: 2, ...options });
    const { values } = await sampler.sample({ labels, steps, blocks: 4, noise, ...request });
    sampler.dispose();
    model.dispose();
    return values;
  };

  it.each([1, 2.5])('follow the velocity that the output makes, to the end (guidance %f)', async (guidance) => {
    const want = await withNetwork(plain, async (network) => {
      const all = (value: number) => labels.map(() => value);
      const asked = labels.map((label) => label ?? plain.classes);
      let x = noise;
      for (let i = 0; i < steps; i++) {
        const at = { x, t: all(i / steps), step: all(5), lengths: all(4) };
        const of = async (some: number[]) => toward(await network.velocity({ ...at, labels: some }), at);
        const [c, u] = [await of(asked), await of(all(plain.classes))];
        x = x.map((value, j) => value + (u[j]! + guidance * (c[j]! - u[j]!)) / steps);
      }
      return x;
    });
    const [inline, ahead, streamed, single] = [
      await draw({ ahead: false }, { guidance }),
      await draw({ ahead: true }, { guidance }),
      await draw({ residentBlocks: 2 }, { guidance }),
      await draw({ residentBlocks: 1 }, { guidance }),
    ];
    expect(relative(inline, want)).toBeLessThan(1e-5);
    expect(relative(ahead, inline)).toBeLessThan(1e-5);
    expect(streamed).toEqual(ahead);
    expect(single).toEqual(ahead);
  });

  it.each(['heun', 'dopri5', 'consistency'] as const)('of %s are finite, and the same streamed', async (solver) => {
    const request = { solver, ...(solver === 'dopri5' ? { steps: undefined } : { steps: 4 }) };
    const ahead = await draw({ ahead: true }, request);
    expect(ahead.every(Number.isFinite)).toBe(true);
    expect(await draw({ residentBlocks: 1 }, request)).toEqual(ahead);
  });

  it('with activations in f16 are those in f32 to their rounding, and the same streamed', async () => {
    const exact = await draw({ ahead: true }, { steps: 4 });
    const half = await draw({ ahead: true }, { steps: 4 }, 'f16');
    expect(relative(half, exact)).toBeGreaterThan(1e-6);
    expect(relative(half, exact)).toBeLessThan(5e-3);
    expect(await draw({ residentBlocks: 1 }, { steps: 4 }, 'f16')).toEqual(half);
  });

  it('have the same bits whatever the batch', async () => {
    const request = { guidance: 2 };
    const wide = await draw({ batch: 3, ahead: false }, request);
    expect(await draw({ batch: 1, ahead: false }, request)).toEqual(wide);
  });
});
