/** The map of losses against what samplers give: at time 0 their steps are the velocities that losses are made of. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import { normals } from '../../engine/philox.ts';
import { unitImages } from '../../evaluation/features.ts';
import { checkLossMap, lossMap, lossMapCsv, lossMapPlots, lossPoints } from '../../evaluation/loss-map.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { datasetOf } from '../../training/data/dataset.ts';
import { testEngine } from '../support/engine.ts';

const config = preset('tiny', {
  ...{ imageSize: 8, channels: 1, classes: 3, patch: 4, width: 16, heads: 2, depth: 4 },
  lengths: { min: 2, group: 2 },
});
const params = initParams(config, 1);
// The last layer starts at zero.
for (const [g, group] of params.groups.entries())
  group.set(normals({ seed: g, stream: 0, step: 0 }, group.length).map((x) => 0.2 * x));
const source = memorySource(params);
const data = datasetOf({
  ...{ name: 'made', height: 8, width: 8, channels: 1, classes: 3 },
  pixels: Uint8Array.from({ length: 64 * 10 }, (_, i) => (i * 37) % 256),
  labels: Uint8Array.from({ length: 10 }, (_, i) => i % 3),
});
const indices = Uint32Array.of(7, 2, 5, 0, 9);
const options = { config, source, pictures: { data, indices }, times: 2, blocks: [2, 4], labelled: true, seed: 3 };

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine?.dispose());

it('has the losses of velocities that samplers give, in any batch, and the same bits again', async () => {
  const cells = await lossMap(engine, { ...options, batch: 5 });
  const at = (level: number, t: number, L: number) =>
    cells.find((cell) => cell.level === level && cell.t === t && cell.blocks === L)!;
  const x1 = unitImages(data, indices);
  const noise = normals({ seed: 3, stream: 0x65760006, step: 0 }, x1.length);
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 5 });
  const moved = async (steps: number, level: number, blocks: number) => {
    const labels = Array.from(indices, (i) => data.label(i));
    const { values } = await sampler.sample({ labels, noise, steps, level, blocks });
    return values.map((x, i) => x - noise[i]!);
  };
  const mse = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0) / a.length;
  const halves = await moved(2, 1, 4);
  for (const L of [2, 4]) {
    const flow = mse(
      await moved(1, 7, L),
      x1.map((x, i) => x - noise[i]!),
    );
    expect(at(7, 0, L).loss.value / flow).toBeCloseTo(1, 4);
    expect(at(0, 0, L).loss.value / mse(await moved(1, 0, L), halves)).toBeCloseTo(1, 4);
    expect(at(0, 0, L)).toMatchObject({ target: 'two half steps', trained: true });
    expect(at(7, 0, L)).toMatchObject({ target: 'flow', trained: true });
  }
  for (const { loss } of cells) {
    expect(loss.low).toBeLessThan(loss.value);
    expect(loss.high).toBeGreaterThan(loss.value);
  }
  // Of a model that was trained for four steps at most, level 2 is the flow's.
  const coarse = await lossMap(engine, { ...options, config: { ...config, finest: 4 }, batch: 5 });
  expect(coarse.length).toBeLessThan(cells.length);
  expect(coarse[0]!.loss).toEqual(cells[0]!.loss);
  for (const cell of coarse) expect(cell.target).toBe(cell.level === 2 ? 'flow' : 'two half steps');
  const flow = mse(
    await moved(1, 2, 4),
    x1.map((x, i) => x - noise[i]!),
  );
  const finest = coarse.find(({ level, t, blocks }) => level === 2 && t === 0 && blocks === 4)!;
  expect(finest.loss.value / flow).toBeCloseTo(1, 4);
  expect([...lossMapPlots(coarse).values()][0]).toContain('level 2: flow');
  sampler.dispose();
  expect(await lossMap(engine, { ...options, batch: 5 })).toEqual(cells);
  const parts = await lossMap(engine, { ...options, batch: 2 });
  for (const [i, { loss }] of parts.entries()) expect(loss.value / cells[i]!.loss.value).toBeCloseTo(1, 6);
  const none = await lossMap(engine, { ...options, batch: 5, labelled: false });
  expect(none.some(({ loss }, i) => loss.value !== cells[i]!.loss.value)).toBe(true);

  expect([...lossMapPlots(cells).keys()]).toEqual(['loss-L2.svg', 'loss-L4.svg']);
  expect(lossMapCsv(cells).split('\n')[1]).toBe(
    `0,0,2,two half steps,true,${[cells[0]!.loss.value, cells[0]!.loss.low, cells[0]!.loss.high]}`,
  );
});

it('has steps that end at data, and refuses what has no such losses', () => {
  const points = lossPoints(4, config);
  expect(points.filter(({ level }) => level < 3).map(({ level, t }) => [level, t])).toEqual([
    ...[[0, 0]],
    ...[0, 0.25, 0.5].map((t) => [1, t]),
    ...[0, 0.25, 0.5, 0.75].map((t) => [2, t]),
  ]);
  expect(lossPoints(4, { ignoreDt: true }).map(({ level }) => level)).toEqual([7, 7, 7, 7]);
  expect(() => checkLossMap({ ...options, blocks: [3] })).toThrow('the model has no 3 blocks');
  expect(() => checkLossMap({ ...options, times: 0 })).toThrow('the number of times is 0');
  expect(() => checkLossMap({ ...options, config: { ...config, predicts: 'noise' } })).toThrow(ConfigError);
});
