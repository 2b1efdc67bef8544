/** The reference's noise and labels against those that it recorded, bit for bit. */
import { describe, expect, it } from 'vitest';
import { jaxLabels, jaxNoise, REFERENCE_SEED } from '../../sampling/jax-draws.ts';
import { goldenModel, goldenTensors } from '../support/golden.ts';

describe.each(['a', 'b'])('batch 0 of model %s', async (name) => {
  const model = await goldenModel(name);
  const recorded = await goldenTensors(model, 'sampling');
  const shape = recorded.shape('x_0');

  it('has the recorded noise', () => {
    expect(jaxNoise(REFERENCE_SEED, 0, shape)).toEqual(recorded.floats('x_0'));
  });

  it('has the recorded labels', () => {
    const drawn = jaxLabels(REFERENCE_SEED, 0, shape[0]!, model.config.classes);
    expect(drawn).toEqual([...recorded.integers('labels')]);
  });
});

it('draws a row alike, however many there are', () => {
  const all = jaxNoise(1, 3, [5, 4, 4, 2]);
  expect(jaxNoise(1, 3, [2, 4, 4, 2], 3)).toEqual(all.subarray(3 * 32));
  expect(jaxLabels(1, 3, 2, 10, 3)).toEqual(jaxLabels(1, 3, 5, 10).slice(3));
  expect(jaxNoise(1, 2, [5, 4, 4, 2])).not.toEqual(all);
});
