/** Splits a data set into pictures that are trained on and pictures that are held out, the same ones every time. */
import { ConfigError } from '../engine/errors.ts';
import { permutation } from '../engine/philox.ts';
import { isStreamed, type LabelledData, type PictureGroups, type TrainingData } from './data/dataset.ts';

/** Not the run's seed: runs of different seeds hold out the same pictures. */
const SOURCE = { seed: 0x68656c64, stream: 0x6f757400, step: 0 };

/**
 * The data without a share of the pictures, and those alone. `share` is in (0, 1); the pictures are drawn at random, in either part they
 * keep their order. @throws ConfigError where one of the parts would be empty
 */
export function holdOut(
  data: TrainingData,
  share: number,
): { readonly train: TrainingData; readonly held: TrainingData } {
  const count = Math.round(share * data.count);
  if (!(count >= 1 && count < data.count)) {
    throw new ConfigError(`a share of ${share} of the ${data.count} pictures of '${data.name}' is ${count}`, {
      hint: 'hold out at least one picture, and not all',
    });
  }
  const order = permutation(SOURCE, data.count);
  return {
    held: partOf(data, order.slice(0, count).sort(), 'held out'),
    train: partOf(data, order.slice(count).sort(), 'without held out'),
  };
}

/** The pictures with these numbers, ascending. */
function partOf(data: TrainingData, numbers: Uint32Array, what: string): TrainingData {
  const labelled: LabelledData = {
    ...data,
    name: `${data.name} (${what})`,
    count: numbers.length,
    label: (i) => data.label(numbers[i]!),
  };
  if (!isStreamed(data)) return { ...labelled, image: (i) => data.image(numbers[i]!) };
  const { elements, paired, identity, groups, flips, spread, latents } = data;
  return {
    ...{ ...labelled, elements, paired, identity, flips, spread, latents },
    ...(groups ? { groups: groupsOf(groups, numbers) } : {}),
    open() {
      const reader = data.open();
      return { read: (i, draw) => reader.read(numbers[i]!, draw), close: () => reader.close() };
    },
  };
}

/** Pictures that are read together still are: in groups of as many as are left of each. */
function groupsOf({ sizes, together }: PictureGroups, numbers: Uint32Array): PictureGroups {
  const left: number[] = [];
  let next = 0;
  let end = 0;
  for (let g = 0; g < sizes.length; g++) {
    end += sizes[g]!;
    const first = next;
    while (next < numbers.length && numbers[next]! < end) next++;
    if (next > first) left.push(next - first);
  }
  return { sizes: left, together };
}
