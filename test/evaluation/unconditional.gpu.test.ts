/** A model without classes, whose labels' rows hold no numbers: nothing that is drawn where nobody asks for more has a part in them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { type Drawn, drawCells } from '../../evaluation/draw.ts';
import type { Features } from '../../evaluation/features.ts';
import { cellsOf } from '../../evaluation/grid.ts';
import { sampleSheet } from '../../evaluation/sample-sheet.ts';
import { parseModelConfig } from '../../model/config.ts';
import { type ParamSet, paramEntries } from '../../model/params.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { usualGuidance } from '../../sampling/classes.ts';
import { Inspector } from '../../sampling/inspect.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { bits, tinyModel } from '../support/tiny.ts';

const config = parseModelConfig({ ...tinyModel, unconditional: true });
const conditional = memorySource(formulaParams(tinyModel, 5));
const poisoned: ParamSet = formulaParams(tinyModel, 5);
for (const { spec, values } of paramEntries(poisoned)) {
  if (spec.name === 'LabelEmbedder_0/Embed_0/embedding') values.fill(Number.NaN, 0, config.classes * config.width);
}
const source = memorySource(poisoned);

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine?.dispose());

it('samples, cells of an evaluation, sheets and what is inside are of no class', async () => {
  const sampler = new Sampler(engine, new ResidentModel(engine, tinyModel, conditional), { batch: 4 });
  const labels = [null, null, null, null];
  const expected = await sampler.sample({ labels, steps: 2, blocks: 4, guidance: 0, seed: 3 });
  const own = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 4 });
  const found = await own.sample({ labels, steps: 2, blocks: 4, seed: 3 });
  expect(bits(found.values)).toBe(bits(expected.values));

  // Features that are the pictures themselves, and a judge who would be asked for classes.
  const features: Features = { ...{ name: 'all', width: 64 }, of: async (values) => values } as Features;
  const judging: Features = { ...features, classesOf: () => new Uint16Array(4) };
  const cells = cellsOf({ steps: [2], blocks: [4], guidance: [usualGuidance(config)], solver: 'euler' });
  const drawn: Drawn[] = [];
  const provenance = { seed: 3, batch: 4, samples: 4 };
  await drawCells(engine, { config, source, features: judging, judges: null, provenance }, cells, (cell) => {
    drawn.push(cell);
  });
  expect(drawn.map(({ agreed, key }) => [agreed, key.guidance])).toEqual([[null, 0]]);
  expect(bits(drawn[0]!.features)).toBe(bits(expected.values));

  const sheet = await sampleSheet(engine, config, { steps: [2], blocks: [4], count: 4, seed: 3 });
  const plain = await sampleSheet(engine, tinyModel, { steps: [2], blocks: [4], count: 4, seed: 3, guidance: 0 });
  expect(await sheet.draw(poisoned, 'x')).toEqual(await plain.draw(formulaParams(tinyModel, 5), 'x'));
  await expect(sampleSheet(engine, config, { guidance: 2 })).rejects.toThrow('guidance 2 was asked for');

  const inspector = new Inspector(engine, own);
  const { lengths, x } = await inspector.look({ label: null, steps: 2, blocks: 4, at: 1, seed: 3 });
  const last = lengths.at(-1)!;
  expect(last.blocks).toBe(4);
  expect(bits(x.map((value, i) => value + last.velocity[i]! / 2))).toBe(bits(expected.values.subarray(0, 64)));
  await expect(inspector.look({ label: 1, steps: 2, at: 0 })).rejects.toThrow('class 1 was asked for');
  inspector.dispose();
});
