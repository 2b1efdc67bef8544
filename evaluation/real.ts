/** Which real pictures samples are compared with, and which are held out to be compared with them as samples are. */
import { DataError } from '../engine/errors.ts';
import { permutation } from '../engine/philox.ts';
import type { Dataset } from '../training/data/dataset.ts';

/** Some pictures of a data set. */
export interface Pictures {
  readonly data: Dataset;
  readonly indices: Uint32Array;
}

/** Real pictures by what they are for. */
export interface RealPictures {
  /** What samples are compared with, in an order of chance. */
  readonly reference: Pictures;
  /** As many as there are samples, if there are enough: compared with the reference in the samples' place. */
  readonly heldOut: Pictures;
  /** What class agreement is judged by: the test pictures, if there are any. */
  readonly judges: Dataset;
  /** How reference and held-out pictures were parted. */
  readonly how: 'test against train' | 'parts of one set';
}

const CHOICE = 0x65760005;

/**
 * With both parts of a data set, training pictures are the reference and test pictures are held out; with one, `count` of its pictures,
 * half of them at most, are held out and the others are the reference.
 * @throws DataError for too few pictures
 */
export function realPictures(
  { train, test }: { readonly train?: Dataset; readonly test?: Dataset },
  count: number,
  seed: number,
): RealPictures {
  const one = train ?? test;
  if (!one) throw new DataError('there are no pictures to compare with');
  const shuffled = (data: Dataset, step: number) => permutation({ seed, stream: CHOICE, step }, data.count);
  const judges = test ?? one;
  const both = train !== undefined && test !== undefined;
  const of = test ?? one;
  const order = shuffled(of, 1);
  const out = Math.min(count, both ? of.count : Math.floor(of.count / 2));
  const heldOut = { data: of, indices: order.subarray(0, out) };
  const reference = both ? { data: train, indices: shuffled(train, 0) } : { data: of, indices: order.subarray(out) };
  const fewest = Math.min(heldOut.indices.length, reference.indices.length);
  if (fewest < FEWEST) {
    throw new DataError(`'${of.name}' has too few pictures: ${of.count}, which leaves ${fewest} to compare with`, {
      hint: `${2 * FEWEST} are the least, and thousands make sense`,
    });
  }
  return { reference, heldOut, judges, how: both ? 'test against train' : 'parts of one set' };
}

/** Pictures, and samples, of a comparison: neighbours up to the fifth, and two subsets. */
export const FEWEST = 8;
