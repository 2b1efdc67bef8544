/** Several callers of one model: samples are those of each caller alone, whoever else draws meanwhile, and who gives up waiting holds nobody up. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { InterruptedError, UsageError } from '../../engine/errors.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { type GroupSource, memorySource } from '../../model/weights/source.ts';
import { Inspector } from '../../sampling/inspect.ts';
import type { SampleRequest } from '../../sampling/request.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';

const config: ModelConfig = preset('tiny', {
  imageSize: 8,
  patch: 2,
  width: 24,
  heads: 2,
  depth: 6,
  lengths: { min: 2, group: 2 },
});
const inMemory = memorySource(formulaParams(config, 7, { strong: true }));
/** Takes a while, as a file does. */
const source: GroupSource = {
  ...inMemory,
  read: async (group, signal) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return inMemory.read(group, signal);
  },
};
let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

type Caller = readonly [request: SampleRequest, options?: SamplerOptions];
const request = (seed: number, blocks: number, steps = 2): SampleRequest => ({ labels: [seed], steps, blocks, seed });

async function alone([asked, options]: Caller): Promise<Float32Array> {
  const model = new ResidentModel(engine, config, source);
  const sampler = new Sampler(engine, model, { batch: 1, ...options });
  const { values } = await sampler.sample(asked);
  sampler.dispose();
  model.dispose();
  return values;
}

describe('two samplers on one model that draw at once', () => {
  const CALLERS: Record<string, readonly [Caller, Caller]> = {
    'for the same request': [[request(1, 4)], [request(1, 4)]],
    'with other numbers of blocks': [[request(1, 2)], [request(2, 6)]],
    'with modulations ahead beside none': [
      [request(1, 6), { ahead: true }],
      [request(2, 4), { ahead: false }],
    ],
    'of which one streams its blocks': [[request(1, 6, 4), { residentBlocks: 1 }], [request(2, 4, 4)]],
    'that load blocks as they need them': [
      [
        {
          ...request(1, 4, 4),
          blocks: [
            { from: 0, blocks: 2 },
            { from: 0.5, blocks: 6 },
          ],
          loadBlocks: 'needed',
        },
      ],
      [
        {
          ...request(2, 4, 4),
          blocks: [
            { from: 0, blocks: 6 },
            { from: 0.5, blocks: 2 },
          ],
          loadBlocks: 'needed',
        },
      ],
    ],
  };
  for (const [how, callers] of Object.entries(CALLERS)) {
    it(how, async () => {
      const wanted = [await alone(callers[0]), await alone(callers[1])];
      const model = new ResidentModel(engine, config, source);
      const samplers = callers.map(([, options]) => new Sampler(engine, model, { batch: 1, ...options }));
      // The second time with everything compiled.
      for (const turn of ['cold', 'warm']) {
        const drawn = await Promise.all(samplers.map((sampler, i) => sampler.sample(callers[i]![0])));
        expect(
          drawn.map(({ values }) => values),
          turn,
        ).toEqual(wanted);
      }
      for (const sampler of samplers) sampler.dispose();
      model.dispose();
    });
  }
});

it('calls of one sampler draw one after the other, and none once it is disposed', async () => {
  const model = new ResidentModel(engine, config, source);
  const sampler = new Sampler(engine, model, { batch: 1 });
  const wanted = [await alone([request(1, 4)]), await alone([request(2, 6)])];
  const drawn = await Promise.all([sampler.sample(request(1, 4)), sampler.sample(request(2, 6))]);
  expect(drawn.map(({ values }) => values)).toEqual(wanted);
  const last = sampler.sample(request(1, 4));
  sampler.dispose();
  await expect(last).rejects.toThrow('this sampler has been disposed');
  const { live } = engine.memory.report();
  await expect(sampler.sample(request(1, 4))).rejects.toThrow('this sampler has been disposed');
  expect(engine.memory.report().live).toBe(live);
  model.dispose();
});

it('a sampler that is disposed while it draws says so', async () => {
  const model = new ResidentModel(engine, config, source);
  const sampler = new Sampler(engine, model, { batch: 1 });
  const onProgress = ({ done }: { done: number }) => void (done === 2 && sampler.dispose());
  const drawn = await sampler.sample({ ...request(1, 4, 8), onProgress }).catch((error: unknown) => error);
  expect(drawn).toBeInstanceOf(UsageError);
  expect(drawn).toMatchObject({ message: 'this sampler has been disposed', cause: { code: 'usage' } });
  model.dispose();
});

it('who gives up waiting is told at once, and holds nobody up', async () => {
  const model = new ResidentModel(engine, config, source);
  const [a, b, c] = [1, 2, 3].map(() => new Sampler(engine, model, { batch: 1 })) as [Sampler, Sampler, Sampler];
  const ended: string[] = [];
  const leaving = new AbortController();
  const first = a.sample(request(1, 6, 8)).finally(() => ended.push('first'));
  const second = b
    .sample({ ...request(2, 4), signal: leaving.signal })
    .catch((error: unknown) => error)
    .finally(() => ended.push('second'));
  const third = c.sample(request(3, 2)).finally(() => ended.push('third'));
  leaving.abort(new Error('nobody looks any more'));
  const error = await second;
  expect(error).toBeInstanceOf(InterruptedError);
  expect(error).toMatchObject({
    message: 'waiting for the model was interrupted',
    cause: { message: 'nobody looks any more' },
  });
  expect((await first).values).toEqual(await alone([request(1, 6, 8)]));
  expect((await third).values).toEqual(await alone([request(3, 2)]));
  expect(ended).toEqual(['second', 'first', 'third']);
  for (const sampler of [a, b, c]) sampler.dispose();
  model.dispose();
});

it('an inspector looks between the calls of samplers, and another look of its own', async () => {
  const model = new ResidentModel(engine, config, source);
  const sampler = new Sampler(engine, model, { batch: 1 });
  const inspector = new Inspector(engine, sampler);
  const looks = [
    { label: 3, steps: 4, blocks: 4, seed: 11, at: 2 },
    { label: 4, steps: 4, blocks: 6, seed: 12, at: 0 },
  ];
  const wanted = [await inspector.look(looks[0]!), await inspector.look(looks[1]!)];
  const drawn = await alone([request(1, 2, 4)]);
  const [one, { values }, other] = await Promise.all([
    inspector.look(looks[0]!),
    sampler.sample(request(1, 2, 4)),
    inspector.look(looks[1]!),
  ]);
  expect([one, other]).toEqual(wanted);
  expect(values).toEqual(drawn);
  inspector.dispose();
  sampler.dispose();
  model.dispose();
});
