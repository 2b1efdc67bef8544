/** Owns choosing one of several adapters of a driver: what Dawn lists, which of it Dawn can be asked for, and who takes which. */
import { type AdapterKind, adapterKind } from './device.ts';
import { ConfigError } from './errors.ts';

/** An adapter as Dawn lists it. */
export interface Listed {
  readonly name: string;
  /**
   * Dawn takes the first adapter whose name contains the one that it is asked for. Null where that is this adapter, else the place of the
   * one that it would take.
   */
  readonly hiddenBy: number | null;
}

/** Asking Dawn for this adapter makes it refuse, and say which there are: it has no other way to list them. */
export const LISTING = 'adapter=odelt asks which adapters there are';

/** Names of the adapters that Dawn's refusal lists, in Dawn's order; null where it refuses for another reason. */
export function listedNames(refusal: string): string[] | null {
  const [, list] = refusal.split('Available adapters:');
  if (list === undefined) return null;
  return list.split('\n').flatMap((line) => /^ \* backend: '[^']*', name: '(.*)'$/.exec(line)?.[1] ?? []);
}

/** The adapters of a driver that are of these kinds. */
export function listedOf(names: readonly string[], accepts: readonly AdapterKind[]): Listed[] {
  const first = (name: string) => names.findIndex((other) => other.includes(name));
  const own = names.flatMap((name, place) => (accepts.includes(kindOf(name)) ? [{ name, place }] : []));
  return own.map(({ name, place }) => {
    const taken = first(name);
    const hiddenBy = own.findIndex((other) => other.place === taken);
    return { name, hiddenBy: taken === place ? null : hiddenBy };
  });
}

const kindOf = (name: string): AdapterKind =>
  adapterKind({ architecture: '', description: '', device: name, isFallbackAdapter: false });

/**
 * The adapter at `place` of the list, which counts from `from` in messages. @throws ConfigError for one that Dawn cannot be asked for.
 */
export function listedAt(listed: readonly Listed[], place: number, from = 0): Listed {
  const found = listed[place]!;
  if (found.hiddenBy === null) return found;
  const other = listed[found.hiddenBy];
  throw new ConfigError(
    `adapter ${from + place} is '${found.name}', and Dawn, which tells adapters of a driver apart by name, would take ${other ? `number ${from + found.hiddenBy}, '${other.name}'` : 'another'}`,
    { hint: ONE_EACH },
  );
}

/** The adapter of process `localRank` of a machine, where each takes the next of those that Dawn can be asked for. */
export function listedInTurn(listed: readonly Listed[], localRank: number): Listed | undefined {
  const distinct = listed.filter(({ hiddenBy }) => hiddenBy === null);
  return distinct[localRank % distinct.length];
}

/** What helps where adapters have one name. */
export const ONE_EACH =
  'show each process one GPU alone: Slurm with --gpus-per-task and ConstrainDevices, a container with one device, a pod with one GPU (docs/scale.md, "Several GPUs in a machine")';
