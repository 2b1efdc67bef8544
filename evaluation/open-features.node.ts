/** Features by what they were asked for as, or by what statistics say they are of: files are read and checked first, an engine is made where a network of ours needs one. */
import { basename } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { CheckpointError } from '../engine/errors.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { shippedClassifier } from '../formats/shipped.node.ts';
import { Classifier } from '../model/classify.ts';
import { type ClassifierFile, parseClassifierFile } from '../model/weights/classifier-file.ts';
import type { Dataset } from '../training/data/dataset.ts';
import {
  checkTakes,
  featuresOfClassifier,
  knowsClasses,
  type NamedData,
  takesPictures,
} from './classifier-features.ts';
import type { FeatureChoice } from './feature-choice.ts';
import {
  type FeatureName,
  type Features,
  type Fitting,
  featuresOf,
  type PictureShape,
  principalFeaturesInTurns,
} from './features.ts';
import { onnxFeatures } from './onnx-features.node.ts';
import { checkNetworkOf, featuresOfStatistics, type StatisticsFile } from './statistics-file.ts';

/** Features that are ready, and what frees what they hold. */
export interface OpenedFeatures {
  readonly features: Features;
  /** Frees what the features are computed with. */
  close(): Promise<void>;
}

/** Features whose files have been read; `open` makes them. */
export interface FeatureSource {
  /**
   * `newEngine` gives an engine of their own, so that what they take is not counted as sampling's; it is disposed with them.
   * @throws InterruptedError while principal components are fitted
   */
  open(newEngine: () => Promise<Engine>, fitting?: Fitting): Promise<OpenedFeatures>;
}

/** Larger than any classifier. */
const MOST_BYTES = 2 ** 30;

/** A classifier's file on disk. @throws CheckpointError as `parseClassifierFile`, and for what cannot be read */
export async function readClassifier(path: string): Promise<ClassifierFile> {
  const fail = failAs(CheckpointError, path, 'give a file that `odelt classifier` wrote');
  return parseClassifierFile(await readRegular(path, { most: MOST_BYTES, fail }), path);
}

const plain = (features: (fitting: Fitting) => Features | Promise<Features>): FeatureSource => ({
  open: async (_, fitting = {}) => ({ features: await features(fitting), close: async () => {} }),
});

const named = (name: FeatureName, data: Dataset): FeatureSource =>
  plain((fitting) => (name === 'pca64' ? principalFeaturesInTurns(data, fitting) : featuresOf(name, data)));

function ofClassifier(file: ClassifierFile, name: string, data: NamedData): FeatureSource {
  checkTakes(file, name, data);
  return {
    async open(newEngine) {
      const engine = await newEngine();
      try {
        const classifier = await Classifier.create(engine, file.config, file.params);
        return {
          features: featuresOfClassifier(classifier, file, { name, data }),
          close: async () => void engine.dispose(),
        };
      } catch (error) {
        engine.dispose();
        throw error;
      }
    },
  };
}

/**
 * Features for a data set: `data` is what principal components are taken from, and says how large pictures are and what they are of.
 * `auto` is the classifier that comes with the package where it takes such pictures and knows their classes by name, else pca64.
 * @throws ConfigError for a classifier of other pictures; CheckpointError for files that hold no such network; and what `onnxFeatures` throws
 */
export async function featureSource(choice: FeatureChoice, data: Dataset): Promise<FeatureSource> {
  if (choice.kind === 'plain') return named(choice.name, data);
  if (choice.kind === 'auto') {
    const file = await readClassifier(shippedClassifier());
    const fits = takesPictures(file, data) && data.classNames !== undefined && knowsClasses(file, data);
    return fits ? ofClassifier(file, 'classifier', data) : named('pca64', data);
  }
  return networkSource(choice, data);
}

/** A network, as it is known before an engine is asked for. */
type Network = Pick<Features, 'name' | 'width' | 'digest' | 'distance'>;

/** Features of a network, for pictures of which only this needs to be known. `check` may refuse it. */
async function networkSource(
  choice: Exclude<FeatureChoice, { kind: 'auto' | 'plain' }>,
  pictures: NamedData,
  check?: (network: Network) => void,
): Promise<FeatureSource> {
  if (choice.kind === 'classifier') {
    const { file: path } = choice;
    const file = await readClassifier(path ?? shippedClassifier());
    const name = path === undefined ? 'classifier' : `classifier ${basename(path)}`;
    const source = ofClassifier(file, name, pictures);
    check?.({ name, width: file.config.features, digest: file.digest });
    return source;
  }
  const opened = await onnxFeatures(choice.file, pictures, { fid: choice.kind === 'fid' });
  try {
    check?.(opened.features);
  } catch (error) {
    await opened.close();
    throw error;
  }
  return { open: async () => opened };
}

/**
 * The features that statistics in a file called `name` are of, for samples of this shape: those asked for, which must be the file's, or those that it
 * names. A network in a file of its own must be asked for. Of a foreign file there is a `warning`.
 * @throws ConfigError for other features or pictures, and where a network must be given; else as `featureSource` and `featuresOfStatistics`
 */
export async function sourceOfStatistics(
  file: StatisticsFile,
  shape: PictureShape,
  choice: FeatureChoice,
  name: string,
): Promise<FeatureSource & { readonly warning?: string }> {
  const { about } = file;
  const bundled = choice.kind === 'auto' && about?.features.name === 'classifier';
  const asked: FeatureChoice = bundled ? { kind: 'classifier' } : choice;
  if (asked.kind === 'auto' || asked.kind === 'plain') {
    const wanted = asked.kind === 'plain' ? asked.name : undefined;
    const { features, warning } = await featuresOfStatistics(file, shape, wanted, name);
    return { ...plain(() => features), warning };
  }
  const { classes, classNames } = about ?? {};
  let warning: string | undefined;
  const source = await networkSource(
    asked,
    { ...shape, name: about?.data ?? 'samples', classes, classNames },
    (network) => {
      warning = checkNetworkOf(file, network, shape, name);
    },
  );
  return { ...source, warning };
}
