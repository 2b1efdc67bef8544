/**
 * What watching a run costs, as shares of its update: the tiny preset, batches of 32 of the bundled pictures. Updates and all that can be
 * written between them are done in turn, so that a machine that slows down slows all of them. Needs `npm run build`.
 *   node scripts/watch-cost.mjs [ROUNDS]      default 10
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shippedData } from '../dist/formats/shipped.node.js';
import {
  createNodeEngine,
  createTrainer,
  encodePng,
  holdOut,
  modelForData,
  openTrainingData,
  sampleSheet,
} from '../dist/node.js';
import { parseTrainConfig } from '../dist/training/config.js';
import { OUT_OPTIONS } from '../dist/training/settings.js';
import { startWatch } from '../dist/training/watch.node.js';

const rounds = Number(process.argv[2] ?? 10);
const scratch = mkdtempSync(join(tmpdir(), 'odelt-watch-cost-'));
const of = (name) => OUT_OPTIONS[name].default;
const steps = 100_000;
const never = 2 * steps;

const { engine, node } = await createNodeEngine();
const { train: data, held } = holdOut(await openTrainingData(shippedData()), 0.1);
const model = modelForData('tiny', data);
const train = parseTrainConfig({ batch: 32, steps });
const validation = { data: held, every: 1, pictures: of('validationPictures') };
const plain = await createTrainer(engine, { model, train, data });
const watched = await createTrainer(engine, { model, train, data, validation, inspect: true });
const sheet = await sampleSheet(engine, model);
const draw = async (average, step) => {
  const picture = await sheet.draw(average, `${step} updates`);
  return { png: encodePng(picture), width: picture.width, height: picture.height };
};
const watch = (options) => startWatch(engine, { folder: scratch, done: 0, steps, samplesEach: 32 }, options);
const watches = {
  losses: await watch({ tensorboard: { logEvery: never, histogramEvery: never } }),
  norms: await watch({ tensorboard: { logEvery: 1, histogramEvery: never } }),
  histograms: await watch({ tensorboard: { logEvery: 1, histogramEvery: 1 } }),
  samples: await watch({ samples: { every: 1, draw } }),
};

/** Seconds by what was done, one of each per round. */
const times = { update: [], 'update of a run that is watched': [], validation: [] };
const timed = async (what, body) => {
  const started = performance.now();
  const result = await body();
  times[what] ??= [];
  times[what].push((performance.now() - started) / 1000);
  return result;
};
const [a, b] = [plain.run(), watched.run()];
for (let round = -2; round < rounds; round++) {
  // Which of the two comes first makes a difference of some per cent.
  if (round % 2 === 0) await timed('update', () => a.next());
  const { value: event } = await timed('validation', () => b.next());
  if (round % 2 !== 0) await timed('update', () => a.next());
  times['update of a run that is watched'].push(event.seconds);
  times.validation.push(times.validation.pop() - event.seconds);
  for (const [what, one] of Object.entries(watches)) await timed(what, () => one.after(event, watched));
  // Some drivers compile at the first runs.
  if (round < 0) for (const list of Object.values(times)) list.length = 0;
}
for (const one of Object.values(watches)) await one.close();
await Promise.all([a.return(), b.return()]);
rmSync(scratch, { recursive: true });
engine.dispose();

const median = (list) => list.toSorted((x, y) => x - y)[list.length >> 1];
/** Of an update in the same round. */
const share = (what, less) => median(times[what].map((x, i) => (x - (less ? times[less][i] : 0)) / times.update[i]));
const each = {
  losses: [share('losses'), 1],
  norms: [share('norms', 'losses'), of('logEvery')],
  histograms: [share('histograms', 'norms'), of('histogramEvery')],
  validation: [share('validation'), of('validateEvery')],
  // Off by default; as often as validations.
  'sheet of samples': [share('samples'), of('validateEvery')],
};
const percent = (x) => `${(100 * x).toFixed(2)} %`;
console.log(`${node.adapterReport.adapter.name}, ${rounds} rounds`);
console.log(`update: ${(1000 * median(times.update)).toFixed(1)} ms`);
console.log(`update of a run that is watched: ${percent(share('update of a run that is watched'))} of that`);
for (const [what, [once, every]] of Object.entries(each)) {
  console.log(`${what}: ${percent(once)} of an update; every ${every} updates: ${percent(once / every)}`);
}
const total = (names) => percent(names.reduce((sum, name) => sum + each[name][0] / each[name][1], 0));
const board = ['losses', 'norms', 'histograms'];
console.log(`--tensorboard: ${total(board)}; all of it: ${total(Object.keys(each))}`);
console.log(`all of it, every update: ${percent(Object.values(each).reduce((sum, [once]) => sum + once, 0))}`);
