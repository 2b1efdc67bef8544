/** `odelt bench`: `kernels` checks and times kernels, and says whether they became faster; `model`, `memory`, `gpu` and `cluster` are in files of their own. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseShapes, SHAPES } from '../bench/cases.ts';
import { formatBenchHtml } from '../bench/html.ts';
import type { Subject } from '../bench/kernels.bench.ts';
import { describeMachine } from '../bench/machine.node.ts';
import { type BenchOptions, runBench } from '../bench/main.ts';
import { formatBench } from '../bench/markdown.ts';
import { loadContracts, type OtherBuild, openBuild } from '../bench/modules.node.ts';
import { type BenchReport, parseReport } from '../bench/report.ts';
import { ADAPTER_CHOICES, adapterChoice } from '../engine/adapters.node.ts';
import { createNodeEngine } from '../engine/engine.node.ts';
import { ConfigError } from '../engine/errors.ts';
import { checkOutput, failAs, readRegular, writeText } from '../formats/files.node.ts';
import { addBenchCluster } from './bench-cluster.ts';
import { addBenchGpu } from './bench-gpu.ts';
import { addBenchMemory } from './bench-memory.ts';
import { addBenchModel } from './bench-model.ts';
import { interruptSignal } from './ends.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { adapterOptions, MODES_HELP, number, numbers, TUNING_HELP, tuneSession } from './session.node.ts';

interface BenchFlags {
  filter?: string;
  shapes: string;
  batches: string;
  contracts?: string;
  adapter?: string;
  tuning?: string;
  against?: string;
  forward?: boolean;
  rounds?: number;
  note?: string;
  save?: string;
  html?: string;
  json?: boolean;
}

export function addBench(command: Command): void {
  addBenchMemory(command);
  addBenchModel(command);
  addBenchGpu(command);
  addBenchCluster(command);
  command
    .command('kernels')
    .description('check the kernels that take time against float64, time them, and hold them against the ceilings')
    .option('--filter <text>', 'only kernels whose name contains this')
    .option(
      '--shapes <names>',
      `sizes to time: ${SHAPES.join(', ')} (s to xl: blocks of DiT-S/2 to XL/2; square: products of 4096 x 4096 matrices, f32 and halves; decoder: the layers of Stable Diffusion's and TAEF2's decoders for 256 pixels, with a table of what they take of a picture)`,
      'small,b',
    )
    .option('--forward', 'forward passes alone')
    .option('--batches <ns>', 'samples at once, for blocks', '1')
    .option('--contracts <module>', 'time the contracts that this module exports, after checking all their cases')
    .option('--adapter <name>', MODES_HELP)
    .option('--tuning <what>', TUNING_HELP)
    .option(
      '--against <what>',
      'what to compare with: a second adapter or another build (a folder such as dist/), measured in turn, or a file of --save',
    )
    .option(
      '--rounds <n>',
      'timed submissions of each kernel (default: 9, with --against a file 15, a build or adapter 28, fewer where they take long)',
      number('--rounds', { integer: true, min: 3 }),
    )
    .option('--note <text>', 'a remark to put into the report')
    .option('--save <folder>', 'also write ADAPTER.json and ADAPTER.md there')
    .option('--html <file>', 'also write the report with roofline plots as one HTML document')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Times are the median and quartiles of submissions of at least 10 ms, by the adapter's timestamps where they can
be trusted. "of the ceiling" is the share of what this adapter was measured to copy or to multiply and add, the
nearer of the two. "cold" is what the first run took longer than later ones, compiling included, with Mesa's
shader cache off.

Examples:
  odelt bench kernels --filter linear --html report.html
  odelt bench kernels --shapes xl --batches 1,4 --filter attention
  odelt bench kernels --shapes decoder --forward
  odelt bench kernels --shapes square --adapter gpu/halves
  odelt bench kernels --save before; odelt bench kernels --against before/lavapipe.json
  odelt bench kernels --tuning auto --against .
  odelt bench kernels --adapter swiftshader --against swiftshader/no-robustness`,
    )
    .action((flags: BenchFlags) => bench(flags));
}

const batchesOf = numbers('--batches', { integer: true, min: 1, max: 4096 });

async function bench(flags: BenchFlags): Promise<void> {
  const signal = interruptSignal();
  if (flags.save !== undefined) await checkOutput('--save', flags.save, { folder: true });
  if (flags.html !== undefined) await checkOutput('--html', flags.html);
  const shapes = parseShapes(flags.shapes.split(','));
  const batches = batchesOf(flags.batches);
  const against = flags.against === undefined ? null : await openBase(flags.against);
  const contracts = flags.contracts === undefined ? undefined : await loadContracts(flags.contracts);
  // Before the driver loads: else "cold" would measure its cache on disk.
  process.env.MESA_SHADER_CACHE_DISABLE ??= 'true';
  const adapter = flags.adapter ?? adapterChoice(undefined);
  const subjects: Subject[] = [];
  const line = new ProgressLine();
  try {
    subjects.push(await openSubject(adapter));
    await tuneSession(subjects[0]!, flags.tuning);
    if (against?.kind === 'adapter') subjects.push(await openSubject(flags.against!));
    if (against?.kind === 'build') subjects.push(await openOther(flags.against!, against.build, adapter));
    const options: BenchOptions = {
      ...describeMachine(),
      ...{ filter: flags.filter, shapes, batches, contracts, rounds: flags.rounds, note: flags.note, signal },
      forward: flags.forward ?? false,
      check: contracts !== undefined,
      saved: against?.kind === 'file' ? { name: flags.against!, report: against.report } : undefined,
      command: commandLine(process.argv.slice(2)),
      onCase: (text) => line.update(text, true),
    };
    const report = await runBench(subjects, options);
    line.end();
    if (flags.save !== undefined) await save(flags.save, report);
    if (flags.html !== undefined) {
      await writeText(flags.html, formatBenchHtml(report));
      log(`wrote ${flags.html}`);
    }
    if (flags.json) printJson(report);
    else print(formatBench(report));
  } finally {
    line.end();
    for (const { engine } of subjects) engine.dispose();
  }
}

async function save(folder: string, report: BenchReport): Promise<void> {
  const kinds = report.subjects.map(({ adapter }) => adapter.kind);
  const name = kinds.join('-');
  await writeText(join(folder, `${name}.json`), `${JSON.stringify(report, null, 1)}\n`);
  await writeText(join(folder, `${name}.md`), `# Kernels on ${kinds.join(' and ')}\n\n${formatBench(report)}\n`);
  log(`wrote ${join(folder, name)}.json and .md`);
}

/** The command as it can be typed again. */
const commandLine = (args: readonly string[]): string =>
  ['odelt', ...args]
    .map((word) => (/^[\w./,:=+@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
    .join(' ');

type Base =
  | { readonly kind: 'adapter' }
  | { readonly kind: 'build'; readonly build: OtherBuild }
  | { readonly kind: 'file'; readonly report: BenchReport };

/** What --against names: an adapter by its name, else a build's folder or a saved file by its path. */
async function openBase(what: string): Promise<Base> {
  const [name] = what.split('/');
  if (ADAPTER_CHOICES.some((known) => known === name) && !what.endsWith('.json')) return { kind: 'adapter' };
  const info = statSync(what, { throwIfNoEntry: false });
  if (!info) {
    throw new ConfigError(`--against '${what}' is no adapter, and there is no such file or folder`, {
      hint: `give ${ADAPTER_CHOICES.join(', ')}, the folder of another build, or a file that --save wrote`,
    });
  }
  if (info.isDirectory()) return { kind: 'build', build: await openBuild(what) };
  const bytes = await readRegular(what, { most: 2 ** 28, fail: failAs(ConfigError, what) });
  return { kind: 'file', report: parseReport(new TextDecoder().decode(bytes), `'${what}'`) };
}

async function openSubject(spec: string): Promise<Subject> {
  return { name: spec, engine: (await createNodeEngine(adapterOptions(spec))).engine };
}

/** Another build on the same adapter. Its errors are of classes of its own. @throws ConfigError. */
async function openOther(name: string, build: OtherBuild, adapter: string): Promise<Subject> {
  const { createEngine, prepareCase, contracts } = build;
  try {
    return { name, engine: await createEngine(adapterOptions(adapter)), prepareCase, contracts };
  } catch (error) {
    throw new ConfigError(
      `--against '${name}': that build finds no adapter: ${error instanceof Error ? error.message : error}`,
      {
        hint: 'leave the folder where it was built: it needs the node_modules beside it',
        cause: error,
      },
    );
  }
}
