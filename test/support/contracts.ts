/** The test that every contract has, and the contracts in two parts: drivers take as long to compile attention as all the rest. */
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { checkCase } from '../../kernels/check.ts';
import type { Contract } from '../../kernels/contract.ts';

export function halves(contracts: readonly Contract[]): {
  attentions: readonly Contract[];
  others: readonly Contract[];
} {
  const isAttention = ({ name }: Contract) => name.startsWith('attention');
  return { attentions: contracts.filter(isAttention), others: contracts.filter((c) => !isAttention(c)) };
}

export function itAgrees(engine: () => Engine, contracts: readonly Contract[]): void {
  for (const c of contracts) {
    describe(c.name, () => {
      for (const k of c.cases) {
        it(`${JSON.stringify(k)} agrees with float64, backward with central differences, replay with eager`, async () => {
          await expect(checkCase(engine(), c, k)).resolves.toBeDefined();
        });
      }
    });
  }
}
