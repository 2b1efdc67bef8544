/** How an error is told: as text on standard error, with --json as a document on standard output too, and as an exit code. */
import { CommanderError } from 'commander';
import pc from 'picocolors';
import { ConfigError, causesOf, InterruptedError, OdeltError } from '../engine/errors.ts';
import { INTERRUPTED } from './ends.node.ts';
import { logLines, printJson } from './output.node.ts';

/** Work that came to its end and has a result to print, and failed all the same: with --json both are one document. */
export class FailedResult extends Error {
  readonly result: object;
  readonly error: OdeltError;
  constructor(result: object, error: OdeltError) {
    super(error.message);
    this.result = result;
    this.error = error;
  }
}

/** An error as --json prints it. */
interface ErrorDocument {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  /** Messages of what is behind it, outermost first. */
  readonly causes: readonly string[];
}

function errorDocument(error: unknown): ErrorDocument {
  if (error instanceof OdeltError) {
    const { name, code, message, hint = null } = error;
    return { name, code, message, hint, causes: causesOf(error) };
  }
  const [name, message] = error instanceof Error ? [error.name, error.message] : ['Error', String(error)];
  return { name, code: 'internal', message, hint: null, causes: causesOf(error) };
}

function errorText(error: unknown): string {
  const { name, message, hint, causes } = errorDocument(error);
  const because = causes.map((cause) => `\n  because: ${cause.replaceAll('\n', '\n    ')}`).join('');
  if (error instanceof OdeltError) {
    return `${pc.red(name)}: ${message}${because}${hint ? `\n  ${pc.cyan('hint')}: ${hint}` : ''}`;
  }
  return `${pc.red('internal error')}: ${(error instanceof Error && error.stack) || message}${because}`;
}

/** What commander found wrong with the arguments, which it has said already. */
function usageError({ message }: CommanderError): ConfigError {
  const [problem = '', ...nearMiss] = message.replace(/^error: /, '').split('\n');
  return new ConfigError(problem, { hint: nearMiss.join('\n') || undefined });
}

/** Tells an error, and @returns the exit code: 2 for usage, 130 for an interrupt, else 1; 0 for help that was asked for. */
export function report(thrown: unknown, json: boolean): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  const said = thrown instanceof CommanderError;
  const result = thrown instanceof FailedResult ? thrown.result : {};
  const error = said ? usageError(thrown) : thrown instanceof FailedResult ? thrown.error : thrown;
  // Whoever stopped reading wants no message: see cli/ends.node.ts.
  if (process.exitCode && error instanceof InterruptedError) return INTERRUPTED;
  if (!said) logLines(errorText(error));
  if (json) printJson({ ...result, error: errorDocument(error) });
  return error instanceof ConfigError ? 2 : error instanceof InterruptedError ? INTERRUPTED : 1;
}
