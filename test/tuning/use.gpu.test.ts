/** From tables to engines: what an engine goes by, what is left out and said to be, and what is refused. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { casesOf } from '../../bench/cases.ts';
import { dryEngine } from '../../engine/dry-device.ts';
import { createNodeEngine } from '../../engine/engine.node.ts';
import { Engine } from '../../engine/engine.ts';
import { TuningError } from '../../engine/errors.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { families } from '../../kernels/families.ts';
import { preset } from '../../model/config.ts';
import { createEngine } from '../../node.ts';
import { look } from '../../tuning/candidate.ts';
import { checkChoices } from '../../tuning/choices.ts';
import { useTuning } from '../../tuning/open.ts';
import { subjectOf, trialOf } from '../../tuning/problem.ts';
import { autoencoderProblems, problemsOf, squareProblems } from '../../tuning/problems.ts';
import { shippedResults } from '../../tuning/shipped.ts';
import { fileStore } from '../../tuning/store.node.ts';
import { mergeResults, type TuningResult, type TuningTable, tableOf, tunedAdapter } from '../../tuning/table.ts';
import { tune } from '../../tuning/tune.ts';
import { smallKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { rejection } from '../support/programs.ts';
import { squareFamily } from '../support/square-family.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

let engine: Engine;
/** Says that 'power' is twice as fast as 'plain'. */
let table: TuningTable;
const { tuned, problem } = squareFamily(['plain', 'power']);
const chosen = { family: 'square', shape: { width: 24 }, variant: 'power' };
beforeAll(async () => {
  engine = await testEngine();
  const { results } = await tune(engine, [problem], {
    ...{ families: [tuned], batches: [1] },
    time: async (entrants, rounds) =>
      entrants.map(({ id }) => [Array.from({ length: rounds }, () => (id === 'power' ? 1 : 2))]),
  });
  table = tableOf(tunedAdapter(engine), results);
});
afterAll(() => engine.dispose());

const change = (to: Partial<TuningResult>): TuningTable => ({ ...table, results: [{ ...table.results[0]!, ...to }] });

/** Gives the engine a table; its choices, and what was said. */
async function used(given: TuningTable) {
  const notices: string[] = [];
  await useTuning(engine, JSON.parse(JSON.stringify(given)), {
    families: [tuned],
    onNotice: (text) => notices.push(text),
  });
  const choices = engine.tuning!.choices;
  engine.tuning = undefined;
  return { choices, notices };
}

describe('an engine', () => {
  it('takes what a table says, which its family then finds', async () => {
    expect(await used(table)).toEqual({ choices: [chosen], notices: [] });
  });

  it('needs no choice where the reviewed variant is the best, or none is right', async () => {
    expect(await used(change({ variant: 'plain' }))).toEqual({ choices: [], notices: [] });
    expect(await used(change({ variant: null }))).toEqual({ choices: [], notices: [] });
  });

  it.each([
    ["there is no family 'cube'", { family: 'cube' }],
    ["its variant 'warp' is none of plain, power", { variant: 'warp' }],
    ['the kernels have changed since; tune again', { kernels: '0123456789abcdef' }],
    ['the kernels have changed since; tune again', { reviewed: 'warp' }],
  ] as [string, Partial<TuningResult>][])('leaves out an entry and says so: %s', async (why, to) => {
    const { choices, notices } = await used(change(to));
    expect(choices).toEqual([]);
    expect(notices).toEqual([`tuning of ${to.family ?? 'square'} width 24 is left out: ${why}`]);
  });

  it('is of the modes that the device was asked for in', async () => {
    const options = [{}, { disableRobustness: true }, { toggles: ['enable-dawn-features=disable_robustness'] }];
    const modes: (readonly string[] | null)[] = [];
    for (const option of options) {
      const { engine: other } = await createNodeEngine({ onError: () => {}, ...option });
      modes.push(tunedAdapter(other).modes);
      other.dispose();
    }
    const [plain, unchecked, toggled] = modes;
    expect(plain).not.toContain('no bounds checks');
    expect(unchecked).toEqual(['no bounds checks', ...plain!]);
    expect(toggled).toEqual(unchecked);
  });

  it('refuses a table of another adapter', async () => {
    const other = { ...table, adapter: { ...table.adapter, driver: 'another' } };
    const error = await rejection(useTuning(engine, other, { where: 'x.json' }), TuningError);
    expect(error.message).toMatch(/^x\.json was measured on .* \(another[,)].* this engine is on /);
    expect(engine.tuning).toBeUndefined();
  });

  it('with auto takes what the store has for it, and is as without where there is nothing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'odelt-tuning-'));
    const store = fileStore(folder);
    try {
      await useTuning(engine, 'auto', { store, families: [tuned] });
      expect(engine.tuning!.choices).toEqual([]);
      await store.put(table);
      await useTuning(engine, 'auto', { store, families: [tuned] });
      expect(engine.tuning!.choices).toEqual([chosen]);
    } finally {
      engine.tuning = undefined;
      rmSync(folder, { recursive: true });
    }
  });

  it('is made with a table, with choices, or with neither', async () => {
    const notices: string[] = [];
    const { device } = engine;
    const none = await createEngine({ device });
    expect([none.tuning, none.mirrors]).toEqual([undefined, true]);
    const plain = await createEngine({ device, mirrors: false, submissionBudget: 70 });
    expect([plain.mirrors, plain.submissionBudget]).toEqual([false, 70]);
    // Of the public families there is no 'square'.
    const withTable = await createEngine({ device, tuning: table, onNotice: (text) => notices.push(text) });
    expect(withTable.tuning!.choices).toEqual([]);
    expect(notices).toEqual(["tuning of square width 24 is left out: there is no family 'square'"]);
    const own = tuningBy(() => 'staged-64x64');
    expect((await createEngine({ device, tuning: own })).tuning).toBe(own);
    const damaged = { ...table, results: 7 } as unknown as TuningTable;
    const error = await rejection(createEngine({ device, tuning: damaged }), TuningError);
    expect(error.message).toBe('the tuning table is damaged: results is 7, not Array');
  });

  it('without a GPU takes the variants that the engine takes which it is like', () => {
    engine.tuning = tuningBy(() => 'power', [tuned]);
    const dry = dryEngine(engine);
    engine.tuning = undefined;
    expect(dry.tuning!.variant(dry, 'square', {})).toEqual({ id: 'power' });
    for (const { family, candidates } of families) {
      const shape = { layout: 'NN', vec: true, weights: 'f32', activations: 'f32', rows: 'many', n: 64, k: 64 };
      const ids = (e: Engine) => candidates(e, shape).map(({ id }) => id);
      if (family.name === 'product') expect(ids(dry)).toEqual(ids(engine));
    }
  });

  it('refuses to go on with choices that it does not have', () => {
    checkChoices(engine, [tuned], [chosen], 'the run');
    const gone = { ...chosen, variant: 'warp' };
    expect(() => checkChoices(engine, [tuned], [chosen, gone], 'the run')).toThrow(
      "the run has the variant 'warp' for square width 24, which is not there on this adapter: there are plain, power",
    );
  });
});

describe('problems', () => {
  it('of a model are what its programs ask for, each of which a trial exercises', async () => {
    const config = preset('tiny');
    const problems = await problemsOf(engine, config);
    const sampling = await problemsOf(engine, config, { training: false });
    const training = await problemsOf(engine, config, { sampling: false });
    // One that is never guided has the problems of one that is: shapes hold no number of samples.
    const without = await problemsOf(engine, { ...config, unconditional: true }, { training: false });
    expect(keys(without)).toEqual(keys(sampling));
    expect(mergeKeys(sampling, training)).toEqual(keys(problems));
    // The sizes of the tiny preset: 64 features, 256 in the MLP, six modulations a block and two for the head, patches of 16 pixels.
    const products = sampling.filter(({ family }) => family === 'product').map(({ shape }) => `${shape.n} ${shape.k}`);
    expect(products).toEqual(
      expect.arrayContaining(['64 64', '256 64', '64 256', '384 64', '128 64', '64 16', '16 64']),
    );
    expect(keys(training).some((key) => key.includes('"layout":"TN"'))).toBe(true);
    expect(keys(sampling).some((key) => key.includes('"layout":"TN"'))).toBe(false);
    expect(problems.every(({ tokens, uses }) => tokens === 49 && uses > 0)).toBe(true);
    for (const p of problems) {
      const subject = subjectOf(engine, families, p);
      const looked = await look(engine, subject, { samples: 16, tokens: p.tokens });
      expect(looked, JSON.stringify(p)).toEqual({ asked: true, fits: true });
    }
  });

  it.each([
    ['f16', 'f32'],
    ['f16', 'f16'],
    ['int8', 'f32'],
    ['int8', 'f16'],
    ['f32', 'f16'],
  ] as const)('with %s weights and %s activations have cases that are about them', async (precision, activations) => {
    const problems = await problemsOf(engine, preset('tiny'), { training: false, precision, activations });
    const products = problems.filter(({ family }) => family === 'product');
    const weights = precision === 'int8' ? 'i8' : precision;
    expect(products.some(({ shape }) => shape.weights === weights && shape.activations === activations)).toBe(true);
    for (const p of problems) {
      const looked = await look(engine, subjectOf(engine, families, p), { samples: 16, tokens: p.tokens });
      expect(looked, JSON.stringify(p)).toEqual({ asked: true, fits: true });
    }
  });

  it('of large products are two, f32 and halves, whose cases are those of the benchmark', async () => {
    const problems = await squareProblems(engine);
    const kinds = problems.map(({ shape: { weights, activations, n, k } }) => [weights, activations, n, k]);
    expect(kinds).toEqual([
      ['f32', 'f32', 4096, 4096],
      ['f16', 'f16', 4096, 4096],
    ]);
    for (const p of problems) {
      const subject = subjectOf(engine, families, p);
      const { contract, case: k } = trialOf(subject, 1);
      expect(casesOf(contract, { shapes: ['square'] })).toEqual([k]);
      expect((await look(engine, subject, { samples: 1, tokens: p.tokens })).asked).toBe(true);
    }
  });

  it.each(['dit-b/2', 'dit-xl/2'])(
    'of %s, whose usual batches the smallest adapters cannot train, are there',
    async (name) => {
      const small = new Engine(engine.device, engine.adapterClass, { ownsDevice: false, largestBinding: 2 ** 27 });
      const problems = await problemsOf(small, preset(name));
      const { width } = preset(name);
      const products = problems.filter(({ family }) => family === 'product').map(({ shape }) => shape);
      for (const layout of ['NN', 'NT', 'TN']) {
        expect(products).toContainEqual(expect.objectContaining({ layout, n: layout === 'NT' ? width : 4 * width }));
      }
    },
  );

  it('of an autoencoder are its convolutions and dense layers', async () => {
    const network = smallKl();
    const problems = await autoencoderProblems(engine, network);
    const convolutions = problems.filter(({ family }) => family === 'convolution').map(({ shape }) => shape);
    const [input, halved] = [
      { channels: 3, columns: 8, side: 3, weights: 'f32' },
      { channels: 8, columns: 8, side: 3, weights: 'f32' },
    ];
    expect(convolutions).toEqual(expect.arrayContaining([input, halved]));
    for (const p of problems) {
      const subject = subjectOf(engine, families, p);
      const looked = await look(engine, subject, { samples: 1, tokens: p.tokens });
      expect(looked, JSON.stringify(p)).toEqual({ asked: true, fits: true });
    }
    const decoder = await autoencoderProblems(engine, { ...network, encoder: null }, { precision: 'f16' });
    const stored = decoder.filter(({ family }) => family === 'convolution').map(({ shape }) => shape.weights);
    expect(new Set(stored)).toEqual(new Set(['f16']));
    expect(stored.length).toBeLessThan(convolutions.length);
  });

  const keys = (problems: readonly { family: string; shape: object }[]) =>
    problems.map(({ family, shape }) => `${family} ${JSON.stringify(shape)}`).sort();
  const mergeKeys = (...lists: Parameters<typeof keys>[0][]) => [...new Set(lists.flatMap(keys))].sort();
});

it('the tables that come with odelt are about its kernels as they are', async () => {
  for (const kind of ['lavapipe', 'swiftshader'] as const) {
    const results = await shippedResults(kind);
    expect(mergeResults(results, [])).toHaveLength(results.length);
    if (engine.adapterClass !== kind) continue;
    const notices: string[] = [];
    await useTuning(engine, 'auto', { onNotice: (text) => notices.push(text) });
    expect(notices).toEqual([]);
    expect(engine.tuning!.choices).toHaveLength(results.filter((r) => r.variant !== r.reviewed).length);
    for (const r of results) subjectOf(engine, families, { ...r, uses: 1 });
    engine.tuning = undefined;
  }
});
