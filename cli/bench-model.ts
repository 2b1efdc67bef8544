/** `odelt bench model`: a whole model on this adapter: blocks, evaluations, training, sampling, and how soon the first picture is there. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { timingOf } from '../bench/harness.ts';
import { describeMachine } from '../bench/machine.node.ts';
import {
  benchModel,
  defaultPairs,
  type FirstSamples,
  type ModelBench,
  type ModelBenchOptions,
  type Pair,
  patternSource,
} from '../bench/model.bench.ts';
import { formatModelBench } from '../bench/model-report.ts';
import { Tracer } from '../bench/trace.ts';
import { throwIfAborted } from '../engine/abort.ts';
import { describeAdapter } from '../engine/device.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, OdeltError } from '../engine/errors.ts';
import { checkOutput, writeText } from '../formats/files.node.ts';
import { checkLength, type ModelConfig } from '../model/config.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { interruptSignal } from './ends.node.ts';
import { type BenchedModel, benchedModel } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { number, numbers, openSession, TUNING_HELP, tuneSession } from './session.node.ts';

interface ModelFlags {
  preset?: string;
  model?: string;
  adapter?: string;
  tuning?: string;
  batch: readonly number[];
  trainBatch?: readonly number[];
  pairs?: readonly Pair[];
  rounds: number;
  first: boolean;
  one?: string;
  note?: string;
  save?: string;
  trace?: string;
  json?: boolean;
}

/** Processes for the first picture, of each kind. */
const FIRST_RUNS = 3;

export function addBenchModel(bench: Command): void {
  bench
    .command('model')
    .description(
      'a whole model: blocks, evaluations at every number of blocks, training steps, sampling; where time goes',
    )
    .option(
      '--preset <name>',
      'tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2 (default: dit-b/2 on a GPU, else tiny)',
    )
    .option('--model <path>', 'a model file, or a description of one (.json), instead of a preset')
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--tuning <what>', TUNING_HELP)
    .option('--batch <ns>', 'samples at once, of all but training', counts('--batch', 1), [1, 4])
    .option(
      '--train-batch <ns>',
      'samples of a training step; 0 leaves training out (default: 8, for tiny 8,16,32)',
      counts('--train-batch', 0),
    )
    .option('--pairs <TxLs>', 'steps and blocks of sampling, such as 1x4,16x12', parsePairs)
    .option('--rounds <n>', 'timed rounds of everything', number('--rounds', { integer: true, min: 3 }), 9)
    .option('--no-first', 'leave out the first picture of new processes')
    .option('--one <TxL>', 'sample twice, say when, and nothing else (what is started for the first picture)')
    .option('--note <text>', 'a remark to put into the report')
    .option('--save <folder>', 'also write model-MODEL-ADAPTER.json and .md there')
    .option('--trace <file>', 'also write what host and GPU did, for ui.perfetto.dev or chrome://tracing')
    .option('--json', 'print one JSON document instead of tables')
    .addHelpText(
      'after',
      `
Weights are arbitrary unless --model is given. Everything is timed in turn, round by round. GFLOP/s count the
arithmetic of the operations, GB/s every bound element once. The first picture is drawn by processes of their own.

Examples:
  odelt bench model --preset tiny --batch 1,16 --rounds 5
  odelt bench model --preset dit-xl/2 --train-batch 0 --trace trace.json`,
    )
    .action((flags: ModelFlags) => (flags.one === undefined ? run(flags) : one(flags)));
}

async function run(flags: ModelFlags): Promise<void> {
  const signal = interruptSignal();
  if (flags.save !== undefined) await checkOutput('--save', flags.save, { folder: true });
  if (flags.trace !== undefined) await checkOutput('--trace', flags.trace);
  const { engine } = await openSession(flags.adapter);
  const line = new ProgressLine();
  let model: BenchedModel | undefined;
  try {
    await tuneSession({ engine }, flags.tuning);
    model = await benchedModel({ ...flags, preset: flags.preset ?? defaultPreset(engine) }, signal);
    const { name, config } = model;
    for (const { blocks } of flags.pairs ?? []) checkLength(config, blocks);
    const tracer = flags.trace === undefined ? undefined : new Tracer(engine);
    /** After each part, so that one who is stopped before the last has the others. */
    const save = async (report: ModelBench & { first?: FirstSamples }) => {
      if (flags.save === undefined) return;
      const path = join(flags.save, `model-${name.replaceAll('/', '')}-${report.adapter.kind}`);
      await writeText(`${path}.json`, `${JSON.stringify(report, null, 1)}\n`);
      await writeText(`${path}.md`, `# ${name}\n\n${formatModelBench(report)}\n`);
      return path;
    };
    const options: ModelBenchOptions = {
      name,
      batches: flags.batch,
      trainBatches: (flags.trainBatch ?? (name === 'tiny' ? [8, 16, 32] : [8])).filter((n) => n > 0),
      pairs: flags.pairs,
      rounds: flags.rounds,
      source: model.source,
      tracer,
      signal,
      note: flags.note,
      machine: `${describeMachine().machine}, Node ${process.version}`,
      onPart: (text) => line.update(text, true),
      onFound: async (found) => void (await save(found)),
    };
    const bench = await benchModel(engine, config, options);
    const trace = tracer?.finish({ model: name, adapter: bench.adapter.name, driver: bench.adapter.driver });
    // The children want the adapter for themselves.
    engine.dispose();
    const first = flags.first ? await firstSamples(flags, config, name, signal, line) : undefined;
    line.end();
    const report = { ...bench, ...(first ? { first } : {}) };
    if (flags.trace !== undefined) {
      await writeText(flags.trace, JSON.stringify(trace));
      log(`wrote ${flags.trace}`);
    }
    const path = await save(report);
    if (path !== undefined) log(`wrote ${path}.json and .md`);
    if (flags.json) printJson(report);
    else print(formatModelBench(report));
  } finally {
    line.end();
    engine.dispose();
    await model?.close();
  }
}

const defaultPreset = (engine: Engine): string => (engine.adapterClass === 'gpu' ? 'dit-b/2' : 'tiny');

const counts = (name: string, min: number) => numbers(name, { integer: true, min, max: 2 ** 16 });

function parsePairs(text: string): Pair[] {
  return text.split(',').map((pair) => {
    const [, steps, blocks] = /^(\d+)x(\d+)$/.exec(pair) ?? [];
    const [T, L] = [Number(steps), Number(blocks)];
    if (Number.isInteger(Math.log2(T)) && T >= 1 && L >= 1) return { steps: T, blocks: L };
    throw new ConfigError(`'${pair}' is no pair of steps and blocks`, {
      hint: 'write a power of two, x, and a number of blocks: 4x12',
    });
  });
}

/** Variables that keep drivers from using shaders compiled earlier. Metal's and Direct3D's own caches have none. */
const NO_SHADER_CACHE = { MESA_SHADER_CACHE_DISABLE: 'true', __GL_SHADER_DISK_CACHE: '0' };

interface OneSample {
  readonly first: number;
  readonly again: number;
}

/** First pictures of new processes, without and with the shader cache of the driver. */
async function firstSamples(
  flags: ModelFlags,
  config: ModelConfig,
  name: string,
  signal: AbortSignal,
  line: ProgressLine,
): Promise<FirstSamples> {
  const pair = flags.pairs?.[0] ?? defaultPairs(config)[0]!;
  const which = flags.model === undefined ? ['--preset', name] : ['--model', flags.model];
  const given = (flag: string, value: string | undefined) => (value === undefined ? [] : [flag, value]);
  const same = [...given('--adapter', flags.adapter), ...given('--tuning', flags.tuning)];
  const args = [process.argv[1]!, 'bench', 'model', '--one', `${pair.steps}x${pair.blocks}`, ...which, ...same];
  const start = async (cached: boolean): Promise<OneSample> => {
    line.update(`first picture of a new process, ${cached ? 'with' : 'without'} a shader cache`, true);
    const { MESA_SHADER_CACHE_DISABLE: _, __GL_SHADER_DISK_CACHE: __, ...environment } = process.env;
    const env = cached ? environment : { ...environment, ...NO_SHADER_CACHE };
    try {
      const { stdout } = await promisify(execFile)(process.execPath, args, { signal, env });
      return JSON.parse(stdout) as OneSample;
    } catch (cause) {
      throwIfAborted(signal, 'the benchmark was interrupted');
      const said = (cause as { stderr?: string }).stderr?.trim();
      throw new OdeltError('measure', 'the first picture of a new process failed', {
        details: said || undefined,
        cause,
      });
    }
  };
  const several = async (cached: boolean) => {
    const runs: OneSample[] = [];
    for (let i = 0; i < FIRST_RUNS; i++) runs.push(await start(cached));
    return runs;
  };
  const cold = await several(false);
  await start(true); // fills the cache
  const warm = await several(true);
  const median = (values: readonly number[]) => timingOf(values).median;
  return {
    ...pair,
    runs: FIRST_RUNS,
    cold: median(cold.map((r) => r.first)),
    warm: median(warm.map((r) => r.first)),
    again: median(warm.map((r) => r.again)),
    note:
      process.platform === 'linux'
        ? ''
        : "This system's driver keeps shaders compiled earlier; nothing can tell it not to, so 'without' is only the very first run.",
  };
}

/** Samples twice and prints seconds: the first since the process was started, the second by itself. */
async function one(flags: ModelFlags): Promise<void> {
  const signal = interruptSignal();
  const { engine } = await openSession(flags.adapter);
  await tuneSession({ engine }, flags.tuning);
  const {
    config,
    source = patternSource(config),
    close,
  } = await benchedModel({ ...flags, preset: flags.preset ?? defaultPreset(engine) }, signal);
  const [{ steps, blocks }] = parsePairs(flags.one!) as [Pair];
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 1 });
  const labels = usualLabels(config, 1);
  await sampler.sample({ labels, steps, blocks, signal });
  const first = performance.now() / 1000;
  await sampler.sample({ labels, steps, blocks, signal });
  const again = performance.now() / 1000 - first;
  await close();
  printJson({ first, again, adapter: describeAdapter(engine.device).name });
  engine.dispose();
}
