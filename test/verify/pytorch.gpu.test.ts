/** PyTorch's DiT as verify replays it: the bundle passes, and weights that are imported a little wrong fail. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { bytesSource } from '../../formats/byte-source.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { type ParamSet, paramLayout, paramsByName } from '../../model/params.ts';
import { ditTensors } from '../../model/weights/imports/dit-export.ts';
import { importWeights } from '../../model/weights/imports/import.ts';
import { openCheckpoint } from '../../model/weights/imports/open.ts';
import { relativeError, TOLERANCES } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { Network } from '../../verify/network.ts';
import { caseId, verify } from '../../verify/replay.ts';
import { testEngine } from '../support/engine.ts';
import { FIXTURES } from '../support/golden.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

it('the recorded outputs, guided and not, are those of the imported model', async () => {
  const results = [];
  for await (const result of verify(engine, await openGolden(FIXTURES), { only: 'torch/forward/' }))
    results.push(result);
  expect(results.map(caseId)).toEqual(['dit', 'dit_guided_1.5', 'dit_guided_4'].map((name) => `torch/forward/${name}`));
  expect(results.filter(({ ok }) => !ok)).toEqual([]);
});

describe('a model of ours that goes through the names of DiT and back', () => {
  const config = parseModelConfig({
    ...{ imageSize: 8, channels: 4, patch: 2, width: 48, heads: 3, depth: 3, classes: 5 },
    ...{ lengths: null, ignoreDt: true },
  });
  const rows = {
    x: Float32Array.from({ length: 2 * 256 }, (_, i) => Math.sin(i)),
    ...{ t: [0.25, 0.75], step: [0, 0], labels: [1, 5] },
  };
  const output = async (params: ParamSet): Promise<Float32Array> => {
    const network = new Network(engine, config);
    try {
      network.place(params);
      return await network.velocity(rows);
    } finally {
      network.dispose();
    }
  };

  it('computes the same, though DiT has no step embedder', async () => {
    const params = formulaParams(config, 77, { strong: true });
    const file = serializeSafetensors(ditTensors(config, params, 'F32'));
    const checkpoint = await openCheckpoint(bytesSource(file), 'x');
    const back = await importWeights(checkpoint, 'raw', { heads: 3, program: 'sit' });
    expect(back.config).toEqual(config);
    const [before, after] = [await output(params), await output(back.params)];
    expect(relativeError(after, before)).toBeLessThan(TOLERANCES.strong);
    expect(
      paramsByName(back.params)
        .get('TimestepEmbedder_1/Dense_1/bias')!
        .every((value) => value === 0),
    ).toBe(true);
    expect(back.params.layout).toEqual(paramLayout(config));
  });

  it('would not with queries that are not scaled', async () => {
    const params = formulaParams(config, 77, { strong: true });
    const before = await output(params);
    const turned = formulaParams(config, 77, { strong: true });
    const of = paramsByName(turned);
    const queries = of.get('DiTBlock_1/Dense_2/kernel')!;
    for (let i = 0; i < queries.length; i++) queries[i]! *= 4;
    expect(relativeError(await output(turned), before)).toBeGreaterThan(10 * TOLERANCES.strong);
  });
});
