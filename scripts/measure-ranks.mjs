/**
 * Measures training by several processes of this machine against the model of bench/step-time.ts: steps of processes that only compute,
 * all at once; sums; steps of processes that train together. node scripts/measure-ranks.mjs OUT.json NAME BATCH STEPS RANKS [flags...]
 * Needs `npm run build` and Open MPI. Adds to OUT.json: the model's points of RANKS (such as 1,2,4), and for `sampling` as NAME samples by several
 * processes that share nothing; again in place of what an earlier time found. With OUT.json alone it prints the tables of docs/scale.md, and draws OUT.svg.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeMachine } from '../dist/bench/machine.node.js';
import { fitLink, stepTime } from '../dist/bench/step-time.js';
import { table } from '../dist/formats/markdown.js';
import { parseModelConfig } from '../dist/model/config.js';
import { paramLayout } from '../dist/model/params.js';
import { linePlot } from '../dist/pictures/line-plot.js';

const run = promisify(execFile);
const [out, name, batchText, stepsText, ranksText, ...flags] = process.argv.slice(2);
const [batch, steps] = [batchText, stepsText].map(Number);
const cli = join(import.meta.dirname, '..', 'dist', 'cli.js');
const folder = mkdtempSync(join(tmpdir(), 'odelt-ranks-'));
const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
const mpi = (ranks) => ['--oversubscribe', '--bind-to', 'none', '-n', String(ranks), process.execPath, cli];

const train = (rows, to) => [
  'train',
  ...flags,
  '--batch',
  String(rows),
  '--steps',
  String(steps),
  '--warmup',
  '1',
  '--out',
  to,
];
/** Seconds of an update: median and quartiles, the first ones left out. */
function secondsOf(to) {
  const seconds = readFileSync(join(to, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).seconds)
    .slice(5)
    .sort((a, b) => a - b);
  const at = (share) => seconds[Math.round(share * (seconds.length - 1))];
  return { median: at(0.5), q1: at(0.25), q3: at(0.75), updates: seconds.length };
}
let runs = 0;
const fresh = () => join(folder, String(runs++));

/** The slowest of `ranks` processes that compute `rows` each, at the same time and not together. */
async function apart(ranks, rows) {
  const places = Array.from({ length: ranks }, fresh);
  await Promise.all(places.map((to) => run(process.execPath, [cli, ...train(rows, to)], { env })));
  return places.map(secondsOf).reduce((most, one) => (one.median > most.median ? one : most));
}
async function together(ranks) {
  const to = fresh();
  await run('mpirun', [...mpi(ranks), ...train(batch, to)], { env });
  return secondsOf(to);
}
async function sums(ranks) {
  const { stdout } = await run('mpirun', [...mpi(ranks), 'bench', 'cluster', '--json', '--rounds', '5'], { env });
  return JSON.parse(stdout.slice(stdout.indexOf('{'))).times;
}
/** Samples a second of all processes, each drawing its part of one evaluation; without compiling and loading. */
async function sampling(ranks) {
  const args = ['eval', ...flags, '--steps', String(steps), '--count', String(batch), '--features', 'random', '--json'];
  const parts = await Promise.all(
    Array.from({ length: ranks }, async (_, i) => {
      const { stdout } = await run(process.execPath, [cli, ...args, '--shard', `${i}/${ranks}`, '--out', fresh()], {
        env,
      });
      return JSON.parse(stdout).cells[0].seconds;
    }),
  );
  return { ranks, samplesPerSecond: batch / Math.max(...parts) };
}

/** Bytes of all gradients of a run's model. */
function gradientBytesOf(to) {
  const { model } = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'));
  return 4 * paramLayout(parseModelConfig(model)).groups.reduce((sum, { length }) => sum + length, 0);
}

/** The assumed way between GPU and host. */
const TRANSFER = 1e10;

async function measure() {
  const { machine, versions } = describeMachine();
  const found = existsSync(out) ? JSON.parse(readFileSync(out, 'utf8')) : { models: {} };
  Object.assign(found, { date: new Date().toISOString().slice(0, 10), machine, versions });
  const points = [];
  found.models[name] = { batch, steps, flags, points };
  for (const ranks of ranksText.split(',').map(Number)) {
    if (name === 'sampling') points.push(await sampling(ranks));
    else {
      const computing = await apart(ranks, batch / ranks);
      found.models[name].gradientBytes ??= gradientBytesOf(join(folder, '0'));
      const step = ranks === 1 ? computing : await together(ranks);
      points.push({ ranks, rows: batch / ranks, computing, step, ...(ranks > 1 && { sums: await sums(ranks) }) });
    }
    console.error(JSON.stringify({ ...points.at(-1), sums: undefined }));
    writeFileSync(out, `${JSON.stringify(found, null, 1)}\n`);
  }
}

/** Predicted beside measured: of each model a row for each number of ranks, and a plot of samples a second. */
function report() {
  const { models } = JSON.parse(readFileSync(out, 'utf8'));
  const ms = (seconds) => (1000 * seconds).toFixed(0);
  const spread = ({ median, q1, q3 }) => `${ms(median)} (${ms(q1)} to ${ms(q3)})`;
  const rows = [];
  const series = [];
  for (const [of, { batch: all, gradientBytes: bytes, points }] of Object.entries(models)) {
    if (of === 'sampling') {
      const lines = points.map(({ ranks, samplesPerSecond }) => [`${ranks}`, samplesPerSecond.toFixed(0)]);
      console.log(`${table([['processes', 'samples/s'], ...lines]).join('\n')}\n`);
      continue;
    }
    const predicted = points.map(({ ranks, computing, sums: times }) => {
      const link = ranks === 1 ? { latency: 0, bandwidth: 1 } : fitLink(times, ranks, 'binomial');
      // Nothing is hidden, so how a step's time is shared by its passes is of no account.
      const parts = {
        fixed: computing.median,
        perRow: 0,
        backward: 0,
        update: 0,
        bytes,
        transfer: TRANSFER,
        overlap: false,
      };
      return stepTime(parts, { ranks, batch: all, alone: all }, link, 'binomial');
    });
    points.forEach(({ ranks, computing, step }, i) => {
      const { sums: summing, transfers, seconds } = predicted[i];
      rows.push([
        ...[`${of}, ${all}`, `${ranks}`, spread(computing), ms(summing), ms(transfers), ms(seconds), spread(step)],
        (seconds / step.median).toFixed(2),
      ]);
    });
    const x = points.map(({ ranks }) => ranks);
    series.push({ name: `${of}: measured`, x, y: points.map(({ step }) => all / step.median) });
    series.push({ name: `${of}: predicted`, x, y: predicted.map(({ samplesPerSecond }) => samplesPerSecond) });
  }
  const head = [
    'model, batch',
    'ranks',
    'computing, ms (quartiles)',
    'sums',
    'transfers',
    'predicted',
    'measured (quartiles)',
  ];
  console.log(table([[...head, 'predicted over measured'], ...rows]).join('\n'));
  const plot = { title: 'Training by several processes of one machine', series };
  const axes = { x: { label: 'ranks', log: true }, y: { label: 'samples a second' } };
  writeFileSync(out.replace(/\.json$/, '.svg'), linePlot({ ...plot, ...axes }));
}

try {
  if (name) await measure();
  else report();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
