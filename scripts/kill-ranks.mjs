/**
 * What is left of a run when a rank is killed: a chain of runs by several processes, each killed (SIGKILL, a random rank, at a random moment after
 * its first update) and started again with --resume; then the end, compared bit for bit with a run that nobody disturbed. After each kill
 * every other rank must have ended within 30 s with a ClusterError that names the dead one, and the newest checkpoint must be whole. Results
 * are kept by chain in one JSON file. Needs `npm run build`, Open MPI and koffi.
 *   node scripts/kill-ranks.mjs RANKS whole|divided SEED KILLS FILE.json
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { paramLayout } from '../dist/model/params.js';
import { loadCheckpoint } from '../dist/training/checkpoint.node.js';
import { readRunConfig } from '../dist/training/run.node.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const bundled = await build({
  entryPoints: [join(root, 'test/support/mpi.ts')],
  ...{ bundle: true, write: false, platform: 'node', format: 'esm' },
});
const code = Buffer.from(bundled.outputFiles[0].contents).toString('base64');
const { mpirun, rankProcess } = await import(`data:text/javascript;base64,${code}`);

const [ranks, state, seed, kills, file] = process.argv.slice(2);
if (!file || !['whole', 'divided'].includes(state)) {
  console.error('node scripts/kill-ranks.mjs RANKS whole|divided SEED KILLS FILE.json');
  process.exit(2);
}
const EVERY = 2;
/** Updates after which a kill comes at most, and milliseconds after that. */
const [MOST_UPDATES, MOST_MS] = [6, 100];
const LIMIT = 30_000;
const steps = Number(kills) * (MOST_UPDATES + 4) + 4;

/** Numbers in [0, 1) that follow from the seed (mulberry32). */
let place = Number(seed);
function random() {
  place = (place + 0x6d2b79f5) | 0;
  let t = Math.imul(place ^ (place >>> 15), 1 | place);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);

const scratch = mkdtempSync(join(tmpdir(), 'odelt-kills-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const out = (name) => join(scratch, name);
const size = ['--patch', '7', '--width', '16', '--heads', '2', '--depth', '4', '--batch', '16'];
const fresh = (name) => [...size, '--steps', String(steps), '--save-every', String(EVERY), '--out', out(name)];
const train = (args, options = {}) =>
  mpirun([{ ranks: Number(ranks), command: [process.execPath, join(root, 'dist/cli.js'), 'train', ...args] }], options);
const linesOf = (name) => {
  try {
    return readFileSync(join(out(name), 'metrics.jsonl'), 'utf8')
      .split('\n')
      .slice(0, -1);
  } catch {
    return [];
  }
};
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
const events = (name) => JSON.stringify(linesOf(name).map((line) => ({ ...JSON.parse(line), seconds: 0 })));
const sums = (name) => readFileSync(join(out(name), 'checkpoints', `step-${steps}`, 'SHA256SUMS'), 'utf8');
function check(holds, what, more = '') {
  if (holds) return;
  console.error(`${what}\n${more}`);
  process.exit(1);
}

/** The newest checkpoint, its files compared with their sums and read. */
async function newest(name) {
  const { model } = await readRunConfig(out(name));
  const { state: saved, checked } = await loadCheckpoint(join(out(name), 'checkpoints'), paramLayout(model));
  return { step: saved.step, whole: checked };
}

const undisturbed = await train(fresh('undisturbed'));
check(undisturbed.code === 0, 'the undisturbed run failed', undisturbed.output);
console.log(`undisturbed: ${steps} updates`);

const rows = [];
for (let kill = 1; kill <= Number(kills); kill++) {
  const victim = below(Number(ranks));
  const before = linesOf('killed').length;
  const saved = kill === 1 ? 0 : rows.at(-1).checkpoint;
  // Of a new run the update after the first checkpoint is waited for: without one there is nothing to go on from.
  const until = saved + (kill === 1 ? EVERY + 1 : 1) + below(MOST_UPDATES);
  const ms = below(MOST_MS);
  // Without recovery mpirun itself ends the others a second later; with it, they end by themselves.
  const recovery = kill % 2 === 0;
  const flags = ['--tag-output', ...(recovery ? ['--enable-recovery'] : [])];
  const args = kill === 1 ? [...fresh('killed'), ...(state === 'divided' ? ['--shard-state'] : [])] : null;
  let begun = kill === 1;
  const { output, after } = await train(args ?? ['--resume', '--save-every', String(EVERY), '--out', out('killed')], {
    flags,
    during: async (launcher) => {
      // A run that goes on first cuts its metrics back to the checkpoint.
      while (!begun || linesOf('killed').length < until) {
        begun ||= linesOf('killed').length !== before || before === saved;
        await sleep(5);
      }
      await sleep(ms);
      process.kill(rankProcess(launcher, victim), 'SIGKILL');
    },
  });
  const others = Array.from({ length: Number(ranks) }, (_, r) => r).filter((r) => r !== victim);
  const told = `ClusterError: rank ${victim} is gone: its process has ended`;
  const named = others.filter((r) =>
    output.split('\n').some((line) => line.startsWith(`[1,${r}]`) && line.includes(told)),
  );
  const { step, whole } = await newest('killed');
  const row = { kill, rank: victim, recovery, updates: linesOf('killed').length, checkpoint: step, whole };
  rows.push({ ...row, named: named.length, endedMs: Math.round(after) });
  console.log(JSON.stringify(rows.at(-1)));
  check(named.length === others.length, `only rank ${named} of ${others} named rank ${victim}`, output);
  check(after < LIMIT, `the others took ${after} ms to end`, output);
  check(whole, 'the newest checkpoint has no sums', output);
}
const last = await train(['--resume', '--save-every', String(EVERY), '--out', out('killed')]);
check(last.code === 0, 'the last run failed', last.output);
const same = events('killed') === events('undisturbed') && sums('killed') === sums('undisturbed');
console.log(`the same bits as undisturbed: ${same}`);

const chain = { ranks: Number(ranks), state, seed: Number(seed), steps, saveEvery: EVERY, same, kills: rows };
let before = { chains: [] };
try {
  before = JSON.parse(readFileSync(resolve(file), 'utf8'));
} catch {}
const others = before.chains.filter((c) => !(c.ranks === chain.ranks && c.state === state && c.seed === chain.seed));
const chains = [...others, chain].sort((a, b) => a.ranks - b.ranks || (a.state < b.state ? 1 : -1) || a.seed - b.seed);
const machine = `Open MPI on one machine of two processors, ${process.env.ODELT_ADAPTER ?? 'auto'}, Node ${process.version}`;
writeFileSync(file, `${JSON.stringify({ machine, date: new Date().toISOString().slice(0, 10), chains }, null, 1)}\n`);
check(same, 'the run that was killed is not the undisturbed one');
