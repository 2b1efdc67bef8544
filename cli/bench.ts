/** `odelt bench`: `kernels` checks and times the kernels on an adapter, or on two in turn; `memory` is in cli/bench-memory.ts. */
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { formatBench, runBench } from '../bench/main.ts';
import { adapterChoice } from '../engine/adapters.node.ts';
import { createNodeEngine } from '../engine/engine.node.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { checkOutput, writeText } from '../formats/files.node.ts';
import { addBenchMemory } from './bench-memory.ts';
import { interruptSignal } from './ends.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { number } from './session.node.ts';

interface BenchFlags {
  filter?: string;
  adapter?: string;
  against?: string;
  rounds: number;
  note?: string;
  save?: string;
  json?: boolean;
}

const PLAIN = 'no-robustness';

export function addBench(command: Command): void {
  addBenchMemory(command);
  command
    .command('kernels')
    .description('check the kernels that take time against float64, then time them')
    .option('--filter <text>', 'only kernels whose name contains this')
    .option('--adapter <name>', `auto, gpu, lavapipe or swiftshader; add /${PLAIN} to leave out Dawn's bounds checks`)
    .option('--against <name>', 'a second adapter, measured in turn with the first')
    .option('--rounds <n>', 'timed submissions of each kernel', number('--rounds', { integer: true, min: 3 }), 9)
    .option('--note <text>', 'a remark to put into the report')
    .option('--save <folder>', 'also write ADAPTER.json and ADAPTER.md there')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Times are the median and quartiles of submissions of at least 10 ms. "cold" is what the first run took
longer than later ones, compiling included, with Mesa's shader cache off.

Examples:
  odelt bench kernels --filter linear
  odelt bench kernels --adapter swiftshader --against swiftshader/${PLAIN}`,
    )
    .action((flags: BenchFlags) => bench(flags));
}

async function bench(flags: BenchFlags): Promise<void> {
  const signal = interruptSignal();
  if (flags.save !== undefined) await checkOutput('--save', flags.save, { folder: true });
  // Before the driver loads: else "cold" would measure its cache on disk.
  process.env.MESA_SHADER_CACHE_DISABLE ??= 'true';
  const specs = [flags.adapter ?? adapterChoice(undefined), ...(flags.against === undefined ? [] : [flags.against])];
  const subjects: { name: string; engine: Engine }[] = [];
  const line = new ProgressLine();
  try {
    for (const spec of specs) subjects.push({ name: spec, engine: await openSubject(spec) });
    const report = await runBench(subjects, {
      filter: flags.filter,
      rounds: flags.rounds,
      note: flags.note,
      // On a CPU adapter whatever else runs takes its cores: the load belongs to the figures.
      machine: `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, load ${loadavg()[0]?.toFixed(1)} before, Node ${process.version}`,
      signal,
      onCase: (text) => line.update(text, true),
    });
    line.end();
    if (flags.save !== undefined) {
      const name = report.subjects.map(({ adapter }) => adapter.kind).join('-');
      const title = `# Kernels on ${report.subjects.map(({ adapter }) => adapter.kind).join(' and ')}\n\n`;
      await writeText(join(flags.save, `${name}.json`), `${JSON.stringify(report, null, 1)}\n`);
      await writeText(join(flags.save, `${name}.md`), `${title}${formatBench(report)}\n`);
      log(`wrote ${join(flags.save, name)}.json and .md`);
    }
    if (flags.json) printJson(report);
    else print(formatBench(report));
  } finally {
    line.end();
    for (const { engine } of subjects) engine.dispose();
  }
}

async function openSubject(spec: string): Promise<Engine> {
  const [name, option, ...more] = spec.split('/');
  if (more.length > 0 || (option !== undefined && option !== PLAIN)) {
    throw new ConfigError(`adapter '${spec}' is not understood`, { hint: `write a name, or a name and /${PLAIN}` });
  }
  const { engine } = await createNodeEngine({
    adapter: adapterChoice(name),
    disableRobustness: option === PLAIN,
    onError: () => {},
  });
  return engine;
}
