/** The contracts of attention, as contracts.gpu.test.ts has all others. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { contracts } from '../../kernels/registry.ts';
import { halves, itAgrees } from '../support/contracts.ts';
import { testEngine } from '../support/engine.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const { attentions } = halves(contracts);

it('are those over f32 and over f16', () => {
  expect(attentions.map(({ name }) => name)).toEqual(['attention', 'attentionF16']);
});

itAgrees(() => engine, attentions);
