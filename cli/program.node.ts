/** The commands: their names, what each is for, and where it is. A command's own code is loaded when it is asked for. */
import { Command } from 'commander';
import { printableLines } from '../engine/text.ts';
import { shippedVersion } from '../formats/shipped.node.ts';
import { flushed } from './ends.node.ts';
import { report } from './report.node.ts';

interface Entry {
  readonly description: string;
  /** Adds arguments, flags and action to the command. */
  readonly load: () => Promise<(command: Command) => void>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  train: {
    description: 'train a model (no flags: the tiny preset on the bundled 10,000 Fashion-MNIST pictures)',
    load: async () => (await import('./train.ts')).addTrain,
  },
  sample: {
    description: 'draw pictures from a model (no flags: one row per class from the shipped model)',
    load: async () => (await import('./sample.ts')).addSample,
  },
  demo: {
    description: 'sample the shipped model at every number of steps and blocks, and compare',
    load: async () => (await import('./demo.ts')).addDemo,
  },
  studio: {
    description: 'sample in the browser, on this machine: slide steps and blocks, and see what they cost',
    load: async () => (await import('./studio.ts')).addStudio,
  },
  eval: {
    description: 'measure how good samples are at every number of steps and blocks, and what they cost',
    load: async () => (await import('./eval.ts')).addEval,
  },
  ablation: {
    description: 'train and compare variants of the method: with and without its parts, and what else one might do',
    load: async () => (await import('./ablation.ts')).addAblation,
  },
  stats: {
    description: "write the statistics of pictures' features, to compare samples with them later or elsewhere",
    load: async () => (await import('./stats.ts')).addStats,
  },
  classifier: {
    description: 'train a small classifier, whose features `odelt eval` can compare pictures by',
    load: async () => (await import('./classifier.ts')).addClassifier,
  },
  verify: {
    description: 'check this adapter against recorded results of the reference (no arguments: the bundled ones)',
    load: async () => (await import('./verify.ts')).addVerify,
  },
  tune: {
    description: "find this adapter's fastest kernels for a model (no flags: for the tiny preset)",
    load: async () => (await import('./tune.ts')).addTune,
  },
  bench: {
    description: 'measure this machine',
    load: async () => (await import('./bench.ts')).addBench,
  },
  convert: {
    description: 'write a run, or a checkpoint of the reference, of DiT or SiT, as one model file',
    load: async () => (await import('./convert.ts')).addConvert,
  },
  data: {
    description: 'make sets of pictures to train on',
    load: async () => (await import('./data.ts')).addData,
  },
  encode: {
    description: 'encode pictures into latents by an autoencoder, to train on those',
    load: async () => (await import('./encode.ts')).addEncode,
  },
  decode: {
    description: 'decode latents into pictures by an autoencoder',
    load: async () => (await import('./decode.ts')).addDecode,
  },
  plot: {
    description: "draw a run's losses over its updates",
    load: async () => (await import('./plot.ts')).addPlot,
  },
  info: {
    description: 'adapter, driver, limits and features, and why each candidate was taken or refused',
    load: async () => (await import('./info.ts')).addInfo,
  },
};

const EXIT_CODES = `
Exit codes: 0 done; 1 failed; 2 wrong arguments; 130 after Ctrl-C, SIGTERM or a
hang-up (a second Ctrl-C stops at once); 141 when the reader of the output has
gone. With --json an error is a document on standard output, too:
{"error": {"name", "code", "message", "hint", "causes"}}.`;

/** The program with the command that is asked for; of the others, what help and suggestions need. */
async function program(args: readonly string[]): Promise<Command> {
  const wanted = args.filter((arg) => !arg.startsWith('-') && arg !== 'help')[0];
  const odelt = new Command('odelt')
    .description('Trains and samples diffusion transformers whose time steps and blocks are chosen at sampling time.')
    .version(shippedVersion(), '-v, --version', 'print the version')
    .addHelpText('after', EXIT_CODES)
    // Not the help itself, whose hundred lines would push the error out of sight.
    .showHelpAfterError('  hint: --help lists what there is')
    // Flags after "eval merge" and "sample merge" are merge's.
    .enablePositionalOptions(wanted === 'eval' || wanted === 'sample')
    .configureOutput({
      writeOut: (text) => process.stdout.write(printableLines(text)),
      writeErr: (text) => process.stderr.write(printableLines(text)),
    })
    .exitOverride();
  for (const [name, { description, load }] of Object.entries(COMMANDS)) {
    const command = odelt.command(name).description(description);
    if (name === wanted) (await load())(command);
  }
  return odelt;
}

/** Runs the command of the process' arguments and ends the process once its output is out. */
export async function main(): Promise<void> {
  const args = process.argv.slice(2);
  let code = 0;
  try {
    await (await program(args)).parseAsync(args, { from: 'user' });
  } catch (error) {
    code = report(error, args.includes('--json'));
  }
  await flushed();
  // Set already where output could not be written.
  process.exitCode ||= code;
  // The device keeps no handles, but a command that failed half-way may have left timers.
  process.exit();
}
