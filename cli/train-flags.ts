/** What `odelt train` is told in flags: where the data are, and errors of the library in the words of the command line. */
import { resolve } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { TRAIN_OPTIONS } from '../training/config.ts';
import type { TrainingData } from '../training/data/dataset.ts';
import { type OpenOptions, openTrainingData } from '../training/data/open.ts';
import { flagNames } from './option-flags.ts';

/** What a run's configuration calls the pictures that come with the package, wherever that lies. */
const BUNDLED = 'bundled';

/** What is kept of --data: a path that holds from any folder, or 'bundled' (also for no --data). @throws ConfigError for ''. */
export function dataPlace(flag: string | undefined): string {
  // An unset variable of a script must not mean the current folder.
  if (flag === '') throw new ConfigError('--data is empty', { hint: `give the path of a folder, or '${BUNDLED}'` });
  return flag === undefined || flag === BUNDLED ? BUNDLED : resolve(flag);
}

/** Opens the data set that a run's configuration names. @throws what openTrainingData throws. */
export const openPlace = (place: string, options: OpenOptions): Promise<TrainingData> =>
  openTrainingData(place === BUNDLED ? shippedData() : place, options);

/** --channels. @throws ConfigError. */
export function channels(text: string): 1 | 3 {
  if (text !== '1' && text !== '3') throw new ConfigError(`--channels is '${text}'; it must be 1 (grey) or 3 (colour)`);
  return text === '1' ? 1 : 3;
}

/** Fields of models and of training, by the flags that set them. */
const FLAGS: Readonly<Record<string, string>> = {
  'model.imageSize': '--image-size',
  'model.channels': '--channels',
  'model.width': '--width',
  'model.patch': '--patch',
  'model.heads': '--heads',
  'model.depth': '--depth',
  'model.dropout': '--dropout',
  ...Object.fromEntries(Object.entries(flagNames(TRAIN_OPTIONS)).map(([name, flag]) => [`training.${name}`, flag])),
  'training.guidance': '--distill-guidance',
};

/** Throws the error, with fields in its message and hint written as the flags that set them. */
export function inFlags(error: unknown): never {
  if (!(error instanceof ConfigError)) throw error;
  const words = (text: string) => text.replace(/\b(?:model|training)\.\w+/g, (field) => FLAGS[field] ?? field);
  throw new ConfigError(words(error.message), { cause: error.cause, hint: error.hint && words(error.hint) });
}
