/** `odelt tune`: finds the fastest variants of kernels for a model on an adapter, and keeps them. */
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DeviceLostError, OdeltError, TuningError } from '../engine/errors.ts';
import type { TuningChoice } from '../engine/tuning.ts';
import { checkOutput } from '../formats/files.node.ts';
import { openAutoencoder } from '../model/autoencoder/open.node.ts';
import { preset } from '../model/config.ts';
import { ACTIVATIONS, type Activations } from '../model/dit.ts';
import { PRECISIONS, type Precision } from '../model/weights/quantize.ts';
import { checkOneOf } from '../sampling/request.ts';
import { problemText, type TuningProblem } from '../tuning/problem.ts';
import { autoencoderProblems, problemsOf, squareProblems } from '../tuning/problems.ts';
import { formatRejected, formatResults, summary } from '../tuning/report.ts';
import { fileStore, writeTable } from '../tuning/store.node.ts';
import {
  adapterText,
  mergeResults,
  type TuningResult,
  type TuningTable,
  tableOf,
  tunedAdapter,
} from '../tuning/table.ts';
import { tune } from '../tuning/tune.ts';
import { interruptSignal } from './ends.node.ts';
import { openModel } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { FailedResult } from './report.node.ts';
import { INDEX_HELP, MODES_HELP, number, openSession, parseIndex } from './session.node.ts';

interface TuneFlags {
  model?: string;
  preset?: string;
  autoencoder?: string;
  square?: boolean;
  precision?: Precision;
  activations?: Activations;
  batch: readonly number[];
  adapter?: string;
  adapterIndex?: number;
  only?: string;
  budget?: number;
  again?: boolean;
  out?: string;
  list?: boolean;
  json?: boolean;
}

export function addTune(command: Command): void {
  command
    .option('--model <path>', 'tune for this .safetensors file, its URL, checkpoint or run folder')
    .option('--preset <name>', 'or for a preset: tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2 (default tiny)')
    .option('--autoencoder <path>', 'or for an autoencoder of latents: its file or folder, encoding and decoding')
    .option('--square', 'or for products of 4096 x 4096 matrices, f32 and halves (bench kernels --shapes square)')
    .option('--precision <p>', 'weights on the GPU while sampling: f32, f16 or int8 (default f32)')
    .option('--activations <a>', 'activations on the GPU while sampling: f32 or f16 (default f32)')
    .option('--batch <list>', 'numbers of samples to time; the choice is one for all', parseBatches, [1, 16])
    .option('--adapter <name>', MODES_HELP)
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--only <text>', 'only problems whose family or shape contains this, e.g. product or "layout NT"')
    .option(
      '--budget <seconds>',
      'try no further variant after this time, but for the first; run again to go on',
      number('--budget', { min: 0 }),
    )
    .option('--again', 'measure anew what is known from before, or replace a file that is damaged')
    .option('--out <file>', "also write the adapter's table there, for --tuning FILE")
    .option('--list', 'show what is kept, for all adapters, and measure nothing')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      `
Matrix products and other operations have several variants. Which is the fastest
depends on the adapter and the sizes; without tuning one is taken that is known to
be good on adapters of its kind. This command finds the operations and sizes of a
model (sampling at every number of blocks, and training), and for each of them
  1. checks every variant against float64: one that computes wrong is listed, and
     never used;
  2. times them in turn; those that take twice as long as the fastest drop out;
  3. takes the fastest if it is faster than the usual one by more than the noise:
     the whole 99 % interval of the ratio lies below 0.97.
Results are kept as they come, in the user's cache folder, per adapter, driver and
version of the kernels. Ctrl-C loses nothing but the problem at hand, --budget not
even that; the next run goes on from there. Let nothing else run on the machine meanwhile.

They are used where you ask for it: odelt sample --tuning auto (or FILE), and
likewise odelt train, whose run folder remembers them. Pictures then differ in the
last bits from those without.

Examples:
  odelt tune --model runs/first
  odelt tune --preset dit-b/2 --only product --budget 600
  odelt tune --autoencoder vae.safetensors --batch 1
  odelt tune --list`,
    )
    .action((flags: TuneFlags) => (flags.list ? list(flags) : run(flags)));
}

function parseBatches(text: string): number[] {
  const batches = text.split(',').map(Number);
  if (batches.every((n) => Number.isInteger(n) && n > 0 && n <= 2 ** 16)) return batches;
  throw new ConfigError(`--batch is '${text}'; it must be a list of positive integers`, { hint: 'such as 1,16' });
}

async function list({ json }: TuneFlags): Promise<void> {
  const store = fileStore();
  const found = await store.list();
  const told = found.map(({ path, table }) =>
    table instanceof TuningError
      ? { path, error: table.message }
      : { path, adapter: table.adapter, results: table.results },
  );
  if (json) return printJson(told);
  if (told.length === 0) return print(`Nothing is kept in ${store.folder}.`);
  for (const { path, error, adapter, results } of told) {
    print(adapter ? `${adapterText(adapter)}: ${results.length} problems, in ${path}` : `${error}`);
    if (results) print(`${formatResults(results)}\n`);
  }
}

async function run(flags: TuneFlags): Promise<void> {
  const given = (['model', 'preset', 'autoencoder', 'square'] as const).filter((flag) => flags[flag] !== undefined);
  if (given.length > 1) {
    throw new ConfigError(`--${given[0]} and --${given[1]} exclude each other`, { hint: 'give one of them' });
  }
  checkOneOf('--precision', flags.precision, PRECISIONS);
  checkOneOf('--activations', flags.activations, ACTIVATIONS);
  if (flags.out !== undefined) await checkOutput('--out', flags.out);
  const signal = interruptSignal('stopping after this variant');
  const problemsOn = await described(flags, signal);
  const { engine } = await openSession(flags.adapter, flags);
  const line = new ProgressLine();
  try {
    const adapter = tunedAdapter(engine);
    const store = fileStore();
    await checkOutput('the cache of tuning', store.path(adapter));
    const before = await known(store, adapter, flags.again);
    line.update('recording the model');
    const problems = chosen(await problemsOn(engine), flags.only);
    line.end();
    log(`${adapterText(adapter)}: ${problems.length} problems`);
    let { results } = before;
    // What did not come back from its trial stands in the table as it was left.
    let suspects = before.suspects;
    let trying = false;
    const keep = async (...more: TuningChoice[]) => {
      trying = more.length > 0;
      await store.put(tableOf(adapter, results, [...suspects, ...more]));
    };
    const tuned = await tune(engine, problems, {
      ...{ batches: flags.batch, budget: flags.budget, signal },
      ...(flags.again ? {} : { known: before.results, suspects }),
      onTry: (attempt) => keep(attempt),
      onProgress: ({ problem, index, total, doing }) =>
        line.update(`${index + 1}/${total} ${problemText(problem)}: ${doing}`),
      async onResult(result) {
        results = mergeResults(results, [result]);
        const isIn = ({ variant }: TuningChoice) => result.rejected.some((r) => r.variant === variant);
        suspects = suspects.filter((s) => !(problemText(s) === problemText(result) && isIn(s)));
        await keep();
      },
    })
      .catch(async (error: unknown) => {
        if (trying && !(error instanceof DeviceLostError)) await keep();
        throw error;
      })
      .finally(() => line.end());
    if (trying) await keep();
    const table = tableOf(adapter, results);
    if (flags.out !== undefined) await writeTable(flags.out, table);
    if (!flags.json) {
      print([formatResults(tuned.results), formatRejected(tuned.results), summary(tuned)].filter(Boolean).join('\n\n'));
      log(`kept in ${store.path(adapter)}${flags.out === undefined ? '' : ` and ${flags.out}`}`);
    }
    const asked = new Set(problems.map(problemText));
    const kept = results.filter((result) => asked.has(problemText(result)));
    const report = { adapter, ...tuned, kept, file: store.path(adapter) };
    const wrong = wrongReviewed(tuned.results);
    if (wrong) throw new FailedResult(report, wrong);
    if (flags.json) printJson(report);
  } finally {
    line.end();
    engine.dispose();
  }
}

/** Reads what is to be tuned; gives its problems on an engine. */
async function described(flags: TuneFlags, signal: AbortSignal): Promise<(engine: Engine) => Promise<TuningProblem[]>> {
  const { model, preset: name = 'tiny', autoencoder, square, precision, activations } = flags;
  if (square) return squareProblems;
  if (autoencoder !== undefined) {
    if (precision === 'int8' || activations === 'f16') {
      const what = precision === 'int8' ? '--precision int8' : '--activations f16';
      throw new ConfigError(`${what} is not for autoencoders`, {
        hint: 'f32 and f16 weights are, with f32 activations',
      });
    }
    const { network } = await openAutoencoder(autoencoder);
    return (engine) => autoencoderProblems(engine, network, { precision, signal });
  }
  const options = { precision, activations, signal };
  if (model === undefined) return (engine) => problemsOf(engine, preset(name), options);
  const { config, close } = await openModel(model, 'ema', signal);
  await close();
  return (engine) => problemsOf(engine, config, options);
}

/** What is kept for an adapter. With `again` a file that cannot be read is as good as none: it is about to be replaced. */
async function known(
  store: ReturnType<typeof fileStore>,
  adapter: ReturnType<typeof tunedAdapter>,
  again = false,
): Promise<Pick<TuningTable, 'results' | 'suspects'>> {
  const none = { results: [], suspects: [] };
  try {
    return (await store.get(adapter)) ?? none;
  } catch (error) {
    if (!again || !(error instanceof TuningError)) throw error;
    log(`${error.message}; it is written anew`);
    return none;
  }
}

/** @throws ConfigError where nothing contains the text. */
function chosen(problems: readonly TuningProblem[], only = ''): TuningProblem[] {
  const found = problems.filter((problem) => problemText(problem).includes(only));
  if (found.length > 0) return found;
  throw new ConfigError(`no problem of this model contains '${only}'`, {
    hint: `families: ${[...new Set(problems.map(({ family }) => family))].join(', ')}; such as "${problems[0] ? problemText(problems[0]) : ''}"`,
  });
}

/** The error for an adapter on which what is used without tuning computes wrong. */
function wrongReviewed(results: readonly TuningResult[]): OdeltError | undefined {
  const wrong = results.filter((r) => r.rejected.some(({ variant }) => variant === r.reviewed));
  if (wrong.length === 0) return undefined;
  const names = wrong.map((r) => `${r.reviewed} for ${problemText(r)}`).join('; ');
  return new OdeltError('wrong-result', `what this adapter takes without tuning does not compute right: ${names}`, {
    hint: 'run `odelt verify` on this adapter; a driver may be at fault',
  });
}
