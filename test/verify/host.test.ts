/** Recordings that need no GPU: all of the bundle's pass, and damaged ones do not. */
import { expect, it } from 'vitest';
import { openGolden } from '../../verify/golden.node.ts';
import type { GoldenDir } from '../../verify/golden.ts';
import { hostCases } from '../../verify/host.ts';
import { FIXTURES } from '../support/golden.ts';

const golden = await openGolden(FIXTURES);

it('pass within their tolerances, and are noted as used', async () => {
  const used = new Set<string>();
  const cases = await hostCases(golden, used);
  expect([...used].sort()).toEqual(['fid.json', 'fid.safetensors', 'formula_check.json', 'prng.json']);
  expect(cases.map(({ kind }) => kind)).toEqual(['random', 'random', 'model', ...Array<string>(6).fill('evaluation')]);
  for (const { name, tolerance, run } of cases) {
    const { error } = await run();
    expect(error, name).toBeLessThanOrEqual(tolerance);
  }
});

it('fail where a recorded number is another, and say which', async () => {
  const changed = async (stem: string): Promise<unknown> => {
    const json = structuredClone(await golden.json(stem)) as Record<string, Record<string, number[]>>;
    if (stem === 'prng') json.partitionable_true!.normal_2x3_bits![4]! += 1;
    return json;
  };
  const [first] = await hostCases({ ...golden, json: changed } as GoldenDir, new Set());
  const { error, detail } = await first!.run();
  expect(error).toBeGreaterThan(0);
  expect(detail).toBe('largest: normal_2x3_bits');
});

it('fail by name where a file is not what it should be', async () => {
  const cases = await hostCases({ ...golden, json: async () => ({ seed: 42 }) } as GoldenDir, new Set());
  await expect(cases[0]!.run()).rejects.toThrow('prng.json: ');
});
