/** The parameter formula against the values and statistics that a recording gives of it: no GPU, but everything rests on it. */

import { paramsByName } from '../model/params.ts';
import { type CaseGroup, casesOf, relativeError, scalarError, TOLERANCES, worst } from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import { leafStatisticsOf } from './schemas.ts';

export async function parameterCases(golden: GoldenModel): Promise<CaseGroup> {
  const statistics = leafStatisticsOf(golden.raw);
  const cases = await casesOf('model', 'parameters', async () => {
    const f = golden.files.includes('forward.safetensors')
      ? await golden.tensors('forward').catch(() => undefined)
      : undefined;
    const leaves = (f?.names() ?? []).filter((name) => name.startsWith('params/'));
    if (Object.keys(statistics).length + leaves.length === 0) return [];
    const run = async () => {
      const params = paramsByName(formulaParams(golden.config, golden.seed));
      const of = (leaf: string) => params.get(leaf) ?? new Float32Array();
      return worst([
        ...leaves.map((name) => [name, relativeError(of(name.slice('params/'.length)), f!.floats(name))] as const),
        ...Object.entries(statistics).map(([leaf, [, squared]]) => {
          const ours = of(leaf).reduce((sum, x) => sum + x * x, 0);
          return [leaf, scalarError(Math.sqrt(ours), Math.sqrt(squared))] as const;
        }),
      ]);
    };
    return [{ kind: 'model', name: 'parameters', tolerance: TOLERANCES.parameters, run }];
  });
  return { cases, skipped: [], dispose: () => {} };
}
