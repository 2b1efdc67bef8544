/** Cells are timed without what is compiled for them: nothing is once the first of their samples is drawn. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { drawCells } from '../../evaluation/draw.ts';
import type { Features } from '../../evaluation/features.ts';
import { cellsOf } from '../../evaluation/grid.ts';
import { describeCell } from '../../evaluation/results.ts';
import { parseModelConfig } from '../../model/config.ts';
import { memorySource } from '../../model/weights/source.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { tinyModel } from '../support/tiny.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine?.dispose());

it('compiles nothing while it is timed, whatever classes, steps and blocks there are', async () => {
  // So many that modulations of all classes take more memory than the weights that they are made by, and those of a few do not.
  const config = parseModelConfig({ ...tinyModel, classes: 30 });
  const { classes, imageSize, channels } = config;
  const width = imageSize ** 2 * channels;
  const features: Features = { ...{ name: 'all', width }, of: (values) => values };
  const cells = cellsOf({ steps: [1, 4], blocks: [2, 4], guidance: [1], solver: 'euler' });
  // The last batch has one class.
  const samples = 2 * classes + 1;
  const compiled: Record<string, { warming: number; timed: number }> = {};
  let at = { warming: 0, timed: 0 };
  let timed = false;
  const compile = engine.device.createComputePipelineAsync.bind(engine.device);
  vi.spyOn(engine.device, 'createComputePipelineAsync').mockImplementation((descriptor) => {
    at[timed ? 'timed' : 'warming']++;
    return compile(descriptor);
  });
  await drawCells(
    engine,
    {
      ...{ config, source: memorySource(formulaParams(config, 5)), features, judges: null },
      provenance: { seed: 1, batch: classes, samples },
      onSamples: () => {
        timed = true;
      },
    },
    cells,
    ({ key }) => {
      compiled[describeCell(key)] = at;
      at = { warming: 0, timed: 0 };
      timed = false;
    },
  );
  expect(compiled['T=1 L=2 w=1']!.warming).toBeGreaterThan(0);
  expect(Object.entries(compiled).filter(([, { timed }]) => timed > 0)).toEqual([]);
});
