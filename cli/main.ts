#!/usr/bin/env node
/** The `odelt` command: parses arguments, runs a command, turns errors into messages and exit codes (1, 2 usage, 130 interrupt). */
import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { ConfigError, InterruptedError, OdeltError } from '../engine/errors.ts';
import { shippedVersion } from '../formats/shipped.node.ts';
import { addBench } from './bench.ts';
import { addConvert } from './convert.ts';
import { addDemo } from './demo.ts';
import { addInfo } from './info.ts';
import { addPlot } from './plot.ts';
import { addSample } from './sample.ts';
import { addTrain } from './train.ts';
import { addVerify } from './verify.ts';

const program = new Command('odelt')
  .description('Trains and samples diffusion transformers whose time steps and blocks are chosen at sampling time.')
  .version(shippedVersion(), '-v, --version', 'print the version')
  .showHelpAfterError()
  .exitOverride();
addTrain(program);
addSample(program);
addDemo(program);
addVerify(program);
addBench(program);
addConvert(program);
addPlot(program);
addInfo(program);

try {
  await program.parseAsync();
  process.exitCode ??= 0;
} catch (error) {
  process.exitCode = report(error);
}
// The device keeps no handles, but a command that failed half-way may have left timers.
process.exit(process.exitCode);

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof OdeltError) {
    const cause = error.cause instanceof Error ? `\n  because: ${error.cause.message}` : '';
    const hint = error.hint ? `\n  ${pc.cyan('hint')}: ${error.hint}` : '';
    process.stderr.write(`${pc.red(error.name)}: ${error.message}${cause}${hint}\n`);
    return error instanceof ConfigError ? 2 : error instanceof InterruptedError ? 130 : 1;
  }
  process.stderr.write(`${pc.red('internal error')}: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}
