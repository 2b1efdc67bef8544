/** Parts of one request that are drawn by different processes: which samples each of them draws, and who says which part is whose. */
import { ConfigError, UsageError } from '../engine/errors.ts';

/** One of several parts, from 0. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** `1/4`. */
export const describeShard = ({ index, of }: Shard): string => `${index}/${of}`;

const isShard = ({ index, of }: Shard): boolean =>
  Number.isSafeInteger(of) && of >= 1 && Number.isSafeInteger(index) && index >= 0 && index < of;

/** @throws UsageError for what is no part of several */
export function checkShard(shard: Shard): void {
  if (isShard(shard)) return;
  throw new UsageError(`shard is ${JSON.stringify(shard)}; it must be { index, of }, with index from 0 below of`);
}

const HINT =
  'write it like 0/4 for the first of four; env (of a Slurm array) or env/4 take the number from the environment';

/**
 * `0/4` to `3/4`; or `env`, for the task of a Slurm array (SLURM_ARRAY_TASK_ID, counted from SLURM_ARRAY_TASK_MIN, of
 * SLURM_ARRAY_TASK_COUNT); or `env/4`, where SLURM_ARRAY_TASK_ID or Kubernetes' JOB_COMPLETION_INDEX is the number, from 0.
 * `name` is what errors call the option.
 * @throws ConfigError
 */
export function parseShard(
  text: string,
  name: string,
  environment: Readonly<Record<string, string | undefined>>,
): Shard {
  const match = /^(\d+|env)(?:\/(\d+))?$/.exec(text);
  if (!match || (match[1] !== 'env' && match[2] === undefined))
    throw new ConfigError(`${name} is '${text}'; it must be a part and the number of parts`, { hint: HINT });
  const [, which, parts] = match;
  const { index, of } =
    which === 'env' ? shardOf(environment, parts, name) : { index: Number(which), of: Number(parts) };
  if (isShard({ index, of })) return { index, of };
  throw new ConfigError(`${name} ${text} is part ${index} of ${of}`, {
    hint: of >= 1 ? `parts are 0/${of} to ${of - 1}/${of}` : HINT,
  });
}

function shardOf(
  environment: Readonly<Record<string, string | undefined>>,
  parts: string | undefined,
  name: string,
): Shard {
  const number = (key: string): number | undefined => {
    const value = environment[key];
    if (value === undefined || value === '') return undefined;
    if (/^\d+$/.test(value)) return Number(value);
    throw new ConfigError(`${name} env: ${key} is '${value}', not a number`);
  };
  const task = number('SLURM_ARRAY_TASK_ID');
  const index = task ?? number('JOB_COMPLETION_INDEX');
  if (index === undefined) {
    throw new ConfigError(`${name} env: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set`, { hint: HINT });
  }
  if (parts !== undefined) return { index, of: Number(parts) };
  const of = number('SLURM_ARRAY_TASK_COUNT');
  if (task === undefined || of === undefined) {
    throw new ConfigError(`${name} env: the environment does not say how many parts there are`, {
      hint: `say it: ${name} env/4`,
    });
  }
  const [first, last] = [number('SLURM_ARRAY_TASK_MIN') ?? 0, number('SLURM_ARRAY_TASK_MAX')];
  if (last !== undefined && last - first + 1 !== of) {
    throw new ConfigError(`${name} env: the array's ${of} tasks are not all of ${first} to ${last}`, {
      hint: `say how many parts there are in all: ${name} env/${last + 1}`,
    });
  }
  return { index: task - first, of };
}

/**
 * Samples [from, to) of part `shard` of `count`. Parts are whole batches, but for the last: so every sample is computed together with
 * the same others however many parts there are, which is what an adaptive solver's steps depend on.
 * @throws ConfigError for more parts than batches
 */
export function shardRange({ index, of }: Shard, count: number, batch: number): readonly [from: number, to: number] {
  const batches = Math.ceil(count / batch);
  if (of > batches) {
    throw new ConfigError(`${count} samples in batches of ${batch} are ${batches}, which cannot be ${of} parts`, {
      hint: 'use fewer parts, or smaller batches',
    });
  }
  const at = (part: number) => Math.min(count, Math.floor((part * batches) / of) * batch);
  return [at(index), at(index + 1)];
}

/** A part, and what errors call it. */
export interface NamedPart {
  readonly name: string;
  readonly shard: Shard;
}

/** Parts in order, of which none is missing or there twice. `whole` is what they are parts of. @throws ConfigError, naming parts */
export function partsInOrder<T extends NamedPart>(parts: readonly T[], whole: string): T[] {
  const [first] = parts;
  if (!first) throw new ConfigError('there are no parts to merge');
  const { of } = first.shard;
  const ordered: T[] = [];
  for (const part of parts) {
    if (part.shard.of !== of) {
      throw new ConfigError(
        `${first.name} is part ${describeShard(first.shard)}, and ${part.name} part ${describeShard(part.shard)}`,
        { hint: `merge the parts of one ${whole}` },
      );
    }
    const other = ordered[part.shard.index];
    if (other)
      throw new ConfigError(`part ${describeShard(part.shard)} is there twice: ${other.name} and ${part.name}`);
    ordered[part.shard.index] = part;
  }
  const missing = Array.from({ length: of }, (_, index) => index).filter((index) => !ordered[index]);
  if (missing.length === 0) return ordered;
  const names = missing.slice(0, 10).map((index) => describeShard({ index, of }));
  const more = missing.length > 10 ? ` and ${missing.length - 10} more` : '';
  throw new ConfigError(
    `${missing.length === 1 ? 'part' : 'parts'} ${names.join(', ')}${more} ${missing.length === 1 ? 'is' : 'are'} missing`,
    { hint: `draw ${missing.length === 1 ? 'it' : 'them'} with --shard ${names[0]}` },
  );
}
