/** What variants are, and what is made of their figures. */
import { describe, expect, it } from 'vitest';
import {
  type AblationResults,
  type AblationRun,
  type AblationSettings,
  ablationCsv,
  ablationMeans,
  ablationPlot,
  ablationRows,
  checkSameAblation,
  type Method,
  variantNames,
  variantOf,
  workOfSample,
} from '../../evaluation/ablation.ts';
import { preset } from '../../model/config.ts';
import { parseTrainConfig } from '../../training/config.ts';

const method: Method = { model: preset('tiny'), train: parseTrainConfig({ batch: 64, steps: 100 }) };
const fd = (value: number) => ({ value, low: value - 0.1, high: value + 0.2 });
const cell = (blocks: number, value: number) => ({
  ...{ blocks, fd: fd(value), secondsPerSample: 0.5, peakBytes: 10, bytesRead: 4 },
});
const run = (variant: string, seed: number, values: Readonly<Record<number, number>>): AblationRun => ({
  ...{ variant, seed, folder: `${variant}/seed-${seed}`, parameters: 7, trainingSeconds: 3 },
  cells: Object.entries(values).map(([blocks, value]) => cell(Number(blocks), value)),
});

describe('variants', () => {
  it('of a preset with groups of four', () => {
    expect(variantNames(method)).toEqual([
      ...['method', 'no-length', 'full-target', 'cut', 'small-4', 'small-8', 'groups-1', 'groups-2'],
    ]);
    const { model, train } = method;
    const { what: _, ...first } = variantOf('method', method);
    expect(first).toEqual({ name: 'method', model, train, parts: [{ blocks: [4, 8, 12] }] });
    expect(variantOf('no-length', method)).toMatchObject({ model, train: { ...train, lengthEvery: 0 } });
    expect(variantOf('full-target', method)).toMatchObject({ model, train: { ...train, lengthTarget: 'full' } });
    expect(variantOf('cut', method)).toMatchObject({
      ...{ model: { ...model, lengths: null }, train },
      parts: [{ blocks: [4], first: 4 }, { blocks: [8], first: 8 }, { blocks: [12] }],
    });
    expect(variantOf('small-8', method)).toMatchObject({
      ...{ model: { ...model, depth: 8, lengths: null }, train, parts: [{ blocks: [8] }] },
    });
    expect(variantOf('groups-2', method)).toMatchObject({
      ...{ model: { ...model, lengths: { min: 4, group: 2 } }, train, parts: [{ blocks: [4, 8, 12] }] },
    });
  });

  it('that are none, or the method itself, are refused', () => {
    for (const name of ['groups-3', 'small-12', 'small-5', 'rubbish'])
      expect(() => variantOf(name, method)).toThrow(`there is no variant '${name}' of this model`);
    expect(() => variantOf('groups-4', method)).toThrow('the variant groups-4 is the method itself');
    const full = { ...method, train: { ...method.train, lengthTarget: 'full' as const } };
    expect(() => variantOf('full-target', full)).toThrow('the variant full-target is the method itself');
    expect(() => variantOf('cut', { ...method, model: preset('tiny', { lengths: null }) })).toThrow(
      'the model runs 12 blocks and no other number',
    );
  });

  it('cost what their rows run', () => {
    // Three passes of eight blocks on average; time targets: two of twelve for one row in eight; length targets: one of eight.
    expect(workOfSample(method)).toBe(3 * 8 + (2 * 12) / 8 + 8 / 8);
    expect(workOfSample(variantOf('no-length', method))).toBe(3 * 8 + (2 * 12) / 8);
    expect(workOfSample(variantOf('small-4', method))).toBe(3 * 4 + (2 * 4) / 8);
  });
});

describe('results', () => {
  const { seed: _, ...train } = method.train;
  const settings = {
    ...{ method: { model: method.model, train }, trainedOn: { pixels: 'a', labels: 'b' }, steps: 16, guidance: 1 },
    ...{ weights: 'ema', seed: 0, samples: 200, batch: 128, adapter: 'x', odelt: '1' },
    ...{ features: { name: 'pca64', width: 64, digest: 'd' }, data: { name: 'some', digests: ['e'] } },
  } satisfies AblationSettings;
  const variants = ['method', 'small-4', 'small-8'].map((name) => ({ name, what: '' }));
  const runs = [run('small-4', 1, { 4: 6 }), run('method', 2, { 4: 5, 8: 3 }), run('method', 1, { 4: 4, 8: 2 })];
  const results: AblationResults = {
    ...{ settings, variants, runs, means: ablationMeans(variants, runs), floor: null },
  };

  it('have means over seeds, seeds in order', () => {
    expect(results.means.map(({ variant, blocks, fd: mean }) => [variant, blocks, mean])).toEqual([
      ['method', 4, 4.5],
      ['method', 8, 2.5],
      ['small-4', 4, 6],
    ]);
    expect(results.means[0]!.seeds).toEqual([
      { seed: 1, fd: fd(4) },
      { seed: 2, fd: fd(5) },
    ]);
  });

  it('are tables of what is there', () => {
    expect(ablationRows(results)).toEqual([
      ['variant', 'L=4', 'L=8'],
      ['method', '4.50 (4.00, 5.00)', '2.50 (2.00, 3.00)'],
      ['small-4', '6.00', ''],
    ]);
    const lines = ablationCsv(results).trimEnd().split('\n');
    expect(lines.length).toBe(6);
    expect(lines[1]).toBe('small-4,1,4,6,5.9,6.2,0.5,10,4,7,3');
  });

  it('are a plot with a bar for each seed', () => {
    const svg = ablationPlot(results);
    expect(svg).toContain('>small (separate models)</text>');
    // A dot on each bar, and one on the line.
    expect(svg.match(/r="1.8"/g)).toHaveLength(5);
    expect(svg.match(/r="3"/g)).toHaveLength(3);
  });

  it('of other settings do not go on', () => {
    checkSameAblation(settings, settings, 'f');
    const other = {
      ...{ ...settings, samples: 300, trainedOn: { pixels: 'c', labels: 'b' } },
      method: { ...settings.method, train: { ...train, batch: 32 } },
    };
    expect(() => checkSameAblation(settings, other, 'f')).toThrow(
      'f has an ablation of other settings: training.batch: 64, now 32; pictures to train on: other contents; --count: 200, now 300',
    );
  });
});
