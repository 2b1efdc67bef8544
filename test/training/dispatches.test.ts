/** How many dispatches an evaluation and a training step take, by kernel: the table in docs/architecture.md says so. */
import { expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { preset } from '../../model/config.ts';
import { groupsOf, velocity } from '../../model/dit.ts';
import { paramLayout } from '../../model/params.ts';
import { uploadPositions } from '../../model/weights/residency.ts';
import { Weights } from '../../model/weights/weights.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { TrainStep } from '../../training/step.ts';
import { dryGpu } from '../support/dry.ts';
import { textOf } from '../support/repository.ts';

const config = preset('tiny');
const { imageSize, channels, depth } = config;

async function evaluation(engine: Engine): Promise<Program> {
  const model = {
    config,
    weights: new Weights(engine, paramLayout(config), 'weights', { kind: 'weights' }),
    positions: uploadPositions(engine, config),
  };
  const one = (label: string, dtype: 'f32' | 'u32' = 'f32') => engine.tensor(label, [1], { dtype });
  const inputs = {
    x: engine.tensor('x', [1, imageSize, imageSize, channels]),
    ...{ t: one('t'), step: one('step'), labels: one('labels', 'u32') },
  };
  const { recording } = record(engine, 'velocity', (ctx, keep) => {
    const lengths = one('lengths', 'u32');
    keep(velocity(ctx, model, inputs, { lengths, rows: groupsOf(config).map(() => 1) }));
  });
  return Program.compile(engine, recording);
}

async function training(engine: Engine): Promise<Program> {
  const set = (kind: 'weights' | 'optimizer') => new Weights(engine, paramLayout(config), kind, { kind });
  const state = { params: set('weights'), ema: set('optimizer'), m: set('optimizer'), v: set('optimizer') };
  return (await TrainStep.create(engine, config, parseTrainConfig({ batch: 32 }), state)).program;
}

it('the documented table of dispatches is what the tiny preset takes', async () => {
  const engine = dryGpu();
  const [sampled, trained] = [await evaluation(engine), await training(engine)];
  const [few, many] = [sampled.kernels(), trained.kernels()];
  const cells = (of: typeof few, name: string) => {
    const { dispatches = 0, bytes = 0 } = of.find(({ kernel }) => kernel === name) ?? {};
    return `${dispatches || ''} | ${bytes ? (bytes / 1e6).toFixed(1) : ''}`;
  };
  const sum = (of: typeof few) =>
    `${of.reduce((n, k) => n + k.dispatches, 0)} | ${(of.reduce((n, k) => n + k.bytes, 0) / 1e6).toFixed(1)}`;
  const rows = many.map(({ kernel }) => `| \`${kernel}\` | ${cells(few, kernel)} | ${cells(many, kernel)} |`);
  const table = [...rows, `| all | ${sum(few)} | ${sum(many)} |`].join('\n').replace(/ +\|/g, ' |');
  expect(few.every(({ kernel }) => many.some((k) => k.kernel === kernel))).toBe(true);
  expect(few.reduce((n, k) => n + k.dispatches, 0)).toBe(sampled.dispatches);
  if (process.env.DUMP) console.log(table, trained.plan.bytes, sampled.plan.bytes, depth);
  expect(textOf('docs/architecture.md')).toContain(table);
});
