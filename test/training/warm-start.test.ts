/** Starting from other weights: what fits is copied, the rest starts anew and is named. */
import { expect, it } from 'vitest';
import {
  initialValues,
  initParams,
  type ParamSet,
  paramEntries,
  paramLayout,
  paramsByName,
} from '../../model/params.ts';
import { warmStart, warmStartText } from '../../training/warm-start.ts';
import { tinyModel } from '../support/tiny.ts';

function sourceOf(set: ParamSet) {
  const entries = new Map(Array.from(paramEntries(set), (e) => [e.spec.name, e]));
  return {
    names: [...entries.keys()],
    has: (name: string) => entries.has(name),
    shape: (name: string) => entries.get(name)!.spec.shape,
    floats: (name: string) => entries.get(name)!.values,
  };
}

it('copies by name and shape, and says what it did', () => {
  const other = initParams({ ...tinyModel, classes: 5, depth: 6 }, 7);
  const warm = warmStart(tinyModel, 1, sourceOf(other));
  const name = 'DiTBlock_0/Dense_1/kernel';
  const table = 'LabelEmbedder_0/Embed_0/embedding';
  const got = paramsByName(warm.params);
  expect(got.get(name)).toEqual(paramsByName(other).get(name));
  expect(got.get(table)).toEqual(paramsByName(initParams(tinyModel, 1)).get(table));
  const text = warmStartText(warm).join('\n');
  expect(text).toContain(`${table} ([6,16] there, [4,16] here)`);
  expect(text).toMatch(
    /^copied \d+ parameters\ninitialised 2 parameters: .*\nignored 28 parameters that the model has not: /,
  );
});

it('draws what is not copied alone, with the values that it has among all', () => {
  const name = 'LabelEmbedder_0/Embed_0/embedding';
  const one = initialValues(paramLayout(tinyModel), 1, (spec) => spec.name === name);
  const all = paramsByName(initParams(tinyModel, 1));
  for (const { spec, values } of paramEntries(one)) {
    expect(values, spec.name).toEqual(spec.name === name ? all.get(name) : new Float32Array(spec.size));
  }
});

it('refuses what fits nowhere, and what is not finite', () => {
  const none = { names: ['x'], has: () => false, shape: () => [], floats: () => new Float32Array() };
  expect(() => warmStart(tinyModel, 1, none)).toThrow(
    'no parameter of it has a name and shape of this model; it holds x',
  );
  const broken = initParams(tinyModel, 1);
  broken.groups[0]![0] = Number.POSITIVE_INFINITY;
  expect(() => warmStart(tinyModel, 1, sourceOf(broken))).toThrow('holds Infinity at element 0');
});
