/** What `odelt eval` compares with: real pictures of a data set, or the statistics of their features in a file. */
import { basename } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DataError } from '../engine/errors.ts';
import type { FeatureChoice } from '../evaluation/feature-choice.ts';
import type { Features } from '../evaluation/features.ts';
import { needPictures, type RealStatistics } from '../evaluation/judge.ts';
import { featureSource, sourceOfStatistics } from '../evaluation/open-features.node.ts';
import { LINEAR_ALGEBRA } from '../evaluation/openblas.node.ts';
import { type RealPictures, realPictures } from '../evaluation/real.ts';
import type { Provenance } from '../evaluation/results.ts';
import { featuresDigest, readStatistics } from '../evaluation/statistics-file.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { checkOneOf } from '../sampling/request.ts';
import type { DataShape, Dataset } from '../training/data/dataset.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import { openParts } from '../training/data/open.ts';
import { log } from './output.node.ts';

/** Flags that say what is compared with, and by what. */
export interface RealFlags {
  readonly data?: string;
  readonly reference?: string;
  readonly features?: FeatureChoice;
}

export const FEATURES_HELP =
  'what pictures are compared by: pca64 (leading principal components of the data), pixels (averaged to 256 at most), random (a fixed projection), classifier[:FILE] (of odelt classifier; the bundled one knows Fashion-MNIST), onnx:FILE (any network, by onnxruntime-node), fid:FILE (InceptionV3), auto (the bundled classifier where it knows the classes, else pca64)';
export const DATA_HELP =
  'real pictures (default: the bundled ones); with both parts, samples are compared with the training part';
export const REFERENCE_HELP =
  'statistics of real pictures instead: .npz with mu and sigma, of odelt stats or elsewhere; FD alone, of the features that it names or --features gives';
export const LINEAR_ALGEBRA_HELP =
  'who computes Fréchet distances: own, openblas (needs the package koffi), or auto (openblas where it is)';

export const REPLICATES_HELP =
  "resampled sets of a distance's interval: each takes as long as the distance; 0: no interval";

/** @throws ConfigError for one set, which has no spread */
export function checkReplicates(replicates: number): void {
  if (replicates !== 1) return;
  throw new ConfigError('--replicates is 1; an interval takes two or more', { hint: 'give 0 for no intervals' });
}

/** Largest file of statistics: one of ADM's with 10,000 pictures of 256 x 256 beside has 2.03e9 bytes. */
const MOST_BYTES = 2 ** 31 - 1;

/** @throws ConfigError for values that are none, or both kinds of real pictures */
export function checkRealFlags({ data, reference }: Pick<RealFlags, 'data' | 'reference'>): void {
  if (data !== undefined && reference !== undefined)
    throw new ConfigError('--data and --reference both say what samples are compared with', {
      hint: 'leave one of them out',
    });
}

/** @throws ConfigError */
export const checkLinearAlgebra = (name: string): void => checkOneOf('--linear-algebra', name, LINEAR_ALGEBRA);

/** What there is to compare with. */
export interface OpenedReal {
  readonly real: RealPictures | RealStatistics;
  readonly judges: Dataset | null;
  readonly record: Pick<Provenance, 'features' | 'data'>;
  readonly features: Features;
  /** Frees what the features hold. */
  close(): Promise<void>;
}

interface Opening {
  readonly seed: number;
  readonly count: number;
  readonly signal: AbortSignal;
  readonly check?: (data: DataShape) => void;
  /** An engine for features that need one, of their own: what they take is not counted as sampling's. */
  readonly newEngine: () => Promise<Engine>;
}

/** Opens it, for samples of this shape. @throws ConfigError and DataError */
export async function openReal(
  flags: RealFlags,
  { imageSize, channels }: { readonly imageSize: number; readonly channels: number },
  { seed, count, signal, check, newEngine }: Opening,
): Promise<OpenedReal> {
  const shape = { height: imageSize, width: imageSize, channels };
  const recorded = async (features: Features, data: Provenance['data']) => ({
    features: {
      ...{
        name: features.name,
        width: features.width,
        digest: await featuresDigest(features, shape),
      },
      ...(features.distance ? { distance: features.distance } : {}),
      ...(features.classesOf ? { judges: true as const } : {}),
    },
    data,
  });
  if (flags.reference !== undefined) {
    const path = flags.reference;
    if (path === '') throw new ConfigError('--reference is empty', { hint: 'give a .npz file of statistics' });
    const bytes = await readRegular(path, { most: MOST_BYTES, fail: failAs(DataError, path) });
    const file = readStatistics(bytes, path);
    const { about } = file;
    if (about?.classes !== undefined) check?.({ ...about.shape, name: about.data, classes: about.classes });
    const source = await sourceOfStatistics(file, shape, flags.features ?? { kind: 'auto' }, path);
    if (source.warning) log(`warning: ${source.warning}`);
    const { features, close } = await source.open(newEngine);
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    const data = { name: basename(path), digests: [Buffer.from(digest).toString('hex')] };
    log(`${path} has no pictures: not computed are ${needPictures(features).join(', ')}`);
    return { real: file, judges: null, features, record: await recorded(features, data), close };
  }
  const parts = await openParts(flags.data ?? shippedData(), {
    size: imageSize,
    channels: channels === 1 ? 1 : 3,
    signal,
  });
  const there = [parts.train, parts.test].filter((part) => part !== undefined);
  for (const part of there) check?.(part);
  const chosen = await featureSource(flags.features ?? { kind: 'auto' }, there[0]!);
  const { features, close } = await chosen.open(newEngine, { signal });
  const real = realPictures(parts, count, seed);
  if (!parts.train)
    log(
      `note: '${there[0]!.name}' has no training part: nearer tells copies of its pictures, not of others that a model was trained on`,
    );
  const digests = there.flatMap((part) => {
    const { pixels, labels } = fingerprint(part);
    return [pixels, labels];
  });
  const data = { name: there.map((part) => part.name).join(', '), digests };
  return {
    real,
    judges: features.classesOf ? null : real.judges,
    features,
    record: await recorded(features, data),
    close,
  };
}
