/**
 * Compares odelt with other WebGPU libraries on one adapter: the same workloads, checked against float64, timed in turn.
 *   npm ci && npm start -- [--adapter lavapipe] [--workloads product,block-b1] [--peers odelt,jax] [--rounds 7] [--out FOLDER]
 * Results are kept after each workload and added to; a workload that is measured again takes the place of its earlier results.
 */
import { existsSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkOutput, writeText } from '../../dist/formats/files.node.js';
import { measure } from './measure.mjs';
import { keptReference } from './references.mjs';
import { markdown, overview, reasons, withWorkload } from './table.mjs';
import { inputsOf, WORKLOADS } from './workloads.mjs';

/** In the order of the table's columns. */
const PEERS = ['odelt', 'jax', 'tfjs', 'ort-web', 'ort-native', 'openblas'];
const ADAPTERS = ['gpu', 'lavapipe', 'swiftshader'];

const OPTIONS = {
  adapter: { type: 'string', default: 'lavapipe' },
  workloads: { type: 'string', default: Object.keys(WORKLOADS).join() },
  peers: { type: 'string', default: PEERS.join() },
  rounds: { type: 'string', default: '7' },
  timeout: { type: 'string', default: '600' },
  out: { type: 'string', default: fileURLToPath(new URL('../results', import.meta.url)) },
  'references-only': { type: 'boolean', default: false },
};

class WrongArgument extends Error {}

function oneOf(flag, value, known) {
  if (!known.includes(value)) throw new WrongArgument(`--${flag} '${value}' is unknown; there are ${known.join(', ')}`);
  return value;
}

function positive(flag, value) {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new WrongArgument(`--${flag} '${value}' is no whole number above 0`);
  return number;
}

/** What the command line asks for. @throws WrongArgument */
function wishes() {
  let values;
  try {
    ({ values } = parseArgs({ options: OPTIONS }));
  } catch (error) {
    throw new WrongArgument(error.message);
  }
  const list = (flag, known) => values[flag].split(',').map((name) => oneOf(flag, name, known));
  return {
    adapter: oneOf('adapter', values.adapter, ADAPTERS),
    workloads: list('workloads', Object.keys(WORKLOADS)),
    peers: list('peers', PEERS),
    rounds: positive('rounds', values.rounds),
    timeout: positive('timeout', values.timeout),
    out: values.out,
    referencesOnly: values['references-only'],
  };
}

const say = (text) => process.stderr.write(`${text}\n`);

function progress(name) {
  return (peer, { status, error, firstSeconds, reason }) => {
    const known = status === 'timed' ? 'right' : status;
    const numbers =
      error === undefined ? reason : `error ${error.toExponential(1)}, first run ${firstSeconds.toFixed(1)} s`;
    say(`${name}: ${peer} ${known}, ${numbers}`);
  };
}

async function main() {
  const { adapter, workloads, peers, rounds, timeout, out, referencesOnly } = wishes();
  await checkOutput('--out', out, { folder: true });
  const path = (ending) => join(out, `peers-${adapter}.${ending}`);
  const [{ model }] = cpus();
  const machine = `${cpus().length} x ${model}, Node ${process.version}`;
  let report = { adapter, machine, workloads: [] };
  if (existsSync(path('json'))) {
    const earlier = JSON.parse(readFileSync(path('json'), 'utf8'));
    if (earlier.machine === machine) report = earlier;
    else say(`${path('json')} is of another machine (${earlier.machine}) and is replaced`);
  }
  for (const name of workloads) {
    const workload = WORKLOADS[name];
    say(`${name}: inputs and float64 reference`);
    const inputs = inputsOf(workload);
    const expected = await keptReference(name, workload, inputs);
    if (referencesOnly) continue;
    const task = { workload, inputs, expected, adapter, timeout, rounds, onProgress: progress(name) };
    const results = await measure(peers, task);
    const date = new Date().toISOString().slice(0, 10);
    report = withWorkload(report, { name, workload, date, rounds, results }, Object.keys(WORKLOADS));
    await writeText(path('json'), `${JSON.stringify(report, null, 1)}\n`);
    await writeText(path('md'), `${markdown(report, PEERS)}\n`);
  }
  if (referencesOnly) return;
  process.stdout.write(`${overview(report, PEERS)}\n`);
  for (const line of reasons(report)) say(line);
  const own = report.workloads.filter(({ name }) => workloads.includes(name)).map(({ results }) => results.odelt);
  if (own.some((result) => result && result.status !== 'timed')) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  say(error.hint ? `${error.message}\n${error.hint}` : error.message);
  process.exitCode = error instanceof WrongArgument || error.code === 'config' ? 2 : 1;
}
