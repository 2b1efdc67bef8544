/** `odelt sample --budget` and `odelt demo` with a model that carries a made-up evaluation: what is chosen, what it costs, what is shown. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { evaluationMetadata, type StoredEvaluation } from '../../evaluation/stored.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { buildCli, type Cli } from '../support/cli.ts';

const config = parseModelConfig({
  ...{ imageSize: 28, channels: 1, patch: 7, width: 16, heads: 2, depth: 4, mlpRatio: 2, classes: 10 },
  lengths: { min: 2, group: 2 },
});
const cell = (steps: number, blocks: number, fd: number, secondsPerSample: number) => ({
  ...{ steps, blocks, fd: { value: fd, low: fd - 0.25, high: fd + 0.25 }, secondsPerSample },
  ...{ peakBytes: 1, bytesRead: 1 },
});
const evaluation: StoredEvaluation = {
  ...{ features: 'pca64', count: 1234, solver: 'euler', guidance: 1, adapter: 'another', date: '2026-01-31' },
  floor: null,
  cells: [cell(1, 2, 8, 1), cell(16, 2, 4, 16), cell(1, 4, 6, 1.5), cell(16, 4, 2, 24)],
};
/** Of which the best cell takes thousands of times as long as the others: a model that is told no step sizes takes any number of steps. */
const apart: StoredEvaluation = { ...evaluation, cells: [...evaluation.cells.slice(0, 3), cell(65_536, 4, 2, 98_304)] };

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  for (const [name, stored] of [
    ['m', evaluation],
    ['heun', { ...evaluation, solver: 'heun' }],
    ['apart', apart],
  ] as const) {
    const extra = evaluationMetadata(stored);
    const described = stored === apart ? { ...config, ignoreDt: true } : config;
    const { tensors, metadata } = await modelContents(described, initParams(described, 0), { extra });
    writeFileSync(join(cli.folder, `${name}.safetensors`), serializeSafetensors(tensors, metadata));
  }
});
afterAll(() => cli?.remove());

const sample = (...args: string[]) =>
  cli.run('sample', '--model', 'm.safetensors', '--count', '4', '--scale', '1', '--out', 's.png', ...args);

it('buys the best cell that memory allows, whose peak is the budget to the byte', async () => {
  const rich = await sample('--budget', '1GB', '--json');
  expect(rich.code, rich.stderr).toBe(0);
  const best = JSON.parse(rich.stdout);
  // The weight is the evaluation's, not the usual one.
  expect(best).toMatchObject({ steps: 16, blocks: 4, guidance: 1, budget: { of: 'bytes', most: 1e9, within: 4 } });
  expect(best.budget.better).toBeNull();
  expect(best.budget.chosen.cost).toBe(best.peakBytes);
  const poor = await sample('--budget', `${best.peakBytes - 1}B`, '--json');
  expect(poor.code, poor.stderr).toBe(0);
  const next = JSON.parse(poor.stdout);
  expect(next).toMatchObject({ steps: 16, blocks: 2, budget: { better: { cost: best.peakBytes } } });
  expect(next.peakBytes).toBe(next.budget.chosen.cost);
  expect(next.peakBytes).toBeLessThan(best.peakBytes);
  const none = await sample('--budget', '1kB');
  expect(none.code).toBe(1);
  expect(none.stderr).toMatch(
    /LimitError: 1\.00 kB buys none of the 4 cells of the model's evaluation: T=1, L=2, the cheapest, takes /,
  );
});

it('prices and draws with the solver of the evaluation, which evaluates the network twice a step', async () => {
  const heun = (...args: string[]) => sample('--model', 'heun.safetensors', '--budget', ...args, '--json');
  const rich = await heun('1GB');
  expect(rich.code, rich.stderr).toBe(0);
  expect(rich.stderr).toContain('pca64 features, heun, w=1, 2026-01-31');
  const best = JSON.parse(rich.stdout);
  expect(best).toMatchObject({ solver: 'heun', steps: 16, blocks: 4, evaluations: 32 });
  // Heun's first slope needs a buffer of its own.
  expect(best.budget.chosen.cost).toBe(best.peakBytes);
  const euler = JSON.parse((await sample('--budget', '1GB', '--json')).stdout);
  expect(euler).toMatchObject({ solver: 'euler', evaluations: 16 });
  expect(best.peakBytes).toBeGreaterThan(euler.peakBytes);
  // One byte less, which is more than a step of Euler's takes, buys the next.
  const poor = JSON.parse((await heun(`${best.peakBytes - 1}B`, '--solver', 'heun')).stdout);
  expect(poor).toMatchObject({ solver: 'heun', steps: 16, blocks: 2, evaluations: 32 });
  expect(poor.peakBytes).toBe(poor.budget.chosen.cost);
  const refused = await heun('1GB', '--solver', 'euler');
  expect(refused.code).toBe(2);
  expect(JSON.parse(refused.stdout).error).toMatchObject({
    message: "--budget chooses by the model's evaluation, which is of --solver heun, not euler",
    hint: 'leave out --solver, or choose --steps and --blocks yourself',
  });
});

it('measures this machine once for a time, and scales by the stored ratios', async () => {
  const said = await sample('--model', 'apart.safetensors', '--budget', '500ms');
  expect(said.code, said.stderr).toBe(0);
  expect(said.stderr).toContain('evaluation: 4 cells, FD of 1,234 samples by pca64 features, euler, w=1, 2026-01-31');
  expect(said.stderr).toMatch(/measured here: \S+ m?s a step and picture at L=2, \S+ m?s a picture besides, 4 at once/);
  expect(said.stderr).toMatch(
    /500 ms a picture buys T=16, L=2: FD 4\.00 \(3\.75 to 4\.25\) for about \S+ m?s a picture, the best of 3 of 4 cells; the next better, T=65536, L=4 with FD 2\.00, takes about \S+ s\n/,
  );
  expect(said.stderr).toContain('4 pictures, T=16, L=2\n');
});

it("shows distances in the demo's table where the evaluation has them, and says why not at another weight", async () => {
  const demo = (...args: string[]) => cli.run('demo', '--model', 'm.safetensors', '--per-class', '1', ...args);
  const shown = await demo();
  expect(shown.code, shown.stderr).toBe(0);
  expect(shown.stderr).toContain('FD of the stored evaluation: 1,234 samples, pca64 features');
  const [head, ...rows] = shown.stdout.trimEnd().split('\n');
  expect(head).toMatch(/class agreement {2}FD$/);
  // T in 1, 4, 16 for each L: there is none of four steps.
  expect(rows.map((row) => / %(?: {2}(.*))?$/.exec(row)?.[1])).toEqual([
    ...['8.00 (7.75 to 8.25)', undefined, '4.00 (3.75 to 4.25)'],
    ...['6.00 (5.75 to 6.25)', undefined, '2.00 (1.75 to 2.25)'],
  ]);
  const other = await demo('--guidance', '0', '--json');
  expect(other.stderr).toContain("the model's evaluation is of euler, w=1: its FD is not shown at euler, w=0");
  expect(JSON.parse(other.stdout).fd).toBeUndefined();
  expect(JSON.parse(other.stdout).cells[0].fd).toBeUndefined();
});
