/** Results of checks, by kind, with the worst of each. */
import { expect, it } from 'vitest';
import { errorText, kindsOf } from '../../studio/measure-report.ts';
import type { CaseResult } from '../../verify/case.ts';

const result = (kind: CaseResult['kind'], name: string, error: number, tolerance: number): CaseResult => ({
  ...{ model: 'b', kind, name, error, tolerance, ok: error <= tolerance },
});

it('kinds come in order, each with the error that strains its tolerance most', () => {
  const results = [
    result('random', 'a', 0, 0),
    result('forward', 'b', 2e-6, 4e-6),
    result('forward', 'c', 3e-6, 8e-6),
    result('forward', 'd', Number.NaN, 4e-6),
    result('random', 'e', 1, 0),
  ];
  const told = (all: readonly CaseResult[]) =>
    kindsOf(all).map(({ kind, cases, failed, worst }) => [kind, cases, failed, worst.name]);
  expect(told(results)).toEqual([
    ['random', 2, 1, 'e'],
    ['forward', 3, 1, 'd'],
  ]);
  expect(told(results.slice(0, 3))).toEqual([
    ['random', 1, 0, 'a'],
    ['forward', 2, 0, 'b'],
  ]);
  expect(results.map(errorText)).toEqual(['0 of 0', '2.0e-6 of 4e-6', '3.0e-6 of 8e-6', 'none of 4e-6', '1.0e+0 of 0']);
});
