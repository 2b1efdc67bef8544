/** Whether all processes of a run were given the same: told before the first step, by name, rather than by numbers that are wrong. */
import { ConfigError } from '../engine/errors.ts';
import type { Communicator } from './communicator.ts';

/** What must be the same, by name: plain data, for JSON. Objects are compared field by field. */
export type Facts = Readonly<Record<string, unknown>>;

/** Differences that a message lists. */
const MOST = 5;

/** Fields of facts as texts, those of objects by their paths. */
function flat(value: unknown, path: string, into: Map<string, string>): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flat(inner, path === '' ? key : `${path}.${key}`, into);
  } else if (value !== undefined) into.set(path, JSON.stringify(value));
  return into;
}

/** What the ranks were given that is not what rank 0 was given, one text each. Long values are told by their beginning. */
function disagreements(all: readonly Facts[]): string[] {
  const [first, ...others] = all.map((facts) => flat(facts, '', new Map()));
  const told = (value: string | undefined) => {
    if (value === undefined) return 'none';
    return value.length > 60 ? `${value.slice(0, 60)}...` : value;
  };
  return others.flatMap((facts, i) =>
    [...new Set([...first!.keys(), ...facts.keys()])]
      .filter((name) => first!.get(name) !== facts.get(name))
      .map((name) => `${name} is ${told(facts.get(name))} on rank ${i + 1}, ${told(first!.get(name))} on rank 0`),
  );
}

/** @throws ConfigError naming what differs, the same on all ranks. */
export async function agree(communicator: Communicator, facts: Facts): Promise<void> {
  if (communicator.size === 1) return;
  const all = (await communicator.exchange(JSON.stringify(facts))).map((text) => JSON.parse(text) as Facts);
  const found = disagreements(all);
  if (found.length === 0) return;
  const more = found.length > MOST ? `; and ${found.length - MOST} more` : '';
  throw new ConfigError(`the processes of this run do not agree: ${found.slice(0, MOST).join('; ')}${more}`, {
    hint: 'give all of them the same flags, the same data and the same version of odelt',
  });
}
