/**
 * Measures training by several processes of this machine against the model of bench/step-time.ts: steps of processes that only compute,
 * all at once; sums; steps of processes that train together. node scripts/measure-ranks.mjs OUT.json NAME BATCH STEPS RANKS [flags...]
 * Needs `npm run build` and Open MPI. Adds to OUT.json: the model's points of RANKS (such as 1,2,4), and for `sampling` as NAME samples by several
 * processes that share nothing.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

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

try {
  const found = existsSync(out) ? JSON.parse(readFileSync(out, 'utf8')) : { models: {}, sums: {} };
  found.date = new Date().toISOString().slice(0, 10);
  found.models[name] ??= { batch, steps, flags, points: [] };
  const { points } = found.models[name];
  for (const ranks of ranksText.split(',').map(Number)) {
    if (name === 'sampling') points.push(await sampling(ranks));
    else {
      const computing = await apart(ranks, batch / ranks);
      points.push({ ranks, rows: batch / ranks, computing, step: ranks === 1 ? computing : await together(ranks) });
      if (ranks > 1) found.sums[ranks] ??= await sums(ranks);
    }
    console.error(JSON.stringify(points.at(-1)));
    writeFileSync(out, `${JSON.stringify(found, null, 1)}\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
