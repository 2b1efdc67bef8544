/** Training in less memory: recomputed blocks and accumulated gradients give the updates of plain training. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { checkpoint } from '../../engine/context.ts';
import { dryEngine } from '../../engine/dry-device.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import { add } from '../../kernels/add.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { silu } from '../../kernels/elementwise.ts';
import { mul } from '../../kernels/mul.ts';
import { type ModelConfig, parseModelConfig, preset } from '../../model/config.ts';
import { paramLayout } from '../../model/params.ts';
import { Weights } from '../../model/weights/weights.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { createState } from '../../training/state.ts';
import { type StepResult, TrainStep } from '../../training/step.ts';
import { createTrainer, type TrainEvent } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { bits, setBits, tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const model: ModelConfig = parseModelConfig({ ...tinyModel, dropout: 0.1 });
const train = (change: Partial<TrainConfig> = {}): TrainConfig => parseTrainConfig({ ...tinyTrain, ...change });

/** Runs `updates` of a configuration from the same start; what each batch gave, the last gradients, the state at the end. */
async function trained(config: TrainConfig, updates: number, of = model) {
  const state = createState(engine, { params: formulaParams(of, 5) });
  const step = await TrainStep.create(engine, of, config, state);
  const normal = normals(3);
  const labels = Array.from({ length: config.batch }, (_, i) => i % of.classes);
  const results: StepResult[] = [];
  const gradients: Float32Array[][] = [];
  for (let index = 0; index < updates; index++) {
    for (let part = 0; part < config.accumulate; part++) {
      const at = index * config.accumulate + part;
      const images = Float32Array.from({ length: config.batch * of.imageSize ** 2 * of.channels }, () => normal());
      const batch = assembleBatch(of, config, labels, drawStep(of, config, at));
      results.push(await step.run({ images, batch, index, lr: config.lr, part }));
      gradients.push([...(await step.gradients.read()).groups]);
    }
  }
  const sets = { params: await state.params.read(), m: await state.m.read(), v: await state.v.read() };
  const bytes = step.program.plan.bytes;
  step.dispose();
  for (const weights of Object.values(state)) weights.release();
  return { results, gradients, sets, bytes };
}

describe('a checkpoint', () => {
  it.each(['plain', 'nested', 'of its own input'])(
    '%s: gradients of leaves used inside, outside and twice',
    async (kind) => {
      const data = [0.3, -1.2, 2.5, 0.01, -0.7, 1.9];
      const make = (name: string) => engine.tensor(name, [3, 2], { data: Float32Array.from(data) });
      const run = async (remember: typeof checkpoint) => {
        const [x, w, dx, dw] = [make('x'), make('w'), make('dx'), make('dw')];
        const out = await eager(engine, async (ctx) => {
          const tape = createTape();
          tape.watch(x!, dx!);
          tape.watch(w!, dw!);
          ctx.tape = tape;
          const inner = (a: typeof x) => mul(ctx, silu(ctx, mul(ctx, a!, w!)), w!);
          const h = mul(ctx, x!, w!);
          const y = remember(ctx, () => {
            if (kind === 'of its own input') return h;
            const z = kind === 'nested' ? remember(ctx, () => inner(h)) : inner(h);
            // Fewer rows than h: its gradient has missing rows.
            return add(ctx, h, ctx.prefix(z, 2));
          });
          tape.backward(ctx, [[add(ctx, y, x!), make('seed')]]);
          return engine.readAll([y, dx!, dw!]);
        });
        return out.map(bits);
      };
      expect(await run(checkpoint)).toEqual(await run((_, body) => body()));
    },
  );

  it('saves nothing where no gradient is wanted, and is its body without a tape', async () => {
    const dry = dryEngine(engine);
    const x = dry.tensor('x', [2, 2]);
    let runs = 0;
    await eager(dry, async (ctx) => {
      const body = () => {
        runs++;
        return silu(ctx, x);
      };
      checkpoint(ctx, body);
      const tape = createTape();
      ctx.tape = tape;
      const y = checkpoint(ctx, body);
      expect(tape.needs(y)).toBe(false);
      expect(() => tape.backward(ctx, [[y, y]])).toThrow("nothing that is watched leads to 'silu'");
    });
    expect(runs).toBe(2);
  });
});

describe('recomputed blocks', () => {
  it.each([
    ['length wiring, dropout', model],
    ['conventional', parseModelConfig({ ...model, lengths: null })],
  ])('%s: three updates are those of plain training', async (_, of) => {
    const plain = await trained(train(), 3, of);
    const again = await trained(train({ recompute: 'blocks' }), 3, of);
    expect(again.gradients.map((groups) => groups.map(bits))).toEqual(
      plain.gradients.map((groups) => groups.map(bits)),
    );
    expect(again.results).toEqual(plain.results);
    expect(setBits(again.sets)).toEqual(setBits(plain.sets));
    expect(again.bytes).toBeLessThan(plain.bytes);
  });

  // Planned without a GPU's memory.
  const planned = async (of: ModelConfig, config: TrainConfig) => {
    const dry = dryEngine(engine);
    const layout = paramLayout(of);
    const set = () => new Weights(dry, layout, 'planned');
    const state = { params: set(), ema: set(), m: set(), v: set() };
    const { program } = await TrainStep.create(dry, of, config, state);
    return program.plan;
  };
  it.each([
    ['tiny', 32, 0.2],
    ['dit-b/2', 4, 0.2],
  ] as const)('preset %s at batch %d plans at most %f of the activations', async (name, batch, most) => {
    const recipe = { batch, timeEvery: 4, lengthEvery: 4 };
    const plain = await planned(preset(name), parseTrainConfig(recipe));
    const again = await planned(preset(name), parseTrainConfig({ ...recipe, recompute: 'blocks' }));
    expect(again.bytes / plain.bytes).toBeLessThan(most);
    expect(again.bytes).toBeLessThan(1.1 * again.lowerBound);
  });
});

describe('accumulation', () => {
  const k = 3;

  it('updates with the mean of the gradients, computed one by one', async () => {
    const { results, gradients, sets } = await trained(train({ accumulate: k }), 1);
    const start = formulaParams(model, 5);
    let square = 0;
    start.groups.forEach((p0, g) => {
      const parts = gradients.map((groups) => groups[g]!);
      expect(new Set(parts.map(bits)).size).toBe(k);
      p0.forEach((p, i) => {
        const mean = parts.reduce((s, part) => s + part[i]!, 0) / k;
        square += mean ** 2;
        const near = (got: number, want: number, scale: number) => {
          if (!(Math.abs(got - want) <= scale)) expect(`${g}:${i} ${got}`).toBe(want);
        };
        const size = parts.reduce((s, part) => s + Math.abs(part[i]!), 0) / k;
        near(sets.m.groups[g]![i]!, 0.1 * mean, 1e-6 * size + 1e-12);
        // The first step of Adam is the sign of the gradient, where there is one.
        if (Math.abs(mean) > 1e-4 && Math.abs(mean) > 0.01 * size) {
          near(sets.params.groups[g]![i]!, p - 1e-2 * (Math.sign(mean) + 0.1 * p), 1e-5);
        }
      });
    });
    expect(results.map((r) => r.gradNorm).slice(0, -1)).toEqual([0, 0]);
    expect(results.at(-1)!.gradNorm / Math.sqrt(square)).toBeCloseTo(1, 5);
  });

  it('starts anew with every update: two updates equal their parts run apart', async () => {
    const both = await trained(train({ accumulate: 2 }), 2);
    expect(both.results.map((r) => r.gradNorm > 0)).toEqual([false, true, false, true]);
    const mean = both.gradients.slice(2);
    const norm = Math.hypot(
      ...mean[0]!.map((first, g) => Math.hypot(...first.map((x, i) => (x + mean[1]![g]![i]!) / 2))),
    );
    expect(both.results[3]!.gradNorm / norm).toBeCloseTo(1, 5);
  });

  it('in a run: every batch has pictures and draws of its own, and memory holds one more set of gradients', async () => {
    const run = async (config: TrainConfig) => {
      const trainer = await createTrainer(engine, { model, train: config, data: tinyData() });
      const { byKind } = engine.memory.report();
      const events: TrainEvent[] = [];
      for await (const event of trainer.run()) events.push(event);
      trainer.dispose();
      expect(engine.memory.report().byKind.gradients).toBeUndefined();
      expect(engine.memory.report().byKind.weights).toBeUndefined();
      return { events, byKind };
    };
    const one = await run(train({ steps: 4, lr: 1e-30, warmup: 0 }));
    const two = await run(train({ steps: 2, accumulate: 2, lr: 1e-30, warmup: 0 }));
    expect(two.byKind.gradients).toBe(2 * one.byKind.gradients!);
    expect(two.events.map((e) => e.step)).toEqual([1, 2]);
    // Weights do not move at this rate: the losses of an update are the means over its batches.
    two.events.forEach((event, i) => {
      const [a, b] = [one.events[2 * i]!, one.events[2 * i + 1]!];
      expect(event.losses.loss).toBeCloseTo((a.losses.loss + b.losses.loss) / 2, 5);
      expect(event.losses.flow).toBeCloseTo((a.losses.flow! + b.losses.flow!) / 2, 5);
      expect(event.skipped).toBeCloseTo((a.skipped + b.skipped) / 2, 12);
    });
  });
});

describe('options', () => {
  it.each([
    [{ accumulate: 0 }, 'training.accumulate is 0; it must be a positive integer'],
    [{ accumulate: 1.5 }, 'training.accumulate is 1.5; it must be a positive integer'],
    [{ recompute: 'all' }, `training.recompute is "all"; it must be 'none' or 'blocks'`],
  ])('%j is a ConfigError', (given, message) => {
    const parse = () => parseTrainConfig(given as Partial<TrainConfig>);
    expect(parse).toThrow(ConfigError);
    expect(parse).toThrow(message);
  });
});
