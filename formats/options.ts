/**
 * Options, each declared once: its default, its rule and the rule's words, its help and how text says it. The type of a configuration,
 * its checks, flags, keys of files and the documents follow from these records. Knows no command line and no file format.
 */
import { ConfigError } from '../engine/errors.ts';

/** How text says a value, on a command line or in a file. */
export type OptionText =
  | ({ readonly kind: 'number'; readonly integer: boolean } & Bounds)
  | { readonly kind: 'switch' }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  | { readonly kind: 'text' }
  /** An object: its fields are given one by one. */
  | { readonly kind: 'fields' };

/** One option. Its name is the key it is declared under; its path is that after the section, such as `train.lr`. */
export interface Option<T> {
  /** Undefined where the value follows from something else, which `help` says. */
  readonly default: T;
  /** What a value must be: follows "it must be". */
  readonly rule: string;
  /** Whether a value keeps the rule. */
  readonly accepts: (value: unknown) => boolean;
  readonly text: OptionText;
  /** What it does, for help and documents; neither sentence nor default, which follows. */
  readonly help: string;
  /** Name of the flag's value in help. */
  readonly value?: string;
  /** False: no flag of its own. Else the name with hyphens is one. */
  readonly flag?: false;
}

/** Options by name. */
// biome-ignore lint/suspicious/noExplicitAny: a set holds options of any types, which ValuesOf tells apart.
export type OptionSet = Readonly<Record<string, Option<any>>>;

/** The values of a set of options. */
export type ValuesOf<D extends OptionSet> = {
  readonly [K in keyof D]: D[K] extends Option<infer T> ? T : never;
};

interface Words {
  readonly rule: string;
  readonly help: string;
  readonly value?: string;
}

/** Bounds of a number. */
export interface Bounds {
  /** Smallest and largest value. */
  readonly min?: number;
  readonly max?: number;
  /** Bounds that are no values themselves. */
  readonly above?: number;
  readonly below?: number;
}

/** Whether a number keeps its bounds. */
export const within = (x: number, { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity }: Bounds) =>
  x >= min && x <= max && x > above && x < below;

/** A whole number; `also` is a further condition that the rule states. */
export function integer(
  byDefault: number,
  { min, max, also = () => true, ...words }: Words & Bounds & { readonly also?: (x: number) => boolean },
): Option<number> {
  const accepts = (x: unknown) => Number.isInteger(x) && within(x as number, { min, max }) && also(x as number);
  return { default: byDefault, accepts, text: { kind: 'number', integer: true, min, max }, value: 'n', ...words };
}

/** A finite number. */
export function real(byDefault: number, { min, max, above, below, ...words }: Words & Bounds): Option<number> {
  const accepts = (x: unknown) => Number.isFinite(x) && within(x as number, { min, max, above, below });
  const text = { kind: 'number', integer: false, min, max, above, below } as const;
  return { default: byDefault, accepts, text, value: 'x', ...words };
}

/** True or false. */
export function toggle(byDefault: boolean, help: string): Option<boolean> {
  const accepts = (x: unknown) => typeof x === 'boolean';
  return { default: byDefault, rule: 'true or false', accepts, text: { kind: 'switch' }, help };
}

/** One of a few words. */
export function choice<const C extends string>(
  byDefault: NoInfer<C>,
  choices: readonly C[],
  { help, value = 'which' }: { readonly help: string; readonly value?: string },
): Option<C> {
  const accepts = (x: unknown) => choices.includes(x as C);
  return { default: byDefault, rule: listed(choices), accepts, text: { kind: 'choice', choices }, help, value };
}

function listed(choices: readonly string[]): string {
  const quoted = choices.map((name) => `'${name}'`);
  return [quoted.slice(0, -1).join(', '), quoted.at(-1)].filter(Boolean).join(' or ');
}

/** What a value is called in a message. */
const shown = (value: unknown): string => JSON.stringify(value) ?? String(value);

/**
 * The values with defaults filled in, each checked by its rule. `section` begins the fields' names in messages, `noun` is what they
 * are options of. @throws ConfigError for an unknown option, with the nearest known one, or a value that breaks its rule.
 */
export function parseOptions<D extends OptionSet>(
  options: D,
  given: Partial<ValuesOf<D>>,
  { section, noun }: { readonly section: string; readonly noun: string },
): ValuesOf<D> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new ConfigError(`${noun} options are ${shown(given)}; they must be an object`);
  }
  const stranger = Object.keys(given).find((key) => !Object.hasOwn(options, key));
  if (stranger !== undefined) {
    throw new ConfigError(`unknown ${noun} option '${stranger}'`, { hint: knownNames(stranger, Object.keys(options)) });
  }
  const values: Record<string, unknown> = { ...defaultsOf(options), ...given };
  for (const [name, { accepts, rule, text }] of Object.entries(options)) {
    const value = values[name];
    if (accepts(value)) continue;
    const near = text.kind === 'choice' && typeof value === 'string' ? nearest(value, text.choices) : undefined;
    throw new ConfigError(`${section}.${name} is ${shown(value)}; it must be ${rule}`, {
      hint: near && `did you mean ${near}?`,
    });
  }
  return values as ValuesOf<D>;
}

/** The default of each option. */
export const defaultsOf = <D extends OptionSet>(options: D): ValuesOf<D> =>
  Object.fromEntries(Object.entries(options).map(([name, option]) => [name, option.default])) as ValuesOf<D>;

/** The hint of an unknown name: the nearest known one, where one is near, and all of them. */
export function knownNames(name: string, known: readonly string[]): string {
  const all = `known: ${known.join(', ')}`;
  const near = nearest(name, known);
  return near === undefined ? all : `did you mean ${near}? ${all}`;
}

/** The known name that fewest edits make of this one; undefined where more than a third of it would change. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  // A hostile name may be as long as a file.
  if (name.length > 64) return undefined;
  const plain = (text: string) => text.toLowerCase().replace(/[-_]/g, '');
  const ranked = known.map((other) => ({ other, edits: edits(plain(name), plain(other)) }));
  const best = ranked.sort((a, b) => a.edits - b.edits)[0];
  return best && best.edits <= Math.max(1, Math.floor(name.length / 3)) ? best.other : undefined;
}

/** Insertions, deletions, replacements and swaps of neighbours that make b of a (optimal string alignment). */
function edits(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(row[j - 1]! + 1, rows[i - 1]![j]! + 1, rows[i - 1]![j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j]!, rows[i - 2]![j - 2]! + 1);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
