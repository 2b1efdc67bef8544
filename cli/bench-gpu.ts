/** `odelt bench gpu`: everything worth knowing of a GPU, in one command of at most eight minutes that can be interrupted and goes on. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { throwIfAborted } from '../engine/abort.ts';
import type { AdapterDescription } from '../engine/device.ts';
import { ConfigError, InterruptedError, OdeltError, UnsupportedError } from '../engine/errors.ts';
import { checkOutput, writeText } from '../formats/files.node.ts';
import { shippedVersion } from '../formats/shipped.node.ts';
import { checkCase } from '../kernels/check.ts';
import { contracts } from '../kernels/registry.ts';
import { preset } from '../model/config.ts';
import { paramLayout } from '../model/params.ts';
import type { Tuned } from '../tuning/tune.ts';
import { runChild } from './child.node.ts';
import { interruptSignal } from './ends.node.ts';
import { formatGpuReport, gatherReport } from './gpu-report.ts';
import { duration, log, ProgressLine, print, printJson } from './output.node.ts';
import { FailedResult } from './report.node.ts';
import { number, openSession } from './session.node.ts';
import { runStages, type Stage, type StageRecord, stageRecords } from './stages.node.ts';

interface GpuFlags {
  adapter?: string;
  out: string;
  preset?: string;
  seconds?: number;
  quick?: boolean;
  only?: string;
  json?: boolean;
}

export function addBenchGpu(bench: Command): void {
  bench
    .command('gpu')
    .description('everything worth knowing of a GPU, within eight minutes; running it again goes on')
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--out <folder>', 'where to write, in a folder named for the adapter', join('out', 'gpu'))
    .option('--preset <name>', 'the model to measure (default: dit-b/2 on a GPU, else tiny)')
    .option(
      '--seconds <n>',
      'for all stages together (default: what they may take: eight minutes, for a larger model more)',
      number('--seconds', { min: 10 }),
    )
    .option('--quick', 'small sizes and few rounds: whether everything runs, not how fast')
    .option('--only <names>', 'only these stages, such as info,verify')
    .option('--json', 'print the report as one JSON document')
    .addHelpText(
      'after',
      `
Stages: ${STAGES.join(', ')}; tune not with --quick, the
last two on GPUs alone. One that fails or runs out of time is recorded as
such, and the others go on. What is done is not done again, unless the version or a flag has changed; tuning
that its time did not suffice for is unfinished, and goes on at the next run.
The report is report.md and report.json; paths and names of users are taken out of all that is written.`,
    )
    .action(benchGpu);
  bench
    .command('check', { hidden: true })
    .description('check every kernel against float64, on all cases of its contract (what bench gpu starts)')
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--filter <text>', 'only kernels whose name contains this')
    .action(check);
}

const STAGES = ['info', 'verify', 'check', 'kernels', 'tune', 'model', 'memory', 'tune-square', 'square'] as const;

async function benchGpu(flags: GpuFlags): Promise<void> {
  const signal = interruptSignal('stopping; what is done stays, and the same command goes on');
  await checkOutput('--out', flags.out, { folder: true });
  const info = await describe(flags, signal);
  const folder = join(flags.out, folderName(info));
  const stages = stagesOf(flags, info, folder);
  const { seconds = stages.reduce((sum, stage) => sum + stage.seconds, 0) } = flags;
  const line = new ProgressLine();
  const onStage = ({ name, title, seconds }: Stage, record?: StageRecord) => {
    if (!record) return line.update(`${name}: ${title} (at most ${duration(seconds)})`, true);
    line.end();
    log(`${name}: ${record.state} after ${duration(record.seconds)}${record.why ? `: ${record.why}` : ''}`);
  };
  const version = shippedVersion();
  let stopped: InterruptedError | undefined;
  try {
    await runStages(folder, stages, { seconds, version, signal, onStage });
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    stopped = error;
  }
  line.end();
  const date = new Date().toISOString().slice(0, 10);
  const records = await stageRecords(folder);
  const report = await gatherReport(folder, { odelt: version, date, quick: flags.quick ?? false, stages: records });
  const text = await formatGpuReport(folder, report);
  await writeText(join(folder, 'report.json'), `${JSON.stringify(report, null, 1)}\n`);
  await writeText(join(folder, 'report.md'), text);
  log(`wrote ${join(folder, 'report.md')} and report.json`);
  if (stopped) throw stopped;
  if (!flags.json) print(text);
  const open = records.filter(({ state }) => state !== 'done' && state !== 'unfinished');
  const unfinished = records.filter(({ state }) => state === 'unfinished').map(({ name }) => name);
  if (unfinished.length > 0) log(`the same command goes on with ${unfinished.join(' and ')}`);
  if (open.length > 0) {
    const error = new OdeltError(
      'stages',
      `${open.length} of ${records.length} stages did not end well: ${open.map((r) => `${r.name} (${r.state})`).join(', ')}`,
      { hint: 'the report holds the others; the same command tries these again' },
    );
    throw new FailedResult(report, error);
  }
  if (flags.json) printJson(report);
}

/** The adapter, by a process of its own: a driver that crashes must not take this one along. @throws UnsupportedError, InterruptedError. */
async function describe({ adapter }: GpuFlags, signal: AbortSignal): Promise<AdapterDescription> {
  const args = [process.argv[1]!, 'info', '--json', ...(adapter === undefined ? [] : ['--adapter', adapter])];
  const { end, code, stdout, stderr } = await runChild(process.execPath, args, { seconds: 60, signal });
  if (end === 'interrupted') throw new InterruptedError();
  if (code !== 0) {
    const why = end === 'timed out' ? 'the driver did not answer within 60 s' : stderr.trim().slice(-2000);
    throw new UnsupportedError('there is no adapter to measure', { details: why, hint: '`odelt info` says more' });
  }
  return (JSON.parse(stdout) as { adapter: AdapterDescription }).adapter;
}

/** A folder's name for an adapter: its words, in what every file system takes. */
export const folderName = ({ name, kind }: Pick<AdapterDescription, 'name' | 'kind'>): string => {
  const words = name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return `${words.slice(0, 60).replace(/^-+|-+$/g, '') || 'adapter'}${kind === 'gpu' ? '' : `-${kind}`}`;
};

/** What is to be run: this command's own others. Seconds add up to eight minutes, for larger models than DiT-B/2 to more. */
function stagesOf(flags: GpuFlags, info: AdapterDescription, folder: string): Stage[] {
  const { quick = false } = flags;
  const cli = process.argv[1]!;
  const adapter = flags.adapter === undefined ? [] : ['--adapter', flags.adapter];
  const name = flags.preset ?? (quick || info.kind !== 'gpu' ? 'tiny' : 'dit-b/2');
  const size = paramLayout(preset(name)).groups.reduce((sum, { length }) => sum + length, 0);
  /** Seconds that are enough for DiT-B/2 with its 130 million weights, for this model. */
  const scaled = (seconds: number) => Math.ceil(seconds * Math.max(1, size / 2e8));
  const ofModel = ['--preset', name];
  const rounds = quick ? ['--rounds', '3'] : [];
  const own = (name: string, title: string, seconds: number, ...args: readonly string[]): Stage => ({
    ...{ name, title, seconds, program: process.execPath },
    args: [cli, ...args],
  });
  const stage = (...[name, title, seconds, ...args]: Parameters<typeof own>) =>
    own(name, title, seconds, ...args, ...adapter);
  const save = (name: string) => ['--save', join(folder, name)];
  const small = quick ? ['--filter', 'layernorm'] : [];
  const model = quick ? ['--batch', '1', '--train-batch', info.kind === 'gpu' ? '8' : '0', '--no-first'] : [];
  const halves = ['--adapter', 'gpu/halves'];
  const tuneSquare = ['tune', '--square', '--json', '--batch', '1', '--budget', '60', ...halves];
  const squares = [
    'bench',
    'kernels',
    '--shapes',
    'square',
    '--json',
    '--tuning',
    'auto',
    ...halves,
    ...save('square'),
  ];
  const squareStages: Stage[] = [
    { ...own('tune-square', 'the best tile for large products', 75, ...tuneSquare), leaves: leftToTune },
    { ...own('square', 'large products, f32 and halves', 40, ...squares), follows: 'tune-square' },
  ];
  const tuneModel = ['tune', '--json', '--budget', '30', ...ofModel];
  const stages = [
    stage('info', 'the adapter, its limits and features', 20, 'info', '--json'),
    stage(
      'verify',
      'recorded results of the reference',
      65,
      'verify',
      '--json',
      ...(quick ? ['--only', 'a/forward'] : []),
    ),
    stage('check', 'every kernel against float64', 55, 'bench', 'check', ...small),
    stage(
      'kernels',
      'kernels, timed',
      70,
      'bench',
      'kernels',
      '--json',
      ...save('kernels'),
      ...['--html', join(folder, 'kernels.html')],
      ...rounds,
      ...small,
    ),
    ...(quick ? [] : [{ ...stage('tune', 'the best variant of each kernel', 45, ...tuneModel), leaves: leftToTune }]),
    stage(
      'model',
      'a whole model',
      scaled(75),
      'bench',
      'model',
      '--json',
      ...save('model'),
      ...ofModel,
      ...rounds,
      ...model,
    ),
    stage(
      'memory',
      'GPU memory of sampling',
      scaled(35),
      'bench',
      'memory',
      '--run',
      '--json',
      ...save('memory'),
      ...ofModel,
      ...memoryOf(quick),
    ),
    // 137 GFLOP each: no CPU should.
    ...(quick || info.kind !== 'gpu' ? [] : squareStages),
  ];
  if (flags.only === undefined) return stages;
  const wanted = flags.only.split(',');
  const names = stages.map(({ name }) => name);
  const unknown = wanted.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new ConfigError(`there is no stage '${unknown}'`, { hint: `there are ${names.join(', ')}` });
  return stages.filter(({ name }) => wanted.includes(name));
}

/** What the budget of `odelt tune` did not suffice for. */
function leftToTune(printed: unknown): string {
  const { left = [] } = printed as Partial<Tuned>;
  return left.length === 0 ? '' : `${left.length} ${left.length === 1 ? 'problem is' : 'problems are'} left to tune`;
}

const memoryOf = (quick: boolean): string[] => (quick ? ['--only', 'L=4 f32 + ahead'] : ['--steps', '4']);

async function check({ adapter, filter = '' }: { adapter?: string; filter?: string }): Promise<void> {
  const signal = interruptSignal();
  const { engine } = await openSession(adapter);
  const cases: { kernel: string; case: object; forward?: number; backward?: number; error?: string }[] = [];
  try {
    for (const c of contracts.filter(({ name }) => name.includes(filter))) {
      for (const k of c.cases) {
        throwIfAborted(signal);
        const found = await checkCase(engine, c, k).catch((error: unknown) => {
          if (error instanceof OdeltError && error.code === 'wrong-result') return { error: error.message };
          throw error;
        });
        cases.push({ kernel: c.name, case: k, ...found });
      }
    }
  } finally {
    engine.dispose();
  }
  const failed = cases.flatMap(({ error }) => (error === undefined ? [] : [error]));
  if (failed.length === 0) return printJson({ cases, failed });
  throw new FailedResult(
    { cases, failed },
    new OdeltError('wrong-result', `${failed.length} kernel cases are wrong`, { details: failed.join('\n') }),
  );
}
