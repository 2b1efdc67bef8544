/** `odelt bench memory`: what sampling takes of GPU memory, per number of blocks and option, as a table and as a picture. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import {
  estimateMemory,
  formatMemory,
  type Measured,
  type MemoryBench,
  type MemoryRow,
  type MemorySetting,
  measureMemory,
  memoryDocument,
  memorySettings,
  settingName,
} from '../bench/memory.bench.ts';
import { InterruptedError, OdeltError } from '../engine/errors.ts';
import { checkOutput, writeText } from '../formats/files.node.ts';
import { plotMemory } from '../pictures/memory-plot.ts';
import { runChild, saidBy } from './child.node.ts';
import { interruptSignal } from './ends.node.ts';
import { describedModel } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { FailedResult } from './report.node.ts';
import { number, openSession } from './session.node.ts';

interface MemoryFlags {
  preset: string;
  model?: string;
  batch: number;
  steps: number;
  only?: string;
  run?: boolean;
  measure?: boolean;
  adapter?: string;
  save?: string;
  json?: boolean;
}

export function addBenchMemory(bench: Command): void {
  bench
    .command('memory')
    .description('GPU memory of sampling, for every number of blocks and every way to hold the weights')
    .option('--preset <name>', 'model: tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2', 'dit-b/2')
    .option('--model <path>', 'a model file, or a description of one (.json), instead of a preset; weights stay random')
    .option('--batch <n>', 'samples computed at once', number('--batch', { integer: true, min: 1, max: 2 ** 16 }), 1)
    .option('--steps <T>', 'Euler steps', number('--steps', { integer: true, min: 1 }), 1)
    .option('--only <text>', 'only settings whose name contains this, e.g. "L=4 " or "L=12 f16 + ahead"')
    .option('--run', 'sample, too, each setting in a process of its own, and compare with the estimate')
    .option('--measure', 'measure the one setting that --only names, in this process (what --run starts)')
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--save <folder>', 'also write memory-MODEL.svg, .json and .md there')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Without --run nothing is computed: the same code runs on a device that only counts. Copies of tensors that lavapipe
reads faster ('mirrors' in memory reports) are left out, as they are where memory is limited.

Examples:
  odelt bench memory --preset dit-xl/2
  odelt bench memory --run --steps 4 --only "f16 + ahead" --adapter lavapipe`,
    )
    .action((flags: MemoryFlags) => (flags.measure ? measure(flags) : benchMemory(flags)));
}

async function benchMemory(flags: MemoryFlags): Promise<void> {
  const signal = interruptSignal();
  if (flags.save !== undefined) await checkOutput('--save', flags.save, { folder: true });
  const { name, config } = await describedModel(flags);
  const settings = memorySettings(config, flags.only);
  const { engine, adapter } = await openWithoutMirrors(flags);
  const line = new ProgressLine();
  try {
    const estimated: MemoryRow[] = [];
    for (const setting of settings) estimated.push(await estimateMemory(engine, config, setting, flags));
    const rows: MemoryRow[] = [];
    for (const [i, row] of estimated.entries()) {
      if (flags.run) line.update(`${settingName(settings[i]!)} (${i + 1} of ${settings.length})`, true);
      const measured = flags.run ? await measureApart(flags, settings[i]!, signal) : undefined;
      if (signal.aborted) {
        throw new InterruptedError(`measuring was interrupted after ${i} of ${settings.length} settings`);
      }
      rows.push(measured ? { ...row, measured } : row);
    }
    line.end();
    const { name: device, driver } = adapter.adapter;
    const machine = `${device}, ${driver || 'driver unknown'}, ${new Date().toISOString().slice(0, 10)}`;
    const report: MemoryBench = { model: name, config, batch: flags.batch, steps: flags.steps, machine, rows };
    if (flags.save !== undefined) await save(flags.save, report);
    if (!flags.json) print(formatMemory(report));
    const wrong = rows.map(wrongEstimate).find((error) => error !== undefined);
    if (wrong) throw new FailedResult(report, wrong);
    if (flags.json) printJson(report);
  } finally {
    line.end();
    engine.dispose();
  }
}

/** What a model takes on any adapter: mirrors are for speed, on one of them, and can be left out. */
async function openWithoutMirrors({ adapter }: MemoryFlags) {
  const session = await openSession(adapter);
  session.engine.mirrors = false;
  return session;
}

/** Runs this command again for one setting, as only a fresh process has an honest resident set; undefined when interrupted. */
async function measureApart(
  flags: MemoryFlags,
  setting: MemorySetting,
  signal: AbortSignal,
): Promise<Measured | undefined> {
  const model = flags.model === undefined ? ['--preset', flags.preset] : ['--model', flags.model];
  const adapter = flags.adapter === undefined ? [] : ['--adapter', flags.adapter];
  const size = ['--batch', String(flags.batch), '--steps', String(flags.steps)];
  const script = ['--expose-gc', process.argv[1]!, 'bench', 'memory', '--measure', '--only', settingName(setting)];
  const child = await runChild(process.execPath, [...script, ...model, ...size, ...adapter], { signal });
  if (child.end === 'interrupted') return undefined;
  if (child.code === 0) return JSON.parse(child.stdout) as Measured;
  throw new OdeltError('measure', `measuring ${settingName(setting)} failed`, { details: saidBy(child) || undefined });
}

async function measure(flags: MemoryFlags): Promise<void> {
  const { config } = await describedModel(flags);
  const [setting] = memorySettings(config, flags.only);
  const { engine } = await openWithoutMirrors(flags);
  const residentBefore = residentSet();
  const measured = await measureMemory(engine, config, setting!, flags, interruptSignal());
  const resident = residentSet();
  const driver = driverBytes();
  engine.dispose();
  printJson({ ...measured, residentBefore, resident, driver } satisfies Measured);
}

/** Without garbage, where Node was started with --expose-gc. */
function residentSet(): number {
  globalThis.gc?.();
  return process.memoryUsage().rss;
}

/** What NVIDIA's driver says that this process holds; undefined where there is none to ask, or it does not tell. */
function driverBytes(): number | undefined {
  try {
    const query = ['--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'];
    const lines = execFileSync('nvidia-smi', query, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const own = lines.split('\n').find((text) => Number.parseInt(text, 10) === process.pid);
    const mebibytes = Number(own?.split(',')[1]);
    return Number.isFinite(mebibytes) ? mebibytes * 2 ** 20 : undefined;
  } catch {
    return undefined;
  }
}

/** The error for a row where what was allocated is not what was estimated. */
function wrongEstimate({ blocks, option, peak, total, measured }: MemoryRow): OdeltError | undefined {
  if (!measured || (measured.peak === peak && measured.live === total)) return undefined;
  return new OdeltError(
    'estimate',
    `L=${blocks} ${option}: estimated ${peak} bytes at most and ${total} after, allocated ${measured.peak} and ${measured.live}`,
    { hint: 'this is a bug: please report it' },
  );
}

async function save(folder: string, report: MemoryBench): Promise<void> {
  const name = join(folder, `memory-${report.model.replaceAll('/', '')}`);
  await writeText(`${name}.svg`, plotMemory(report));
  await writeText(`${name}.json`, `${JSON.stringify(report, null, 1)}\n`);
  await writeText(`${name}.md`, memoryDocument(report));
  log(`wrote ${name}.svg, .json and .md`);
}
