/** Which part of a data set a file or folder is of, by its name. */
import { DataError } from '../../engine/errors.ts';

/** Part of a data set. */
export type Split = 'train' | 'test';

/** Parts by name. What is there for validation stands for the test part where there is none that can be used. */
type Part = Split | 'validation';

const WORDS: ReadonlyMap<string, Part> = new Map([
  ...(['train', 'training'] as const).map((word) => [word, 'train'] as const),
  ...(['test', 'testing'] as const).map((word) => [word, 'test'] as const),
  ...(['val', 'valid', 'validation'] as const).map((word) => [word, 'validation'] as const),
]);

/** How a name says which part it is of; undefined where it says nothing. */
type PartOf = (name: string) => Part | undefined;

/** By the first word that says so: `imagenet1k-train-0000.tar`. */
export const partInName: PartOf = (name) => {
  const words = name.toLowerCase().split(/[^a-z]+/);
  return WORDS.get(words.find((word) => WORDS.has(word)) ?? '');
};

/** By all of it, as class folders may be named `bullet train` and `test tube`. */
export const partNamed: PartOf = (name) => WORDS.get(name.toLowerCase());

/** Whether folders beside each other are parts: all of them, or one to train on and one to test with among others. */
export function areParts(folders: readonly string[]): boolean {
  const parts = folders.map(partNamed);
  const heldOut = parts.some((part) => part === 'test' || part === 'validation');
  return parts.length > 0 && (!parts.includes(undefined) || (parts.includes('train') && heldOut));
}

/**
 * The names of the part that is asked for, in order; several such lists where one may stand for the other, that which is preferred first.
 * Names that say nothing are trained on where none says that it is.
 */
export function namesOfPart(names: readonly string[], partOf: PartOf, asked: Split | undefined): string[][] {
  const of = (part: Part | undefined) => names.filter((name) => partOf(name) === part).sort();
  const named = of('train');
  const train = named.length > 0 ? named : of(undefined);
  const heldOut = [of('test'), of('validation')];
  const wanted = { train: [train], test: heldOut, any: [train, ...heldOut] }[asked ?? 'any'];
  return wanted.filter((own) => own.length > 0);
}

/** A part that is not there, among data that are; or that has no labels that could be used. */
export class MissingPart extends DataError {
  override name = 'DataError';
}
