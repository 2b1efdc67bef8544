/** What `odelt eval` compares with: real pictures of a data set, or the statistics of their features in a file. */
import { basename } from 'node:path';
import { ConfigError, DataError } from '../engine/errors.ts';
import { FEATURE_NAMES, type FeatureName, type Features, featuresOf } from '../evaluation/features.ts';
import type { RealStatistics } from '../evaluation/judge.ts';
import { LINEAR_ALGEBRA } from '../evaluation/openblas.node.ts';
import { type RealPictures, realPictures } from '../evaluation/real.ts';
import type { Provenance } from '../evaluation/results.ts';
import { featuresDigest, featuresOfStatistics, readStatistics } from '../evaluation/statistics-file.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { checkOneOf } from '../sampling/request.ts';
import type { Dataset } from '../training/data/dataset.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import { openParts } from '../training/data/open.ts';
import { log } from './output.node.ts';

/** Flags that say what is compared with, and by what. */
export interface RealFlags {
  readonly data?: string;
  readonly reference?: string;
  readonly features?: FeatureName;
}

export const FEATURES_HELP =
  'what pictures are compared by: pca64 (leading principal components of the data; default), pixels (averaged to 256 at most), random (a fixed projection)';
export const DATA_HELP =
  'real pictures (default: the bundled ones); with both parts, samples are compared with the training part';
export const REFERENCE_HELP =
  'statistics of real pictures instead: .npz with mu and sigma, of odelt stats or elsewhere; gives FD only';
export const LINEAR_ALGEBRA_HELP =
  'who computes Fréchet distances: own, openblas (needs the package koffi), or auto (openblas where it is)';

/** Largest file of statistics. */
const MOST_BYTES = 2 ** 30;

/** @throws ConfigError for values that are none, or both kinds of real pictures */
export function checkRealFlags({ data, reference, features }: RealFlags & { linearAlgebra?: string }): void {
  checkOneOf('--features', features, FEATURE_NAMES);
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
}

/** Opens it, for samples of this shape. @throws ConfigError and DataError */
export async function openReal(
  flags: RealFlags,
  { imageSize, channels }: { readonly imageSize: number; readonly channels: number },
  { seed, count, signal, check }: { seed: number; count: number; signal: AbortSignal; check?: (data: Dataset) => void },
): Promise<OpenedReal> {
  const shape = { height: imageSize, width: imageSize, channels };
  const recorded = async (features: Features, data: Provenance['data']) => ({
    features: { name: features.name, width: features.width, digest: await featuresDigest(features, shape) },
    data,
  });
  if (flags.reference !== undefined) {
    const path = flags.reference;
    if (path === '') throw new ConfigError('--reference is empty', { hint: 'give a .npz file of statistics' });
    const bytes = await readRegular(path, { most: MOST_BYTES, fail: failAs(DataError, path) });
    const file = readStatistics(bytes, path);
    const { features, warning } = await featuresOfStatistics(file, shape, flags.features, path);
    if (warning) log(`warning: ${warning}`);
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    const data = { name: basename(path), digests: [Buffer.from(digest).toString('hex')] };
    log(
      `${path} has no pictures: KID, precision, recall, density, coverage, agreement, nearest pictures and the floor are not computed`,
    );
    return { real: file, judges: null, features, record: await recorded(features, data) };
  }
  const parts = await openParts(flags.data ?? shippedData(), {
    size: imageSize,
    channels: channels === 1 ? 1 : 3,
    signal,
  });
  const there = [parts.train, parts.test].filter((part) => part !== undefined);
  for (const part of there) check?.(part);
  const features = featuresOf(flags.features ?? 'pca64', there[0]!);
  const real = realPictures(parts, count, seed);
  const digests = there.flatMap((part) => {
    const { pixels, labels } = fingerprint(part);
    return [pixels, labels];
  });
  const data = { name: there.map((part) => part.name).join(', '), digests };
  return { real, judges: real.judges, features, record: await recorded(features, data) };
}
