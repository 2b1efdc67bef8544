/**
 * lavapipe's subgroups are as wide as the processor's vectors: four lanes without AVX, as on Arm. Here it is told to be so. What is chosen
 * there must not count on eight.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { surveyMachine } from '../../engine/adapters.node.ts';
import { createNodeEngine } from '../../engine/engine.node.ts';
import type { Engine } from '../../engine/engine.ts';
import { attentionContract } from '../../kernels/attention/attention.contract.ts';
import { checkCase } from '../../kernels/check.ts';
import { convolutionContract } from '../../kernels/conv/convolution.ts';
import { linearContract } from '../../kernels/matmul/linear.contract.ts';
import { sparingOptimisation } from '../support/engine.ts';

// Its cache on disk would give what was compiled for eight lanes.
Object.assign(process.env, { LP_NATIVE_VECTOR_WIDTH: '128', MESA_SHADER_CACHE_DISABLE: 'true' });
sparingOptimisation();

const present = surveyMachine().lavapipeIcds.length > 0;

describe.skipIf(!present)(`lavapipe${present ? '' : ' (skipped: not on this machine)'} on four lanes`, () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = (await createNodeEngine({ adapter: 'lavapipe' })).engine;
  });
  afterAll(() => engine.dispose());

  it('attention, a product and a convolution agree with float64', async () => {
    expect(engine.device.adapterInfo.subgroupMaxSize).toBe(4);
    await checkCase(engine, attentionContract, { batch: 1, tokens: 6, heads: 2, head: 4, scale: 'd' });
    await checkCase(engine, linearContract, { rows: 2, tokens: 3, input: 8, output: 12 });
    const picture = { batch: 1, height: 3, width: 3, input: 4, output: 8, side: 3 } as const;
    await checkCase(engine, { ...convolutionContract, differentiable: [] }, picture);
  });
});
