/** Every error odelt throws on purpose. Each names what was asked, what was found, and (in `hint`) the remedy. */
import { printable } from './text.ts';

/** What an error says besides its message. */
export interface OdeltErrorOptions {
  /** What a driver, a compiler or another program said, or a list: follows the message, with its lines. */
  details?: string;
  /** What the user can do about it, as one sentence or a short list. */
  hint?: string;
  cause?: unknown;
}

/** Names and paths come from anywhere, so a message is one line, and neither it nor details and hint can steer a terminal. */
const lines = (text: string): string => text.split('\n').map(printable).join('\n');

/** The class of a code's errors: 'out-of-memory' is OutOfMemoryError's. Not by the class itself, whose name bundlers shorten. */
const nameOf = (code: string): string =>
  `${code.replace(/(?:^|-)(.)/g, (_, letter: string) => letter.toUpperCase())}Error`;

/** What every error of odelt is: `code` for programs, the message for people, `hint` for the remedy. */
export class OdeltError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  constructor(code: string, message: string, { details, hint, cause }: OdeltErrorOptions = {}) {
    const more = details === undefined ? '' : `:${details.startsWith('\n') ? '' : ' '}${lines(details)}`;
    super(`${printable(message)}${more}`, cause === undefined ? undefined : { cause });
    this.name = new.target === OdeltError ? 'OdeltError' : nameOf(code);
    this.code = code;
    this.hint = hint === undefined ? undefined : lines(hint);
  }
}

/** The machine, driver or browser lacks something that is required. */
export class UnsupportedError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('unsupported', message, options);
  }
}

/** A request exceeds a limit of the adapter or of a budget; carries what was asked and what there is. */
export class LimitError extends OdeltError {
  readonly asked: number;
  readonly available: number;
  constructor(message: string, amounts: { asked: number; available: number }, options?: OdeltErrorOptions) {
    super('limit', message, options);
    this.asked = amounts.asked;
    this.available = amounts.available;
  }
}

/** The device has no memory for a buffer, or a budget set on the engine's memory is exceeded. */
export class OutOfMemoryError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('out-of-memory', message, options);
  }
}

/** The GPU or its driver is gone; the engine and all on it are of no more use. */
export class DeviceLostError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('device-lost', message, options);
  }
}

/** A NaN or infinity where training or sampling needs finite numbers. */
export class NonFiniteError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('non-finite', message, options);
  }
}

/** An adaptive solver that cannot reach the end within its limit of steps; carries how far it came. */
export class ConvergenceError extends OdeltError {
  /** Time reached, of 1. */
  readonly t: number;
  readonly accepted: number;
  readonly rejected: number;
  readonly tolerance: number;
  constructor(
    message: string,
    reached: { t: number; accepted: number; rejected: number; tolerance: number },
    options?: OdeltErrorOptions,
  ) {
    super('convergence', message, options);
    this.t = reached.t;
    this.accepted = reached.accepted;
    this.rejected = reached.rejected;
    this.tolerance = reached.tolerance;
  }
}

/** A checkpoint or weight file that is truncated, hostile, or does not fit the model. */
export class CheckpointError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('checkpoint', message, options);
  }
}

/** An option or configuration value that makes no sense; the CLI turns it into exit code 2. */
export class ConfigError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('config', message, options);
  }
}

/** A tuning table that is damaged, of another version, or was measured on another adapter. */
export class TuningError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('tuning', message, options);
  }
}

/** Data files (images, labels) that cannot be read as what they claim to be. */
export class DataError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('data', message, options);
  }
}

/** A file that cannot be written where it was asked for; found out before the work that would fill it. */
export class OutputError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('output', message, options);
  }
}

/** The caller's AbortSignal (or Ctrl-C) stopped the work; the signal's reason is the cause. */
export class InterruptedError extends OdeltError {
  constructor(message = 'interrupted', options?: OdeltErrorOptions) {
    super('interrupted', message, options);
  }
}

/** Another process of the same run has ended or cannot be reached, so that this one cannot go on; or the processes do not fit together. */
export class ClusterError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('cluster', message, options);
  }
}

/** A wrong use of the engine's own API: a bug in the calling code, not in its input. */
export class UsageError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('usage', message, options);
  }
}

/** Causes that are told of one error: more than any has for a reason. */
const MOST_CAUSES = 16;

function causeText(cause: unknown): string {
  if (!(cause instanceof Error)) return typeof cause === 'string' ? cause : Object.prototype.toString.call(cause);
  const { code } = cause as { code?: unknown };
  if (cause instanceof OdeltError || typeof code !== 'string' || cause.message.includes(code)) return cause.message;
  return cause.message === '' ? code : `${cause.message} (${code})`;
}

/**
 * Messages of what is behind an error, outermost first: its causes to the last, and the parts of an AggregateError. What has been
 * said by then, or in the error's own message, is left out.
 */
export function causesOf(error: unknown): string[] {
  const messages: string[] = [];
  const own = error instanceof Error ? error.message : '';
  const seen = new Set<unknown>();
  const visit = (cause: unknown): void => {
    if (cause === undefined || cause === null || seen.has(cause) || messages.length >= MOST_CAUSES) return;
    // What `abort()` gives as its reason where it was given none.
    if (cause instanceof Error && cause.name === 'AbortError') return;
    seen.add(cause);
    const text = lines(causeText(cause));
    if (!own.includes(text) && !messages.some((message) => message.includes(text))) messages.push(text);
    behind(cause);
  };
  const behind = (from: unknown): void => {
    if (from instanceof AggregateError) from.errors.forEach(visit);
    if (from instanceof Error) visit(from.cause);
  };
  seen.add(error);
  behind(error);
  return messages;
}
