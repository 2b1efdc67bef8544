/**
 * Every registered kernel (attention has a file of its own) against its float64 reference, its backward against central differences of that reference,
 * eager against a replayed program bit for bit; and that the check sees what is wrong.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { rmsnormContract } from '../../examples/rmsnorm.ts';
import { checkCase } from '../../kernels/check.ts';
import type { Contract } from '../../kernels/contract.ts';
import { contracts } from '../../kernels/registry.ts';
import { halves, itAgrees } from '../support/contracts.ts';
import { testEngine } from '../support/engine.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const { others } = halves(contracts);
itAgrees(() => engine, others);

describe('the check', () => {
  const k = rmsnormContract.cases[1]!;
  const spoiled = (part: Partial<Contract>) => checkCase(engine, { ...rmsnormContract, ...part }, k);
  /** The reference with one element of its result, or its dependence on the gain, a little off. */
  const off = (change: (y: Float64Array, gain: Float64Array) => void): Partial<Contract> => ({
    reference(arrays, kk) {
      const { y } = rmsnormContract.reference(arrays, kk);
      change(y!, arrays.gain!);
      return { y: y! };
    },
  });

  it('passes what is right', async () => {
    const { forward, backward } = await spoiled({});
    expect(forward).toBeGreaterThan(0);
    expect(backward).toBeGreaterThan(0);
    expect(Math.max(forward, backward)).toBeLessThan(1e-5);
  });

  it('names the element of an output that is off by one part in ten thousand', async () => {
    const wrong = off((y) => {
      y[77]! *= 1.0001;
    });
    await expect(spoiled(wrong)).rejects.toThrow(/rmsnorm .*, y: element 77 is /);
  });

  it('sees a gradient that is off where the output is not', async () => {
    // Nothing at the inputs themselves, but another slope there.
    let at: number | undefined;
    const wrong = off((y, gain) => {
      at ??= gain[3]!;
      y[3]! += 0.01 * (gain[3]! - at);
    });
    await expect(spoiled(wrong)).rejects.toThrow(/d\(gain\): element 3 is /);
  });

  it('sees results that change from run to run', async () => {
    let runs = 0;
    const wrong: Partial<Contract> = {
      run(ctx, inputs, kk) {
        const x = runs++ === 0 ? inputs.x! : inputs.gain!;
        return runs === 1 ? rmsnormContract.run(ctx, inputs, kk) : { y: ctx.reshape(x, x.shape) };
      },
    };
    await expect(spoiled({ ...wrong, differentiable: [] })).rejects.toThrow(/replay 0: element 0 differs from eager/);
  });

  it('leaves no buffer behind, right or wrong', async () => {
    const kinds = () => ({ ...engine.memory.report().byKind, staging: 0 });
    await spoiled({});
    const before = kinds();
    await spoiled({});
    await expect(spoiled(off((y) => y.fill(Number.NaN)))).rejects.toThrow(/element/);
    expect(kinds()).toEqual(before);
  });
});
