/**
 * Scalars of a recorded program: plain numbers, or symbols whose value is given at every replay (the step's learning
 * rate, the number of rows that a block still runs). Anything that is not a symbol is frozen when it is recorded.
 */
import { UsageError } from './errors.ts';

/** Values of a program's scalar inputs, by name. */
export type ScalarValues = Readonly<Record<string, number>>;

/** A scalar that is not known before a replay; `scalarInput`, `map`, `times` and `ceilDiv` make them. */
export interface Sym {
  /** Readable formula, for labels and messages. */
  readonly name: string;
  /** Largest value it may take; sizes of buffers follow it. */
  readonly max: number;
  /** Its value for a replay's inputs. Throws UsageError for an input that is missing or too large. */
  readonly evaluate: (values: ScalarValues) => number;
  /** Names of the inputs it depends on. */
  readonly inputs: readonly string[];
}

/** A number, or a symbol whose value is given at every replay. */
export type Scalar = number | Sym;

/** A scalar named `name`, given to `program.run({[name]: value})`; `max` bounds it. */
export function scalarInput(name: string, max = Number.POSITIVE_INFINITY): Sym {
  return {
    name,
    max,
    inputs: [name],
    evaluate(values) {
      const value = values[name];
      if (value === undefined) {
        throw new UsageError(`scalar '${name}' was not given to run()`, { hint: `pass { ${name}: value }` });
      }
      if (!(value <= max)) {
        throw new UsageError(`scalar '${name}' is ${value}; the program was recorded for at most ${max}`);
      }
      return value;
    },
  };
}

export const isSym = (x: Scalar): x is Sym => typeof x !== 'number';
export const maxOf = (x: Scalar): number => (isSym(x) ? x.max : x);
export const evaluate = (x: Scalar, values: ScalarValues): number => (isSym(x) ? x.evaluate(values) : x);
export const nameOf = (x: Scalar): string => (isSym(x) ? x.name : String(x));

/** f(a), monotone in a; stays a number when `a` is one. */
export function map(a: Scalar, name: string, f: (a: number) => number): Scalar {
  if (!isSym(a)) return f(a);
  return { name: `${name}(${a.name})`, max: f(a.max), inputs: a.inputs, evaluate: (v) => f(a.evaluate(v)) };
}

/** a * k. */
export const times = (a: Scalar, k: number): Scalar => (k === 1 ? a : map(a, `${k}*`, (x) => x * k));

/** ceil(a / k). */
export const ceilDiv = (a: Scalar, k: number): Scalar => map(a, `ceil/${k}`, (x) => Math.ceil(x / k));
