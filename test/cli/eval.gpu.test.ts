/** `odelt eval` on the shipped model with few samples: figures and files, going on after Ctrl-C, and what it refuses. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AblationResults } from '../../evaluation/ablation.ts';
import { classAgreement, prepareReference } from '../../evaluation/agreement.ts';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import { featuresOf, featuresOfData } from '../../evaluation/features.ts';
import { frechetDistance } from '../../evaluation/frechet.ts';
import { behindBest } from '../../evaluation/paired.ts';
import { paretoOf } from '../../evaluation/pareto.ts';
import { realPictures } from '../../evaluation/real.ts';
import { describeCell, type EvaluationResults, keyOf } from '../../evaluation/results.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { shippedData, shippedModel } from '../../formats/shipped.node.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import type { SampleRequest } from '../../sampling/request.ts';
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

/** COUNT samples of the shipped model as a request says, and how far they are from the real pictures that the command compares with. */
async function drawnByLibrary(request: Omit<SampleRequest, 'labels'>) {
  const engine = await testEngine();
  const { config, source, close } = await openModelSource(shippedModel());
  const labels = Array.from({ length: COUNT }, (_, i) => i % 10);
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 8 });
  const { values } = await sampler.sample({ ...request, labels, seed: 0 });
  await close();
  engine.dispose();
  const data = await openDataset(shippedData(), { split: 'test' });
  const features = featuresOf('random', data);
  const { reference } = realPictures({ test: data }, COUNT, 0);
  const real = await featuresOfData(features, data, reference.indices);
  const fd = frechetDistance(
    featureStatistics(await features.of(values), features.width),
    featureStatistics(real, features.width),
  );
  return { fd, values, labels, data, source };
}

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
    // The bundled pictures are Fashion-MNIST's test part.
    expect(ended.stderr).toContain('has no training part: nearer tells copies of its pictures, not of others');
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
      ...['pareto-bytes.svg', 'pareto-seconds.svg'],
      ...['results.csv', 'results.json'],
    ]);

    // Of cells made before and after the interruption alike.
    const lowest = after.cells.reduce((a, b) => (b.fd.value < a.fd.value ? b : a));
    expect(after.behind).toEqual(behindBest(after.cells));
    expect(after.behind!.best).toEqual(keyOf(lowest));
    expect(after.behind!.cells.length).toBe(3);
    for (const cell of after.cells) expect(cell.resampled!.length).toBe(200);
    for (const { behind } of after.behind!.cells) {
      expect(behind.low).toBeLessThan(behind.value);
      expect(behind.high).toBeGreaterThan(behind.value);
    }

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
    const { fd, values, labels, data, source } = await drawnByLibrary({ steps: 2, blocks: 8 });
    const { provenance, cells, floor, nearest } = results();
    const cell = cells.find(({ steps, blocks }) => steps === 2 && blocks === 8)!;
    expect(cell.fd.value / fd).toBeCloseTo(1, 8);
    expect(cell.fd.low!).toBeLessThan(fd);
    expect(cell.fd.high!).toBeGreaterThan(fd);
    expect(cell.agreement!.hits).toBe(classAgreement(prepareReference(data), values, labels).agreed);
    expect(cell.bytesRead).toBeLessThan(source.layout.groups.reduce((sum, _, group) => sum + source.bytesOf(group), 0));
    expect(cell.peakBytes).toBeGreaterThan(cell.bytesRead);
    expect(cells.find(({ blocks }) => blocks === 4)!.bytesRead).toBeLessThan(cell.bytesRead);
    expect(floor).toMatchObject({ how: 'parts of one set', count: COUNT, of: 10_000 - COUNT, splits: 20 });
    expect(nearest!.heldOut.length).toBe(nearest!.quantiles.length);
    expect(nearest!.cells.length).toBe(cells.length);
    expect(provenance).toMatchObject({
      weights: 'ema',
      seed: 0,
      samples: COUNT,
      features: { name: 'random', width: 64 },
    });
  });

  it('has a cell of another level beside that of the solver itself, of samples drawn with it', async () => {
    const { code, stderr } = await cli.run('eval', '--steps', '2', '--blocks', '8', '--level', '0', ...common);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('T=2 L=8 w=1 level 0: FD');
    const [own, told] = results().cells.filter(
      ({ steps, blocks, guidance }) => steps === 2 && blocks === 8 && guidance === 1,
    );
    expect([own!.level, told!.level]).toEqual([undefined, 0]);
    const { fd } = await drawnByLibrary({ steps: 2, blocks: 8, level: 0 });
    expect(told!.fd.value / fd).toBeCloseTo(1, 8);
    expect(Math.abs(own!.fd.value / fd - 1)).toBeGreaterThan(0.01);
  });

  it('has cells of other solvers, of blocks by time and of refreshed ones, and says which are the best for their cost', async () => {
    const own = ['--solver', 'euler,heun', '--steps', '2', '--blocks', '4', '--along', '4@0,8@0.5', '--refresh', '8:2'];
    const { code, stdout, stderr } = await cli.run('eval', ...own, ...common, '--out', 'ways');
    expect(code, stderr).toBe(0);
    const { cells, pareto, date } = JSON.parse(stdout) as EvaluationResults;
    expect(cells.map((cell) => [describeCell(cell), cell.evaluations])).toEqual([
      ['T=2 L=4 w=1', 2],
      ['T=2 L=4 w=1 heun', 4],
      ['T=2 L=4 refresh 8:2 w=1', 2],
      ['T=2 L=4@0,8@0.5 w=1', 2],
      ['T=2 L=4@0,8@0.5 w=1 heun', 4],
    ]);
    expect(cells[3]!.bytesRead).toBe(cells[2]!.bytesRead);
    expect(cells[3]!.bytesRead).toBeGreaterThan(cells[0]!.bytesRead);
    expect(pareto).toEqual(JSON.parse(JSON.stringify(paretoOf(cells))));
    expect(Math.abs(Date.now() - Date.parse(date!))).toBeLessThan(600_000);
  });

  it('of an ablation is that of the run, also of its first blocks', async () => {
    const own = [
      '--variants',
      'cut',
      '--seeds',
      '1',
      '--updates',
      '1',
      '--patch',
      '14',
      '--width',
      '16',
      '--heads',
      '2',
    ];
    const how = ['--batch', '8', '--steps', '1', '--count', '8', '--features', 'random', '--out', 'ablation', '--json'];
    const ablated = await cli.run('ablation', ...own, '--warmup', '0', ...how);
    expect(ablated.code, ablated.stderr).toBe(0);
    const { runs } = JSON.parse(ablated.stdout) as AblationResults;
    expect(runs[0]!.cells.map(({ blocks }) => blocks)).toEqual([4, 8, 12]);
    const again = ['--steps', '1', '--count', '8', '--features', 'random', '--out', 'of-run', '--json'];
    const evaluated = await cli.run('eval', 'ablation/cut/seed-1', '--first-blocks', '8', ...again);
    expect(evaluated.code, evaluated.stderr).toBe(0);
    const { cells } = JSON.parse(evaluated.stdout) as EvaluationResults;
    expect(cells.map(({ blocks, fd }) => [blocks, fd])).toEqual([[8, runs[0]!.cells[1]!.fd]]);
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

  it('drawn in parts and merged has the figures of the whole, to the last bit', async () => {
    const own = ['--solver', 'tsit5', '--tolerance', '0.1', '--blocks', '4', '--count', '20', '--batch', '8'];
    const args = ['eval', ...own, '--features', 'random', '--linear-algebra', 'own', '--json'];
    const parts = ['parts/shard-0-of-2', 'parts/shard-1-of-2'];
    const merge = (...more: string[]) =>
      cli.run('eval', 'merge', ...more, '--out', 'merged', '--linear-algebra', 'own', '--json');
    const message = (ended: { stdout: string }) => JSON.parse(ended.stdout).error.message;
    expect((await cli.run(...args, '--out', 'parts', '--shard', '0/2')).code).toBe(0);
    expect(message(await merge(parts[0]!))).toBe('part 1/2 is missing');
    expect(message(await merge(parts[0]!, parts[0]!))).toBe(`part 0/2 is there twice: ${parts[0]} and ${parts[0]}`);
    expect(message(await merge('nowhere'))).toContain('nowhere holds no part of an evaluation');
    expect((await cli.run(...args, '--seed', '1', '--out', 'others', '--shard', '1/2')).code).toBe(0);
    expect(message(await merge(parts[0]!, 'others/shard-1-of-2'))).toBe(
      `${parts[0]} has results of other settings than those of others/shard-1-of-2: --seed: 0, 1`,
    );
    const second = [...args, '--out', 'parts', '--shard', '1/2'];
    expect((await cli.run(...second)).code).toBe(0);
    // Nothing is left to draw.
    expect((await cli.run(...second)).stderr).toContain('part 1/2: 1 cells of 12 samples, 1 of them done');

    const merged = await merge(...parts);
    expect(merged.code).toBe(0);
    const whole = await cli.run(...args, '--out', 'whole');
    expect(whole.code).toBe(0);
    const [a, b] = [merged, whole].map(({ stdout }) => JSON.parse(stdout) as EvaluationResults) as [
      EvaluationResults,
      EvaluationResults,
    ];
    const figures = ({ cells, floor, nearest }: EvaluationResults) => ({
      ...{ floor, nearest },
      cells: cells.map((cell) => ({ ...cell, secondsPerSample: 0, peakBytes: 0 })),
    });
    expect(figures(a)).toEqual(figures(b));
    expect(a.provenance).toMatchObject({ shards: 2, linearAlgebra: 'own', samples: 20 });
    const [cell] = a.cells;
    expect(cell).toMatchObject({ steps: null, tolerance: 0.1, rejected: expect.any(Number) });
    expect(cell!.accepted).toBeGreaterThanOrEqual(2);
    // Tsitouras: one evaluation at the start, six a step.
    expect(cell!.evaluations).toBeCloseTo(1 + 6 * (cell!.accepted! + cell!.rejected!), 9);
    const file = join(cli.folder, parts[1]!, 'features-tsit5-tol0.1-L4-w1.npy');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    expect(message(await merge(...parts))).toContain('is not the file that was written: its checksum differs');
  });

  it('against statistics alone has the Fréchet distance, and says what it lacks', async () => {
    const stats = await cli.run('stats', '--features', 'random', '--out', 's.npz', '--json');
    expect(JSON.parse(stats.stdout)).toMatchObject({ count: 10_000, features: 'random', width: 64 });
    const args = ['eval', '--reference', 's.npz', '--steps', '1', '--blocks', '4', '--count', '24', '--batch', '8'];
    const { code, stdout, stderr } = await cli.run(...args, '--replicates', '0', '--out', 'reference', '--json');
    expect(code).toBe(0);
    expect(stderr).toContain('s.npz has no pictures: not computed are kid, precision, recall');
    const found = JSON.parse(stdout) as EvaluationResults;
    expect(found).toMatchObject({ floor: null, nearest: null, notComputed: expect.arrayContaining(['kid', 'floor']) });
    expect(found.cells[0]).toMatchObject({ kid: null, precision: null, agreement: null });
    expect(found.cells[0]!.fd).toEqual({ value: expect.any(Number), low: null, high: null });
    expect([found.cells[0]!.resampled, found.behind]).toEqual([undefined, undefined]);
    expect(stderr).toMatch(/T=1 L=4 w=1: FD \d+(\.\d+)?, /);
    // The pictures held out are 24 of 10,000.
    const cell = results().cells.find(({ steps, blocks, guidance }) => steps === 1 && blocks === 4 && guidance === 1)!;
    expect(found.cells[0]!.fd.value / cell.fd.value).toBeGreaterThan(0.95);
    expect(found.cells[0]!.fd.value / cell.fd.value).toBeLessThan(1.05);
    expect(found.provenance.data.name).toBe('s.npz');
  });

  it('of a model without classes draws none, and nobody judges them', async () => {
    const config = preset('tiny', { width: 16, heads: 2, patch: 14, unconditional: true });
    const { tensors, metadata } = await modelContents(config, initParams(config, 1));
    writeFileSync(join(cli.folder, 'none.safetensors'), serializeSafetensors(tensors, metadata));
    const args = ['eval', 'none.safetensors', '--steps', '1', '--blocks', '4', ...common, '--out', 'none'];
    const { code, stdout } = await cli.run(...args);
    expect(code).toBe(0);
    const { cells } = JSON.parse(stdout) as EvaluationResults;
    expect(cells.map(({ guidance, agreement }) => [guidance, agreement])).toEqual([[0, null]]);
    for (const more of [[], ['--loss-map']])
      expect(await cli.run('eval', 'none.safetensors', '--guidance', '1', ...more)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('guidance 1 was asked for; this model was trained without labels'),
      });
  });
});
