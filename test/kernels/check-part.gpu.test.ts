/** Cases that are checked in part: gradients of a few outputs, by a part of the reference, are those of the whole. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { attentionContract } from '../../kernels/attention/attention.contract.ts';
import { checkCase } from '../../kernels/check.ts';
import { expectCase } from '../../kernels/expected.ts';
import { linearContract } from '../../kernels/matmul/linear.contract.ts';
import { testEngine } from '../support/engine.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const cases = [
  { contract: attentionContract, k: { batch: 2, tokens: 9, heads: 3, head: 8, scale: 'sqrt' }, outputs: 2 * 9 * 8 },
  { contract: linearContract, k: { rows: 30, tokens: 3, input: 8, output: 12 }, outputs: 2 * 12 },
];

it.each(cases)('of $contract.name', async ({ contract, k, outputs }) => {
  const part = expectCase(contract, k, 5, 0);
  expect(part.outputs.y!.length).toBe(outputs);
  await checkCase(engine, contract, k, part);
  // A gradient that is off is found.
  const [name] = contract.differentiable as [string];
  const spoiled = part.gradients[name]!.values.map((v, i) => v + (i === 4 ? 0.1 : 0));
  const gradients = { ...part.gradients, [name]: { ...part.gradients[name]!, values: spoiled } };
  await expect(checkCase(engine, contract, k, { ...part, gradients })).rejects.toThrow(`d(${name}): element 4 is`);
  // So is an output, of those that are compared.
  const y = part.outputs.y!.map((v, i) => v + (i === outputs - 1 ? 0.1 : 0));
  await expect(checkCase(engine, contract, k, { ...part, outputs: { y } })).rejects.toThrow('part of y: element');
});
