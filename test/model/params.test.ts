/** Names, shapes and places of parameters, their initial values, and the golden formula. */
import { expect, test } from 'vitest';
import { CheckpointError } from '../../engine/errors.ts';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { preset } from '../../model/config.ts';
import {
  ALIGNMENT,
  allSpecs,
  groupIndices,
  initParams,
  paramEntries,
  paramLayout,
  paramsByName,
  paramsFrom,
  zeroParams,
} from '../../model/params.ts';
import { formulaFill, formulaParams, formulaScale, lowbias32 } from '../../verify/formula-params.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { FIXTURES, goldenModel, openFixtures, relativeError } from '../support/golden.ts';

interface GoldenLeaf {
  k: number;
  path: string;
  shape: number[];
  scale: number;
}

interface GoldenConfig {
  parameter_layout: GoldenLeaf[];
  parameters?: number;
  formula_first4?: Record<string, number[]>;
  formula_leaf_stats?: Record<string, [number, number]>;
}

const codeUnits = (a: string, b: string) => (a < b ? -1 : 1);

test('names, shapes and scales are those of every golden layout', async () => {
  for (const model of await openFixtures()) {
    const golden = model.raw as GoldenConfig;
    const layout = paramLayout(model.config);
    const specs = allSpecs(layout).sort((a, b) => codeUnits(a.name, b.name));
    const ours = specs.map((spec, k) => ({ k, path: spec.name, shape: spec.shape, scale: formulaScale(spec, false) }));
    expect(ours).toEqual(golden.parameter_layout);
    if (golden.parameters !== undefined) expect(layout.count).toBe(golden.parameters);
  }
});

test('strong scales are those of the golden recording', async () => {
  for (const name of ['a', 'b']) {
    const model = await goldenModel(name);
    const { scales } = (await model.json('forward_strong')) as { scales: Record<string, number> };
    for (const spec of allSpecs(paramLayout(model.config))) {
      expect(formulaScale(spec, true)).toBeCloseTo(scales[spec.name]!, 14);
    }
  }
});

test('offsets are aligned, disjoint and in order, and every group is packed', () => {
  const layout = paramLayout(preset('tiny', { width: 60, heads: 3 }));
  expect(layout.groups.map((group) => group.name)).toEqual([
    'patches',
    'condition',
    ...Array.from({ length: 12 }, (_, i) => [`block${i}.modulation`, `block${i}`]).flat(),
    'head.modulation',
    'head',
  ]);
  for (const { specs, length } of layout.groups) {
    let end = 0;
    for (const spec of specs) {
      expect(spec.offset % ALIGNMENT).toBe(0);
      expect(spec.offset).toBeGreaterThanOrEqual(end);
      expect(spec.offset - end).toBeLessThan(ALIGNMENT);
      end = spec.offset + spec.size;
    }
    expect(length).toBe(Math.ceil(end / ALIGNMENT) * ALIGNMENT);
  }
});

test('a block keeps its modulation apart and has the kernels of k, q, v in a row; groupIndices finds them', () => {
  const config = preset('tiny');
  const { groups } = paramLayout(config);
  const at = groupIndices(config);
  const names = (g: number) => groups[g]!.specs.map((spec) => spec.name);
  expect(names(at.modulation(3))).toEqual(['DiTBlock_3/Dense_0/kernel', 'DiTBlock_3/Dense_0/bias']);
  expect(names(at.block(3)).slice(0, 3)).toEqual([1, 2, 3].map((i) => `DiTBlock_3/Dense_${i}/kernel`));
  expect([at.patches, at.condition, at.headModulation, at.head].map((g) => groups[g]!.name)).toEqual([
    'patches',
    'condition',
    'head.modulation',
    'head',
  ]);
  const [k, q, v] = groups[at.block(0)]!.specs;
  expect(q!.offset - k!.offset).toBe(64 * 64);
  expect(v!.offset - q!.offset).toBe(64 * 64);
});

test('a conventional model lacks only the length embedding and shares all other formula values', async () => {
  const { config, seed } = await goldenModel('a');
  const wired = paramsByName(formulaParams(config, seed));
  const conventional = paramsByName(formulaParams({ ...config, lengths: null }, seed));
  expect([...wired.keys()].filter((name) => !conventional.has(name))).toEqual(['BlockEmbedder_0/Embed_0/embedding']);
  for (const [name, values] of conventional) expect(relativeError(values, wired.get(name)!)).toBe(0);
});

test('the hash and single elements match the published check values', async () => {
  expect([1, 2, 0xdeadbeef, 0xffffffff].map(lowbias32)).toEqual([0x688990c0, 0xd1132181, 0xe628c683, 0x6768824a]);
  const checks = (await (await openGolden(FIXTURES)).json('formula_check')) as {
    k: number;
    seed: number;
    i: number;
    scale: number;
    float32_bits: string;
  }[];
  expect(checks.length).toBe(7);
  for (const { k, seed, i, scale, float32_bits } of checks) {
    const values = new Float32Array(i + 1);
    formulaFill(values, k, seed, scale);
    expect(new Uint32Array(values.buffer)[i]).toBe(Number(float32_bits));
  }
});

test('formula values match the golden first elements and the sums of every leaf', async () => {
  for (const name of ['a', 'b']) {
    const model = await goldenModel(name);
    const golden = model.raw as Required<GoldenConfig>;
    const params = paramsByName(formulaParams(model.config, model.seed));
    for (const [leaf, first] of Object.entries(golden.formula_first4)) {
      expect([...params.get(leaf)!.subarray(0, 4)]).toEqual(first);
    }
    for (const [leaf, [sum, squares]] of Object.entries(golden.formula_leaf_stats)) {
      const values = params.get(leaf)!;
      expect(values.reduce((a, v) => a + v, 0)).toBeCloseTo(sum, 9);
      expect(values.reduce((a, v) => a + v * v, 0)).toBeCloseTo(squares, 9);
    }
  }
});

/** Mean and root mean square. */
function moments(values: Float32Array): [number, number] {
  const mean = values.reduce((a, v) => a + v, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((a, v) => a + v * v, 0) / values.length)];
}

test('initial values have the distributions of the method', () => {
  const config = preset('tiny', { width: 96 });
  const params = paramsByName(initParams(config, 7));
  const biases = [...params].filter(([name]) => name.endsWith('/bias'));
  expect(biases.length).toBe(12 * 7 + 7);
  for (const [, values] of biases) expect(values.every((v) => v === 0)).toBe(true);
  for (const name of ['FinalLayer_0/Dense_0/kernel', 'FinalLayer_0/Dense_1/kernel', 'Embed_0/embedding']) {
    expect(params.get(name)!.every((v) => v === 0)).toBe(true);
  }
  const xavier: [string, number, number][] = [
    ['DiTBlock_3/Dense_0/kernel', 96, 576],
    ['DiTBlock_3/Dense_1/kernel', 96, 96],
    ['DiTBlock_11/MlpBlock_0/Dense_1/kernel', 384, 96],
    ['PatchEmbed_0/Conv_0/kernel', 16, 1536],
  ];
  for (const [name, fanIn, fanOut] of xavier) {
    const values = params.get(name)!;
    const limit = Math.sqrt(6 / (fanIn + fanOut));
    const [mean, rms] = moments(values);
    // Four standard errors of the mean, and of the mean square of a uniform variable (kurtosis 9/5).
    expect(Math.abs(mean)).toBeLessThan((4 * limit) / Math.sqrt(3 * values.length));
    expect(Math.abs(rms ** 2 / (limit ** 2 / 3) - 1)).toBeLessThan(4 * Math.sqrt(0.8 / values.length));
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(Math.fround(limit));
  }
  for (const name of ['TimestepEmbedder_1/Dense_0/kernel', 'LabelEmbedder_0/Embed_0/embedding']) {
    const values = params.get(name)!;
    const [mean, rms] = moments(values);
    expect(Math.abs(mean)).toBeLessThan((4 * 0.02) / Math.sqrt(values.length));
    expect(Math.abs(rms ** 2 / 0.02 ** 2 - 1)).toBeLessThan(4 * Math.sqrt(2 / values.length));
  }
});

test('the same seed gives the same values, another seed and another leaf others', () => {
  const config = preset('tiny', { depth: 2, width: 24, heads: 2, lengths: null });
  expect(initParams(config, 1).groups).toEqual(initParams(config, 1).groups);
  const one = paramsByName(initParams(config, 1));
  const two = paramsByName(initParams(config, 2));
  const [k, q] = ['DiTBlock_0/Dense_1/kernel', 'DiTBlock_0/Dense_2/kernel'] as const;
  expect(one.get(k)).not.toEqual(two.get(k));
  expect(one.get(k)).not.toEqual(one.get(q));
});

test('parameters survive a weight file, and a file that does not fit is refused by name', () => {
  const config = preset('tiny', { depth: 4, width: 24, heads: 2 });
  const layout = paramLayout(config);
  const params = initParams(config, 3);
  const write = Array.from(paramEntries(params), ({ spec, values }) => {
    return { name: spec.name, shape: spec.shape, dtype: 'F32' as const, values };
  });
  const read = paramsFrom(layout, parseSafetensors(serializeSafetensors(write)));
  expect(read.groups).toEqual(params.groups);

  const lacking = parseSafetensors(serializeSafetensors(write.slice(0, -1)));
  expect(() => paramsFrom(layout, lacking, 'x')).toThrow(CheckpointError);
  expect(() => paramsFrom(layout, lacking, 'x')).toThrow('x: parameter FinalLayer_0/Dense_1/bias is missing');
  const wider = paramLayout(preset('tiny', { depth: 4, width: 32, heads: 2 }));
  expect(() => paramsFrom(wider, parseSafetensors(serializeSafetensors(write)), 'x')).toThrow(
    'x: PatchEmbed_0/Conv_0/kernel has shape [4,4,1,24], the model needs [4,4,1,32]',
  );
});

test('views write through to their group, and padding starts at zero', () => {
  const layout = paramLayout(preset('tiny', { width: 60, heads: 3 }));
  const set = zeroParams(layout);
  for (const values of paramsByName(set).values()) values.fill(1);
  const ones = set.groups.reduce((sum, group) => sum + group.reduce((a, v) => a + v, 0), 0);
  expect(ones).toBe(layout.count);
});
