/** Every error odelt throws on purpose. Each names what was asked, what was found, and (in `hint`) the remedy. */

/** What an error says besides its message. */
export interface OdeltErrorOptions {
  /** What the user can do about it, as one sentence or a short list. */
  hint?: string;
  cause?: unknown;
}

/** What every error of odelt is: `code` for programs, the message for people, `hint` for the remedy. */
export class OdeltError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  constructor(code: string, message: string, options: OdeltErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
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

/** The caller's AbortSignal (or Ctrl-C) stopped the work. */
export class InterruptedError extends OdeltError {
  constructor(message = 'interrupted', options?: OdeltErrorOptions) {
    super('interrupted', message, options);
  }
}

/** A wrong use of the engine's own API: a bug in the calling code, not in its input. */
export class UsageError extends OdeltError {
  constructor(message: string, options?: OdeltErrorOptions) {
    super('usage', message, options);
  }
}
