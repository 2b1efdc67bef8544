/** Errors on their way between a worker and its page: class, code, message, hint, numbers and causes arrive as they left. */
import * as errors from '../engine/errors.ts';

const { OdeltError } = errors;

/** What structured clone can carry of an error. */
export interface SentError {
  readonly name: string;
  /** Absent where it is no error of odelt's. */
  readonly code?: string;
  readonly message: string;
  readonly hint?: string;
  readonly stack?: string;
  /** Own fields, such as `asked` and `available`. */
  readonly fields: Readonly<Record<string, number>>;
  readonly cause?: SentError;
}

/** Causes of causes that are sent. */
const DEEPEST = 8;

export function sendableError(error: unknown, depth = 0): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), fields: {} };
  const fields = Object.fromEntries(Object.entries(error).filter(([, value]) => typeof value === 'number'));
  return {
    name: error.name,
    message: error.message,
    fields,
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(error instanceof OdeltError ? { code: error.code } : {}),
    ...(error instanceof OdeltError && error.hint !== undefined ? { hint: error.hint } : {}),
    ...(error.cause === undefined || depth >= DEEPEST ? {} : { cause: sendableError(error.cause, depth + 1) }),
  };
}

/** The error as it was thrown: an instance of its class where it is odelt's, else an Error of its name. */
export function receivedError({ name, code, message, hint, stack, fields, cause }: SentError): Error {
  const known: unknown = Object.entries(errors).find(([exported]) => exported === name)?.[1];
  const isOurs = typeof known === 'function' && (known === OdeltError || known.prototype instanceof OdeltError);
  const prototype: object = code === undefined ? Error.prototype : isOurs ? known.prototype : OdeltError.prototype;
  const error: Error = Object.setPrototypeOf(new Error(message), prototype);
  const hidden = (key: string, value: unknown) =>
    Object.defineProperty(error, key, { value, configurable: true, writable: true });
  if (stack !== undefined) hidden('stack', stack);
  if (cause !== undefined) hidden('cause', receivedError(cause));
  return Object.assign(error, { name, ...(code === undefined ? {} : { code, hint }), ...fields });
}
