/** `odelt eval` on the shipped model with few samples: figures and files, going on after Ctrl-C, and what it refuses. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { classAgreement, prepareReference } from '../../evaluation/agreement.ts';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import { featuresOf, featuresOfData } from '../../evaluation/features.ts';
import { frechetDistance } from '../../evaluation/frechet.ts';
import { realPictures } from '../../evaluation/real.ts';
import type { EvaluationResults } from '../../evaluation/results.ts';
import { shippedData, shippedModel } from '../../formats/shipped.node.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { openDataset } from '../../training/data/open.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

const COUNT = 24;
const common = ['--count', String(COUNT), '--batch', '8', '--features', 'random', '--out', 'results', '--json'];
const results = () => JSON.parse(readFileSync(join(cli.folder, 'results/results.json'), 'utf8')) as EvaluationResults;

describe('an evaluation', { timeout: 600_000 }, () => {
  it('stopped by Ctrl-C keeps its cells, and the same command makes the rest', async () => {
    const args = ['eval', '--steps', '1,2', '--blocks', '4,8', ...common];
    let sent = false;
    const stopped = await cli.watch(args, {
      cwd: cli.folder,
      onStderr: (text, kill) => {
        if (sent || !text.includes('T=1 L=4 w=1: FD')) return;
        sent = true;
        kill('SIGINT');
      },
    });
    expect(stopped.code).toBe(130);
    expect(JSON.parse(stopped.stdout).error).toMatchObject({
      name: 'InterruptedError',
      message: expect.stringMatching(/^the evaluation was interrupted: [123] of 4 cells are done$/),
      hint: 'the same command goes on',
    });
    const before = results();
    expect(before.cells.length).toBeGreaterThan(0);
    expect(before.cells.length).toBeLessThan(4);

    const ended = await cli.run(...args);
    expect(ended.code).toBe(0);
    expect(ended.stderr).toContain(`4 cells of 24 samples, ${before.cells.length} of them done`);
    const after = results();
    expect(JSON.parse(ended.stdout)).toEqual(after);
    expect(after.cells.map(({ blocks, steps }) => [blocks, steps])).toEqual([
      [4, 1],
      [4, 2],
      [8, 1],
      [8, 2],
    ]);
    // Not drawn again: not even their seconds differ.
    for (const cell of before.cells) expect(after.cells).toContainEqual(cell);
    expect(after.floor).toEqual(before.floor);
    expect(readdirSync(join(cli.folder, 'results')).sort()).toEqual([
      ...['fd-bytes-euler-w1.svg', 'fd-seconds-euler-w1.svg', 'fd-table-euler-w1.svg'],
      ...['results.csv', 'results.json'],
    ]);

    const again = await cli.run(...args);
    expect(JSON.parse(again.stdout)).toEqual(after);
    const more = await cli.run('eval', '--steps', '1', '--blocks', '4', '--guidance', '0', ...common);
    expect(more.code).toBe(0);
    expect(results().cells.map(({ guidance, agreement }) => [guidance, agreement === null])).toEqual([
      [0, true],
      ...Array(4).fill([1, false]),
    ]);
  });

  it('has the figures of samples drawn through the library', async () => {
    const engine = await testEngine();
    const { config, source, close } = await openModelSource(shippedModel());
    const labels = Array.from({ length: COUNT }, (_, i) => i % 10);
    const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 8 });
    const { values } = await sampler.sample({ labels, steps: 2, blocks: 8, seed: 0 });
    const data = await openDataset(shippedData(), { split: 'test' });
    const features = featuresOf('random', data);
    const { reference } = realPictures({ test: data }, COUNT, 0);
    const real = await featuresOfData(features, data, reference.indices);
    const fd = frechetDistance(
      featureStatistics(await features.of(values), features.width),
      featureStatistics(real, features.width),
    );
    const { provenance, cells, floor, nearest } = results();
    const cell = cells.find(({ steps, blocks }) => steps === 2 && blocks === 8)!;
    expect(cell.fd.value / fd).toBeCloseTo(1, 8);
    expect(cell.fd.low).toBeLessThan(fd);
    expect(cell.fd.high).toBeGreaterThan(fd);
    expect(cell.agreement!.hits).toBe(classAgreement(prepareReference(data), values, labels).agreed);
    expect(cell.bytesRead).toBeLessThan(source.layout.groups.reduce((sum, _, group) => sum + source.bytesOf(group), 0));
    expect(cell.peakBytes).toBeGreaterThan(cell.bytesRead);
    expect(cells.find(({ blocks }) => blocks === 4)!.bytesRead).toBeLessThan(cell.bytesRead);
    expect(floor).toMatchObject({ how: 'parts of one set', count: COUNT, of: 10_000 - COUNT });
    expect(nearest!.heldOut.length).toBe(nearest!.quantiles.length);
    expect(nearest!.cells.length).toBe(cells.length);
    expect(provenance).toMatchObject({
      weights: 'ema',
      seed: 0,
      samples: COUNT,
      features: { name: 'random', width: 64 },
    });
    await close();
    engine.dispose();
  });

  it('into a folder of other settings is refused, and leaves the results as they are', async () => {
    const before = readFileSync(join(cli.folder, 'results/results.json'), 'utf8');
    const { code, stdout } = await cli.run(
      'eval',
      '--steps',
      '1',
      '--blocks',
      '4',
      ...common,
      '--seed',
      '5',
      '--count',
      '9',
    );
    expect(code).toBe(2);
    expect(JSON.parse(stdout).error.message).toBe(
      'results/results.json has results of other settings: --seed: 0, now 5; --count: 24, now 9',
    );
    expect(readFileSync(join(cli.folder, 'results/results.json'), 'utf8')).toBe(before);
    expect(existsSync(join(cli.folder, 'results/results.json'))).toBe(true);
  });
});
