/** Features of a classifier of our own: what its last layer sees, and the classes that this takes pictures for. */
import { ConfigError } from '../engine/errors.ts';
import type { Classifier } from '../model/classify.ts';
import type { ClassifierFile } from '../model/weights/classifier-file.ts';
import type { DataShape } from '../training/data/dataset.ts';
import type { Features, PictureShape } from './features.ts';

/** Size and name of a set of pictures; where it is known, how many classes they are of, and what these are called. */
export type NamedData = Omit<DataShape, 'classes'> & {
  readonly classes?: number;
  readonly classNames?: readonly string[];
};

/** What a classifier knows: sizes, and the names of its classes. */
export type Described = Pick<ClassifierFile, 'config' | 'classNames'>;

/** Whether a classifier takes pictures of this size. */
export const takesPictures = ({ config }: Described, { height, width, channels }: PictureShape): boolean =>
  height === config.imageSize && width === config.imageSize && channels === config.channels;

/** Whether a classifier knows the data's classes: as many, of the same names, or both without names. */
export const knowsClasses = ({ config, classNames }: Described, data: NamedData): boolean =>
  config.classes === data.classes && JSON.stringify(classNames) === JSON.stringify(data.classNames);

/**
 * Features of a classifier, which stays the caller's. Where it knows the data's classes it judges them, too. `name` is what results call it.
 * @throws ConfigError for a classifier of pictures of another size
 */
export function featuresOfClassifier(
  classifier: Classifier,
  file: Pick<ClassifierFile, 'config' | 'classNames' | 'digest'>,
  { name, data }: { readonly name: string; readonly data: NamedData },
): Features {
  checkTakes(file, name, data);
  const { digest, config } = file;
  return {
    ...{ name, digest, width: config.features },
    of: (images) => classifier.features(images),
    ...(knowsClasses(file, data) ? { classesOf: (features: Float32Array) => classifier.classesOf(features) } : {}),
  };
}

/** @throws ConfigError for a classifier of pictures of another size */
export function checkTakes(file: Described, name: string, data: NamedData): void {
  if (takesPictures(file, data)) return;
  const { imageSize: side, channels } = file.config;
  throw new ConfigError(
    `the ${name} takes pictures of ${side}x${side}x${channels}; '${data.name}' has ${data.height}x${data.width}x${data.channels}`,
    { hint: 'train one on such pictures (odelt classifier), or compare by pca64' },
  );
}
