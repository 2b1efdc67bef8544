/** Samples that were drawn in parts: what a part says of itself, and whether parts make up the whole. */
import { ConfigError } from '../engine/errors.ts';
import { describeShard, type NamedPart, partsInOrder, type Shard } from './shards.ts';

/** What a part is, as plain data. Its samples are in a file. */
export interface SamplePart {
  readonly shard: Shard;
  /** Samples [from, to) of all. */
  readonly range: readonly [from: number, to: number];
  /** Of all samples: [samples, H, W, C]. */
  readonly shape: readonly [number, number, number, number];
  /** How a sheet of all of them is laid out. */
  readonly sheet: { readonly columns: number; readonly scale: number };
  /** All that decides the samples' numbers: model, seed, request, adapter. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The file of the samples, float32 in NumPy's format, beside this; and SHA-256 of it. */
  readonly file: string;
  readonly sha256: string;
}

/** A part, and what errors call it. */
export interface NamedSamplePart extends NamedPart {
  readonly record: SamplePart;
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'none';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
};

/**
 * Parts in order, of which none is missing or there twice, which were drawn with the same settings and are all samples, each once.
 * @throws ConfigError, naming parts, and settings that differ
 */
export function checkSampleParts(parts: readonly NamedSamplePart[]): NamedSamplePart[] {
  const ordered = partsInOrder(parts, 'set of samples');
  const [first] = ordered as [NamedSamplePart];
  const facts = ({ settings, shape, sheet }: SamplePart): Record<string, unknown> => ({ ...settings, shape, sheet });
  const own = facts(first.record);
  for (const { name, record } of ordered) {
    const theirs = facts(record);
    const differ = [...new Set([...Object.keys(own), ...Object.keys(theirs)])].find(
      (key) => JSON.stringify(own[key]) !== JSON.stringify(theirs[key]),
    );
    if (differ === undefined) continue;
    throw new ConfigError(
      `${first.name} and ${name} are parts of other samples: ${differ} is ${shown(own[differ])} in one, ${shown(theirs[differ])} in the other`,
      { hint: 'give every part the same flags but --shard, on adapters of one kind' },
    );
  }
  let next = 0;
  for (const { name, shard, record } of ordered) {
    const [from, to] = record.range;
    if (from !== next || to <= from) {
      throw new ConfigError(
        `${name}, part ${describeShard(shard)}, has samples ${from} to ${to}, and those before it end at ${next}`,
      );
    }
    next = to;
  }
  if (next === first.record.shape[0]) return ordered;
  throw new ConfigError(`the parts have ${next} of ${first.record.shape[0]} samples`);
}
