/** Layer norm and sums over tokens in all their variants, on whatever adapter there is: values, and the same bits in every batch. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { checkCase } from '../../kernels/check.ts';
import { chunk } from '../../kernels/chunk.ts';
import type { Family } from '../../kernels/family.ts';
import { halfContracts } from '../../kernels/half-activations.contracts.ts';
import { layernorm, layernormContract } from '../../kernels/norm/layernorm.ts';
import { type NormShape, norms, type TokenSumShape, tokenSums } from '../../kernels/norm/variants.ts';
import { testEngine } from '../support/engine.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 900_000 });

let own: Engine;
beforeAll(async () => {
  own = await testEngine();
});
afterAll(() => own.dispose());

/** An engine that takes the variant `id` of a family wherever it is one, and says whether it ever was. */
function forced<S extends NormShape | TokenSumShape>(family: Family<S>, id: string) {
  const engine = new Engine(own.device, own.adapterClass, { ownsDevice: false });
  const seen = { taken: 0 };
  engine.tuning = {
    choice(name, shape) {
      if (name !== family.name || !family.candidates(engine, shape as S).some((v) => v.id === id)) return undefined;
      seen.taken++;
      return id;
    },
  };
  return { engine, seen };
}

const NORMS = ['invocation', 'workgroup-32', 'workgroup-128', 'subgroup'];
const TOKEN_SUMS = ['64x1', '32x8', '16x16', 'vec-16x1', 'vec-16x16'];

const halves = halfContracts.filter((c) => c.name === 'layernormF16');

it('the variants tested here are all there are', () => {
  const shape: NormShape = { width: 64, vec: true, activations: 'f32' };
  const known = own.device.features.has('subgroups') ? NORMS : NORMS.slice(0, -1);
  expect(norms.candidates(own, shape).map((v) => v.id)).toEqual(known);
  expect(tokenSums.candidates(own, { ...shape, tokens: 9 }).map((v) => v.id)).toEqual(TOKEN_SUMS);
});

describe.each(NORMS)('norm as %s', (id) => {
  it.each([layernormContract, ...halves])('$name agrees with float64', async (contract) => {
    if (id === 'subgroup' && !own.device.features.has('subgroups')) return;
    const { engine, seen } = forced(norms, id);
    for (const k of contract.cases) await checkCase(engine, contract, k);
    expect(seen.taken).toBeGreaterThan(0);
    engine.dispose();
  });

  it('gives a sample the same bits in every batch', async () => {
    if (id === 'subgroup' && !own.device.features.has('subgroups')) return;
    const { engine } = forced(norms, id);
    const [tokens, width] = [17, 24];
    const seen = new Set<string>();
    for (const batch of [1, 3, 70]) {
      const data = (columns: number) =>
        Float32Array.from({ length: batch * columns }, (_, i) => Math.sin((i + (70 - batch) * columns) * 1.7));
      const x = engine.tensor('x', [batch, tokens, width], { data: data(tokens * width) });
      const modulation = engine.tensor('modulation', [batch, 2 * width], { data: data(2 * width) });
      const y = await eager(engine, async (ctx) => {
        const [shift, scale] = chunk(ctx, modulation, 2) as [Tensor, Tensor];
        return engine.read(layernorm(ctx, x, shift, scale));
      });
      seen.add(bits(y.subarray((batch - 1) * tokens * width)));
    }
    expect(seen.size).toBe(1);
    engine.dispose();
  });
});

it.each(TOKEN_SUMS)('sums over tokens as %s agree with float64', async (id) => {
  const { engine, seen } = forced(tokenSums, id);
  for (const k of layernormContract.cases) await checkCase(engine, layernormContract, k);
  expect(seen.taken).toBeGreaterThan(0);
  engine.dispose();
});
