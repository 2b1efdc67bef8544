/** Results as data: written and read again, what may differ between runs into one folder, tables and plots, the choice of real pictures. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, LimitError } from '../../engine/errors.ts';
import { weightsDigest } from '../../evaluation/evaluate.ts';
import { cellsOf, checkGrid, type EvaluationGrid, requestOf } from '../../evaluation/grid.ts';
import { behindBest } from '../../evaluation/paired.ts';
import { paretoOf, paretoPlot, paretoRows } from '../../evaluation/pareto.ts';
import { realPictures } from '../../evaluation/real.ts';
import { readResults, resultsFile, writeResults } from '../../evaluation/results.node.ts';
import {
  type Cell,
  checkSameSettings,
  describeCell,
  describeMeasured,
  type EvaluationResults,
  type Floor,
  resultRows,
  resultsCsv,
  sameCell,
} from '../../evaluation/results.ts';
import { storedEvaluation } from '../../evaluation/stored.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { memorySource } from '../../model/weights/source.ts';
import { heatMap } from '../../pictures/heat-map.ts';
import { blocksFrom, parseBlocks } from '../../sampling/blocks.ts';
import { type Dataset, datasetOf } from '../../training/data/dataset.ts';
import { openParts } from '../../training/data/open.ts';
import { npy } from '../support/archives.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const measured = (value: number) => ({ value, low: value - 0.25, high: value + 0.5 });
const counted = (value: number) => ({ ...measured(value), hits: 100 * value, of: 100 });
const figures = (fd: number) => ({
  fd: measured(fd),
  kid: { ...measured(fd / 10), standardError: 0.1, subsets: 10, sizes: [10, 20] as const },
  ...{ precision: counted(0.5), recall: counted(0.25), density: measured(1.5), coverage: counted(0.75) },
});
const cell = (steps: number, blocks: number, fd: number, solver = 'euler'): Cell => ({
  ...{ steps, blocks, guidance: 1, solver },
  ...figures(fd),
  agreement: counted(0.5),
  ...{ secondsPerSample: 0.001 * steps * blocks, peakBytes: 1e6 * blocks, bytesRead: 2e5 * blocks, evaluations: steps },
});
const cells = [cell(1, 4, 16), cell(4, 4, 8), cell(1, 8, 12), cell(4, 8, 4)];
const results: EvaluationResults = {
  cells,
  floor: { how: 'parts of one set', count: 100, of: 200, ...figures(2) } satisfies Floor,
  nearest: {
    quantiles: [0.5],
    heldOut: [3],
    cells: cells.map(({ steps, blocks, guidance, solver }) => ({
      ...{ steps, blocks, guidance, solver },
      distances: [2],
      nearer: measured(0.5),
    })),
  },
  provenance: {
    ...{ model: 'a'.repeat(64), weights: 'ema', seed: 0, samples: 100, batch: 10 },
    features: { name: 'pca64', width: 64, digest: 'f' },
    data: { name: 'some', digests: ['d'] },
    ...{ adapter: 'one', odelt: '1.0.0', linearAlgebra: 'own', versions: { node: '20' } },
  },
};

describe('a folder of results', () => {
  it('gives back what was written, with a table and plots', async () => {
    const files = await writeResults(join(folder, 'a'), results);
    expect(readdirSync(join(folder, 'a')).sort()).toEqual([...files].sort());
    expect(files).toContain('fd-seconds-euler-w1.svg');
    expect(await readResults(join(folder, 'a'))).toEqual(JSON.parse(JSON.stringify(results)));
    expect(await readResults(join(folder, 'none'))).toBeUndefined();
    const lines = readFileSync(join(folder, 'a', 'results.csv'), 'utf8')
      .trimEnd()
      .split('\n');
    expect(lines.length).toBe(6);
    const head = lines[0]!.split(',');
    for (const line of lines) expect(line.split(',').length).toBe(head.length);
    const first = Object.fromEntries(lines[1]!.split(',').map((value, i) => [head[i], value]));
    expect(first).toMatchObject({ steps: '1', blocks: '4', fd: '16', fd_low: '15.75', kid: '1.6', density_high: '2' });
    expect(first).toMatchObject({
      agreement: '0.5',
      nearer_low: '0.25',
      secondsPerSample: '0.004',
      bytesRead: '800000',
    });
    expect(lines[5]).toMatch(/^,,,,real pictures,2,1.75,2.5,/);
  });

  it('with a file that holds none is refused', async () => {
    for (const [text, problem] of [
      ['{', 'is no JSON'],
      ['{}', 'does not hold the results of an evaluation'],
      ['{"cells":[{}],"floor":{},"nearest":{"cells":[]},"provenance":{}}', 'does not hold the results'],
      [JSON.stringify({ ...results, cells: [{ ...cells[0], resampled: [1, 'many'] }] }), 'does not hold the results'],
    ] as const) {
      writeFileSync(resultsFile(folder), text);
      await expect(readResults(folder)).rejects.toThrow(`${resultsFile(folder)} ${problem}`);
      await expect(readResults(folder)).rejects.toThrow(ConfigError);
    }
  });

  it('takes no cells of other settings, and names all that differ', () => {
    const before = results.provenance;
    expect(() => checkSameSettings(before, { ...before, versions: { node: '24' } }, 'f')).not.toThrow();
    expect(() =>
      checkSameSettings(
        before,
        { ...before, samples: 200, features: { name: 'pixels', width: 196, digest: 'p' } },
        'f',
      ),
    ).toThrow('f has results of other settings: --count: 100, now 200; --features: pca64, now pixels');
    expect(() => checkSameSettings(before, { ...before, model: 'b'.repeat(64) }, 'f')).toThrow(
      'the model: aaaaaaaaaaaa..., now bbbbbbbbbbbb...',
    );
    expect(() => checkSameSettings(before, { ...before, data: { name: 'some', digests: ['e'] } }, 'f')).toThrow(
      '--data: other contents',
    );
  });
});

describe('tables and plots', () => {
  it('show figures with their intervals, and real pictures last', () => {
    expect(describeMeasured({ value: 4.934, low: 4.2, high: 123.4 })).toBe('4.93 (4.20 to 123)');
    expect(describeMeasured({ value: 0, low: -0.00004, high: 0.01 })).toBe('0.0000 (-0.0000 to 0.0100)');
    const rows = resultRows(results);
    expect(rows[1]!.slice(0, 4)).toEqual(['4', '1', '1', '16.0 (15.8 to 16.5)']);
    expect(rows.at(-1)!.slice(0, 4)).toEqual(['real', '', '', '2.00 (1.75 to 2.50)']);
    for (const row of rows) expect(row.length).toBe(rows[0]!.length);
  });

  it('say how far each cell is behind the best, where sets were resampled', async () => {
    const sets = [
      [16, 17, 18, 15],
      [8.5, 8.4, 9, 8.1],
    ] as const;
    const pair = [cells[0]!, cells[1]!].map((each, i) => ({ ...each, resampled: sets[i]! }));
    const paired = { ...results, cells: [...pair, { ...cells[2]!, fd: { value: 12, low: null, high: null } }] };
    const told = { ...paired, behind: behindBest(paired.cells)! };
    const at = resultRows(told)[0]!.indexOf('behind the best');
    // 7.5, 8.6, 9 and 6.9: their mean is 8, and their 2.5 and 97.5 % quantiles are 6.945 and 8.97.
    expect(resultRows(told).map((row) => row.slice(3, 4).concat(row[at]!))).toEqual([
      ['FD', 'behind the best'],
      ['16.0 (15.8 to 16.5)', '8.00 (6.95 to 8.97)'],
      ['8.00 (7.75 to 8.50)', 'best'],
      ['12.0', ''],
      ['2.00 (1.75 to 2.50)', ''],
    ]);
    const lines = resultsCsv(told).trimEnd().split('\n');
    const head = lines[0]!.split(',');
    const [first, best, without] = lines
      .slice(1)
      .map((line) => Object.fromEntries(line.split(',').map((value, i) => [head[i], value])));
    expect(Number(first!.behind_low)).toBeCloseTo(6.945, 12);
    expect([first!.behind, best!.behind, without!.behind]).toEqual(['8', '', '']);
    expect([without!.fd, without!.fd_low, without!.fd_high]).toEqual(['12', '', '']);
    expect(new Set(lines.map((line) => line.split(',').length)).size).toBe(1);
    await writeResults(join(folder, 'd'), told);
    expect(readFileSync(resultsFile(join(folder, 'd')), 'utf8')).toContain('"resampled": [ 16, 17, 18, 15 ]');
    expect(await readResults(join(folder, 'd'))).toEqual(told);
    expect(readFileSync(join(folder, 'd', 'fd-table-euler-w1.svg'), 'utf8')).toContain('>+8.00 (6.95 to 8.97)</text>');
    // A model's file keeps intervals.
    expect(() => storedEvaluation(told, preset('tiny', {}), '2026-01-31')).toThrow(
      'the evaluation has distances without intervals: evaluate with --replicates of 2 or more',
    );
  });

  it('of two solvers are apart, and the CSV leaves out what was not asked for', async () => {
    const more = { ...results, cells: [{ ...cells[0]!, agreement: null }, cell(2, 4, 3, 'heun')] };
    const both = {
      ...more,
      nearest: { ...results.nearest!, cells: more.cells.map((c) => ({ ...results.nearest!.cells[0]!, ...c })) },
    };
    const files = await writeResults(join(folder, 'b'), both);
    expect(files.filter((name) => name.startsWith('fd-table'))).toEqual([
      'fd-table-euler-w1.svg',
      'fd-table-heun-w1.svg',
    ]);
    expect(resultsCsv(both).split('\n')[1]).toContain(',0.75,0.5,1.25,,,,0.5,');
  });

  it('of another level than the solvers are apart, and say it', async () => {
    const told = { ...cell(4, 4, 2), level: 0 };
    const both = { ...results, cells: [cells[1]!, told] };
    const files = await writeResults(join(folder, 'c'), both);
    expect(files.filter((name) => name.startsWith('fd-table'))).toEqual([
      'fd-table-euler-w1.svg',
      'fd-table-euler-level-0-w1.svg',
    ]);
    expect(resultRows(both).map(([, steps]) => steps)).toEqual(['T', '4', '4 level 0', '']);
    const lines = resultsCsv(both).trimEnd().split('\n');
    expect(lines.map((line) => line.split(',').at(-1))).toEqual(['level', '', '0', '']);
    expect(new Set(lines.map((line) => line.split(',').length)).size).toBe(1);
    const { seconds } = paretoOf([told]);
    expect(seconds).toEqual([
      { ...{ steps: 4, blocks: 4, guidance: 1, solver: 'euler', level: 0 }, cost: 0.016, fd: told.fd },
    ]);
    expect(paretoRows(seconds, 'seconds')[1]![1]).toBe('T=4 L=4 level 0');
    expect(paretoPlot(both, 'seconds')).toContain('>euler level 0</text>');
  });

  it('a heat map darkens with the value and leaves gaps empty', () => {
    const svg = heatMap({
      ...{ title: 'a < b', row: 'r', column: 'c', rowLabels: ['1', '2'], columnLabels: ['x', 'y'] },
      values: [
        [1, 10],
        [100, Number.NaN],
      ],
      text: (r, c) => [`${r}${c}`],
    });
    const fills = Array.from(svg.matchAll(/<rect x="\d+" y="\d+"[^>]*fill="(rgb[^"]*)"/g), ([, fill]) => fill);
    // The logarithm of 10 is half that of 100.
    expect(fills).toEqual(['rgb(235,244,251)', 'rgb(118,164,196)', 'rgb(0,84,140)']);
    expect(svg).toContain('a &lt; b');
    expect(() =>
      heatMap({ title: '', row: '', column: '', rowLabels: [], columnLabels: ['x'], values: [[1]], text: () => [] }),
    ).toThrow('values are not 0 x 1');
  });
});

describe('what a budget buys', () => {
  it('is the best cell for each cost, cheapest first, and those that are beaten are left out', () => {
    const along = blocksFrom(parseBlocks('4@0,8@0.5'));
    const mixed = { ...cell(4, 8, 6), along, secondsPerSample: 0.02 };
    const worse = { ...cell(4, 4, 20, 'heun'), secondsPerSample: 0.03 };
    const all = [...cells, mixed, worse];
    const { seconds, bytes } = paretoOf(all);
    expect(seconds.map((point) => [describeCell(point), point.cost, point.fd.value])).toEqual([
      ['T=1 L=4 w=1', 0.004, 16],
      ['T=1 L=8 w=1', 0.008, 12],
      ['T=4 L=4 w=1', 0.016, 8],
      ['T=4 L=4@0,8@0.5 w=1', 0.02, 6],
      ['T=4 L=8 w=1', 0.032, 4],
    ]);
    expect(bytes.map((point) => [describeCell(point), point.cost])).toEqual([
      ['T=4 L=4 w=1', 4e6],
      ['T=4 L=8 w=1', 8e6],
    ]);
    expect(paretoRows(bytes, 'bytes')).toEqual([
      ['peak MB', 'best', 'FD', 'better by'],
      ['4.0', 'T=4 L=4', '8.00 (7.75 to 8.50)', ''],
      ['8.0', 'T=4 L=8', '4.00 (3.75 to 4.50)', ''],
    ]);
    const svg = paretoPlot({ ...results, cells: all }, 'seconds');
    expect(svg).toContain('>T=4 L=4@0,8@0.5</text>');
    expect(svg).toContain('>euler, blocks by time</text>');
    expect(svg.match(/r="1.8"/g)).toHaveLength(6);
    expect(resultsCsv({ ...results, cells: [mixed] }).split('\n')[1]).toMatch(/,4@0 8@0.5,,$/);
    expect(resultRows({ ...results, cells: [mixed] })[1]!.slice(0, 2)).toEqual(['4@0,8@0.5', '4']);
  });
});

describe('a grid', () => {
  const config = preset('tiny', {});
  const grid: EvaluationGrid = { steps: [1, 4], blocks: [4, 12], guidance: [1, 2], solver: 'euler' };
  it('is drawn by weight, then blocks, then steps', () => {
    expect(cellsOf(grid).map(({ steps, blocks, guidance }) => [guidance, blocks, steps])).toEqual([
      ...[
        [1, 4, 1],
        [1, 4, 4],
        [1, 12, 1],
        [1, 12, 4],
      ],
      ...[
        [2, 4, 1],
        [2, 4, 4],
        [2, 12, 1],
        [2, 12, 4],
      ],
    ]);
  });
  it.each([
    [{ steps: [3] }, '3 steps are none of them'],
    [{ blocks: [5] }, '5'],
    [{ guidance: [Number.NaN] }, 'guidance is NaN'],
    [{ steps: [4, 4] }, 'steps has a value twice: 4, 4'],
    [{ blocks: [] }, 'blocks has no value'],
  ])('%j is refused', (part, message) => {
    expect(() => checkGrid({ ...grid, ...part }, 100, config)).toThrow(message);
    expect(() => checkGrid({ ...grid, ...part }, 100, config)).toThrow(ConfigError);
  });
  it('of several solvers gives each what it takes, and refreshes late blocks with euler alone', () => {
    const several: EvaluationGrid = {
      ...{ steps: [1, 4], tolerances: [0.1], blocks: [4, 12], guidance: [1], solver: ['euler', 'heun', 'tsit5'] },
      schedules: [blocksFrom(parseBlocks('4@0,8@0.5'))],
      refreshes: [{ blocks: 12, every: 2 }],
    };
    checkGrid(several, 100, config);
    const ways = (L: string) => [`T=1 L=${L} w=1`, `T=4 L=${L} w=1`, `T=1 L=${L} w=1 heun`, `T=4 L=${L} w=1 heun`];
    expect(cellsOf(several).map(describeCell)).toEqual([
      ...[...ways('4'), 'tol=0.1 L=4 w=1 tsit5', 'T=4 L=4 refresh 12:2 w=1'],
      ...[...ways('12'), 'tol=0.1 L=12 w=1 tsit5'],
      ...[...ways('4@0,8@0.5'), 'tol=0.1 L=4@0,8@0.5 w=1 tsit5'],
    ]);
    const keys = cellsOf(several);
    expect(keys.filter((key) => keys.filter((other) => sameCell(key, other)).length > 1)).toEqual([]);
    expect(requestOf(keys.at(-2)!)).toEqual({
      ...{ blocks: several.schedules![0], refresh: undefined, guidance: 1, solver: 'heun', steps: 4 },
    });
  });
  it('of several levels has every way at each, apart from those of the solvers themselves', () => {
    const told: EvaluationGrid = {
      ...{ steps: [4], tolerances: [0.1], blocks: [4], guidance: [1], solver: ['euler', 'tsit5'], levels: [0, 7] },
      refreshes: [{ blocks: 12, every: 2 }],
    };
    checkGrid(told, 100, config);
    const keys = cellsOf(told);
    expect(keys.map(describeCell)).toEqual([
      ...['T=4 L=4 w=1 level 0', 'T=4 L=4 w=1 level 7'],
      ...['tol=0.1 L=4 w=1 tsit5 level 0', 'tol=0.1 L=4 w=1 tsit5 level 7'],
      ...['T=4 L=4 refresh 12:2 w=1 level 0', 'T=4 L=4 refresh 12:2 w=1 level 7'],
    ]);
    expect(keys.map((key) => requestOf(key).level)).toEqual([0, 7, 0, 7, 0, 7]);
    const own = cellsOf({ ...told, levels: undefined });
    expect([...own, ...keys].filter((key) => [...own, ...keys].filter((o) => sameCell(key, o)).length > 1)).toEqual([]);
  });
  it.each([
    [{ levels: [0, 0] }, 'levels has a value twice: 0, 0'],
    [{ levels: [0, 8] }, 'level is 8; this model was trained for levels 0 to 7'],
    [{ refreshes: [{ blocks: 4, every: 2 }] }, 'refresh 4:2 makes no cell'],
    [
      { refreshes: [{ blocks: 12, every: 2 }], solver: 'heun' as const },
      'refresh 12:2 is for the solver euler, not heun',
    ],
    [{ tolerances: [0.1] }, 'tolerances are for adaptive solvers; euler takes fixed steps'],
    [{ schedules: [[{ from: 0, blocks: 5 }]] }, 'this model cannot run 5'],
    [{ solver: ['euler', 'euler'] as const }, 'solver has a value twice: euler, euler'],
  ])('%j is refused', (part, message) => {
    expect(() => checkGrid({ ...grid, ...part }, 100, config)).toThrow(message);
  });
  it('needs samples to judge, and steps that can be counted', () => {
    expect(() => checkGrid(grid, 7, config)).toThrow('7 samples cannot be judged; it takes 8');
    expect(() => checkGrid({ ...grid, steps: [2 ** 17] }, 8, { ...config, ignoreDt: true })).toThrow(LimitError);
  });
});

describe('real pictures', () => {
  const pictures = (name: string, count: number): Dataset =>
    datasetOf({
      ...{ name, height: 1, width: 2, channels: 1, classes: 2 },
      pixels: Uint8Array.from({ length: 2 * count }, (_, i) => i % 256),
      labels: new Uint8Array(count),
    });
  const [train, test] = [pictures('made train', 100), pictures('made test', 40)];

  it('of one set are parted, no picture being in both parts', () => {
    const { reference, heldOut, judges, how } = realPictures({ test }, 10, 3);
    expect([reference.indices.length, heldOut.indices.length]).toEqual([30, 10]);
    expect(new Set([...reference.indices, ...heldOut.indices]).size).toBe(40);
    expect([judges, how]).toEqual([test, 'parts of one set']);
    const many = realPictures({ test }, 1000, 3);
    expect([many.reference.indices.length, many.heldOut.indices.length]).toEqual([20, 20]);
    expect(realPictures({ test }, 10, 4).heldOut.indices).not.toEqual(heldOut.indices);
  });

  it('of two sets are training pictures for the reference, test pictures held out', () => {
    const { reference, heldOut, judges, how } = realPictures({ train, test }, 12, 3);
    expect([reference.data, heldOut.data, judges, how]).toEqual([train, test, test, 'test against train']);
    expect([reference.indices.length, heldOut.indices.length]).toEqual([100, 12]);
  });

  it('must be enough', () => {
    expect(() => realPictures({ test: pictures('few', 15) }, 100, 0)).toThrow("'few' has too few pictures: 15");
    expect(() => realPictures({}, 100, 0)).toThrow('there are no pictures');
  });

  it('are the parts that a folder has', async () => {
    const idx = (dims: number[], bytes: Uint8Array) =>
      Uint8Array.from([0, 0, 8, dims.length, ...dims.flatMap((n) => [0, 0, n >> 8, n & 255]), ...bytes]);
    const put = (part: string, count: number) => {
      writeFileSync(
        join(folder, `${part}-images-idx3-ubyte`),
        idx([count, 2, 2], new Uint8Array(4 * count).fill(count)),
      );
      writeFileSync(join(folder, `${part}-labels-idx1-ubyte`), idx([count], new Uint8Array(count)));
    };
    put('t10k', 3);
    const only = await openParts(folder);
    expect([only.train, only.test?.count]).toEqual([undefined, 3]);
    put('train', 5);
    const both = await openParts(folder);
    expect([both.train?.count, both.test?.count]).toEqual([5, 3]);
    writeFileSync(join(folder, 't10k-images-idx3-ubyte'), 'damaged');
    await expect(openParts(folder)).rejects.toThrow('t10k-images-idx3-ubyte');
    const file = join(folder, 'images.npy');
    writeFileSync(file, npy('|u1', [6, 2, 2], new Uint8Array(24)));
    const whole = await openParts(file);
    expect([whole.train?.count, whole.test]).toEqual([6, undefined]);
    await expect(openParts(join(folder, 'nowhere'))).rejects.toThrow('no such file or folder');
  });
});

it('weights have a digest that any of them changes', async () => {
  const config = preset('tiny', { width: 16, heads: 2, depth: 4, patch: 7 });
  const params = initParams(config, 1);
  const digest = await weightsDigest(memorySource(params));
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect(await weightsDigest(memorySource(initParams(config, 1)))).toBe(digest);
  params.groups.at(-1)![0]! += 1;
  expect(await weightsDigest(memorySource(params))).not.toBe(digest);
});
