/** Flags made of declared options: their names, help and parsers, and the values that were given. */
import { type Command, Option as Flag } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { knownNames, type Option, type OptionSet, type ValuesOf } from '../formats/options.ts';
import { number } from './session.node.ts';

/** What differs from the declaration in one command. */
export interface FlagWords {
  /** Default that the command has instead of the declaration's. */
  readonly default?: unknown;
  readonly help?: string;
}

/** The flag of an option by its name. A switch that is on by default has one that turns it off. */
function flagName(name: string, { text, default: value }: Option<unknown>): string {
  const words = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return text.kind === 'switch' && value === true ? `--no-${words}` : `--${words}`;
}

/** The flags of a set of options, by the options' names: those that have one. */
export const flagNames = (options: OptionSet): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(options)
      .filter(([, option]) => option.flag !== false)
      .map(([name, option]) => [name, flagName(name, option)]),
  );

/** Adds one option's flag to a command. */
function addFlag(command: Command, name: string, option: Option<unknown>, words: FlagWords = {}): void {
  const { text, value, help } = option;
  const byDefault = words.default ?? option.default;
  const long = flagName(name, option);
  const isSwitch = text.kind === 'switch';
  const ending = isSwitch || byDefault === undefined || byDefault === null ? '' : ` (default ${byDefault})`;
  const off = isSwitch && option.default === true ? 'not: ' : '';
  const flag = new Flag(isSwitch ? long : `${long} <${value ?? 'value'}>`, `${off}${words.help ?? help}${ending}`);
  if (text.kind === 'choice') {
    flag.choices(text.choices).argParser((given: string) => {
      if (text.choices.includes(given)) return given;
      throw new ConfigError(`${long} has no '${given}'`, { hint: knownNames(given, text.choices) });
    });
  }
  if (text.kind === 'number') flag.argParser(number(long, text));
  if (text.kind === 'text') {
    flag.argParser((given: string) => {
      if (!option.accepts(given)) throw new ConfigError(`${long} is '${given}'; it must be ${option.rule}`);
      return given;
    });
  }
  command.addOption(flag);
}

/** Adds the flags of all options that have one, in the order of their declaration. */
export function addFlags(command: Command, options: OptionSet, words: Readonly<Record<string, FlagWords>> = {}): void {
  for (const [name, option] of Object.entries(options)) {
    if (option.flag !== false) addFlag(command, name, option, words[name]);
  }
}

/** The options that flags gave, of all that were parsed. */
export function givenFlags<D extends OptionSet>(options: D, parsed: object): Partial<ValuesOf<D>> {
  const values = parsed as Readonly<Record<string, unknown>>;
  const given = Object.entries(options).filter(([name, { flag, text, default: value }]) => {
    if (flag === false || values[name] === undefined) return false;
    // commander says a switch that can be turned off is on where nothing was given.
    return text.kind !== 'switch' || values[name] !== (value ?? false);
  });
  return Object.fromEntries(given.map(([name]) => [name, values[name]])) as Partial<ValuesOf<D>>;
}
