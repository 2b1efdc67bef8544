/** What commands share: the engine on the chosen adapter, and flags that are numbers. */
import type { AdapterReport } from '../engine/adapters.node.ts';
import { createNodeEngine } from '../engine/engine.node.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';

export interface Session {
  readonly engine: Engine;
  readonly adapter: AdapterReport;
}

/** Acquires a device on `--adapter` (or ODELT_ADAPTER, or the best there is). @throws UnsupportedError. */
export async function openSession(adapter: string | undefined): Promise<Session> {
  const { engine, node } = await createNodeEngine({ adapter: adapter as 'auto' | undefined, onError: () => {} });
  return { engine, adapter: node.adapterReport };
}

/** Parsers for commander's options, with errors that name the option. */
export const number =
  (name: string, rule: { integer?: boolean; min?: number; max?: number } = {}) =>
  (text: string): number => {
    const value = Number(text);
    const { integer = false, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = rule;
    if (
      text.trim() === '' ||
      !Number.isFinite(value) ||
      (integer && !Number.isInteger(value)) ||
      value < min ||
      value > max
    ) {
      const range = [Number.isFinite(min) ? `at least ${min}` : '', Number.isFinite(max) ? `at most ${max}` : '']
        .filter(Boolean)
        .join(' and ');
      throw new ConfigError(
        `${name} is '${text}'; it must be ${integer ? 'an integer' : 'a number'}${range ? ` ${range}` : ''}`,
      );
    }
    return value;
  };
