/**
 * Statistics of real pictures' features as NumPy's `.npz`: `mu` and `sigma` in float64, as the reference and ADM's scripts have them, and
 * beside them what the features are, so that samples are not compared by others. A file without that is anybody's. Other arrays are left
 * alone: ADM's reference batches have 10,000 pictures beside their statistics.
 */
import { ConfigError, DataError } from '../engine/errors.ts';
import { sha256 } from '../formats/bytes.ts';
import { type NpyArray, readNpz } from '../formats/npy.ts';
import { type Written, writeNpz } from '../formats/npy-write.ts';
import { askedAs } from './feature-choice.ts';
import type { FeatureStatistics } from './feature-statistics.ts';
import {
  type FeatureName,
  type Features,
  type PictureShape,
  pixelFeatures,
  principalFeaturesAgain,
  randomFeatures,
} from './features.ts';
import type { FeatureRecord } from './results.ts';

/** Statistics from a file, and what it says of them; a foreign file says nothing. */
export interface StatisticsFile {
  readonly mean: Float64Array;
  readonly covariance: Float64Array;
  readonly width: number;
  readonly about: {
    readonly features: FeatureRecord;
    readonly shape: PictureShape;
    /** Pictures, and the name of the set that they are of. */
    readonly count: number;
    readonly data: string;
    /** Classes of that set, and their names, where it says them. */
    readonly classes?: number;
    readonly classNames?: readonly string[];
    /** What the features were made of (`Features.identity`), if anything. */
    readonly identity?: Float64Array;
  } | null;
}

/** Most bytes that the arrays of a file unpack to: those of features 8,192 wide, and their identity. */
const MOST_BYTES = 2 ** 30;
const ARRAYS = ['mu', 'sigma', 'odelt', 'odelt_identity'];
/** Relative difference of what should be equal: of float32, in which some programs compute covariances. */
const ROUNDING = 1e-5;
const HINT = 'write it with odelt stats, or with numpy.savez(file, mu=mean, sigma=covariance)';

/** SHA-256 of what features are: of a network its file's, else of their name, width, the pictures' shape and what they were made of. */
export async function featuresDigest(
  { name, width, identity, digest }: Features,
  shape: PictureShape,
): Promise<string> {
  if (digest !== undefined) return digest;
  const { height, width: across, channels } = shape;
  const own = identity
    ? await sha256(new Uint8Array(identity.buffer as ArrayBuffer, identity.byteOffset, identity.byteLength))
    : '';
  return sha256(new TextEncoder().encode(JSON.stringify([name, width, height, across, channels, own])));
}

/** The bytes of a file of statistics of these features, of pictures of this shape and these classes; `data` names the set that they are of. */
export async function writeStatistics(
  { count, width, mean, covariance }: FeatureStatistics,
  features: Features,
  {
    height,
    width: across,
    channels,
    classes,
    classNames,
  }: PictureShape & Pick<NonNullable<StatisticsFile['about']>, 'classes' | 'classNames'>,
  data: string,
): Promise<Uint8Array> {
  const shape = { height, width: across, channels };
  const digest = await featuresDigest(features, shape);
  const { name, distance } = features;
  const about = { features: { name, width, digest, distance }, shape, count, data, classes, classNames };
  const text = new TextEncoder().encode(JSON.stringify(about));
  const arrays: Record<string, Written> = {
    mu: { shape: [width], values: mean },
    sigma: { shape: [width, width], values: covariance },
    odelt: { shape: [text.length], values: text },
  };
  const { identity } = features;
  if (identity) arrays.odelt_identity = { shape: [identity.length], values: identity };
  return writeNpz(arrays);
}

/** Statistics in the bytes of a `.npz` file called `name`. @throws DataError; LimitError for arrays beyond 1 GiB */
export function readStatistics(file: Uint8Array, name: string): StatisticsFile {
  const refuse = (problem: string): never => {
    throw new DataError(`${name}: ${problem}`, { hint: HINT });
  };
  const there: string[] = [];
  const arrays = readNpz(file, name, MOST_BYTES, (array) => {
    there.push(array);
    return ARRAYS.includes(array);
  });
  const floats = (key: string): NpyArray => {
    const array = arrays.get(key);
    if (!array) return refuse(`has no array ${key}, but ${there.slice(0, 10).join(', ') || 'none at all'}`);
    return array.header.kind === 'f' ? array : refuse(`${key} has no floating-point numbers`);
  };
  const [mu, sigma] = [floats('mu'), floats('sigma')];
  const [dims, square] = [mu.header.shape, sigma.header.shape];
  const width = dims[0] ?? 0;
  if (dims.length !== 1 || width === 0) refuse(`mu is ${dims.join(' x ') || 'a number'}, where a mean has one axis`);
  if (square.length !== 2 || square[0] !== width || square[1] !== width)
    refuse(`sigma is ${square.join(' x ') || 'a number'}, where a mean of ${width} goes with ${width} x ${width}`);
  const [mean, covariance] = [mu, sigma].map(({ values }) => Float64Array.from(values)) as [Float64Array, Float64Array];
  for (const [key, values] of [
    ['mu', mean],
    ['sigma', covariance],
  ] as const) {
    const odd = values.findIndex((x) => !Number.isFinite(x));
    if (odd >= 0) refuse(`element ${odd} of ${key} is ${values[odd]}`);
  }
  checkCovariance(covariance, width, refuse);
  return { mean, covariance, width, about: aboutIn(arrays, width, refuse) };
}

/** Makes exactly symmetric what is symmetric but for rounding; refuses what no covariance can be. */
function checkCovariance(covariance: Float64Array, width: number, refuse: (problem: string) => never): void {
  const at = (i: number, j: number) => covariance[i * width + j]!;
  for (let i = 0; i < width; i++) {
    if (at(i, i) < 0) refuse(`sigma is no covariance: element ${i}, ${i} is ${at(i, i)}`);
    for (let j = 0; j < i; j++) {
      const size = Math.sqrt(Math.max(0, at(i, i)) * Math.max(0, at(j, j)));
      if (Math.abs(at(i, j) - at(j, i)) > ROUNDING * size)
        refuse(`sigma is not symmetric: element ${i}, ${j} is ${at(i, j)} and element ${j}, ${i} is ${at(j, i)}`);
      const both = (at(i, j) + at(j, i)) / 2;
      if (Math.abs(both) > (1 + ROUNDING) * size)
        refuse(
          `sigma is no covariance: element ${i}, ${j} is ${both}, more than the variances ${at(i, i)} and ${at(j, j)} allow`,
        );
      covariance[i * width + j] = covariance[j * width + i] = both;
    }
  }
}

/** What the file says of itself; null where it says nothing. */
function aboutIn(
  arrays: ReadonlyMap<string, NpyArray>,
  width: number,
  refuse: (problem: string) => never,
): StatisticsFile['about'] {
  const text = arrays.get('odelt');
  if (!text) return null;
  const wrong = () => refuse('its array odelt does not describe features');
  if (!(text.values instanceof Uint8Array)) return wrong();
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(text.values));
  } catch {
    return wrong();
  }
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;
  if (!isObject(json) || !isObject(json.features) || !isObject(json.shape)) return wrong();
  const { features, shape, count, data, classes, classNames } = json;
  const { height, width: across, channels } = shape as Record<string, unknown>;
  const { name, width: wide, digest, distance } = features as Record<string, unknown>;
  if (typeof name !== 'string' || typeof digest !== 'string' || typeof data !== 'string') return wrong();
  if (!isCount(count) || !isCount(height) || !isCount(across) || !isCount(channels)) return wrong();
  if (distance !== undefined && distance !== 'FID') return wrong();
  if (classes !== undefined && !isCount(classes)) return wrong();
  const areNames = (list: unknown): list is string[] =>
    Array.isArray(list) && list.length === classes && list.every((each) => typeof each === 'string');
  if (classNames !== undefined && !areNames(classNames)) return wrong();
  if (wide !== width) refuse(`says that its features are ${wide} wide, and has a mean of ${width}`);
  const identity = arrays.get('odelt_identity')?.values;
  if (identity !== undefined && !(identity instanceof Float64Array)) return wrong();
  return {
    ...{ features: { name, width, digest, ...(distance && { distance }) }, count, data },
    shape: { height, width: across, channels },
    ...(classes !== undefined && { classes }),
    ...(classNames && { classNames }),
    ...(identity ? { identity } : {}),
  };
}

const sized = ({ height, width, channels }: PictureShape) => `${height} x ${width} x ${channels}`;

/** @throws ConfigError for statistics of pictures of another shape than samples have */
function checkShape(of: PictureShape, samples: PictureShape, name: string): void {
  if (sized(of) === sized(samples)) return;
  throw new ConfigError(`${name} has statistics of pictures of ${sized(of)}; the model makes ${sized(samples)}`, {
    hint: 'give statistics of the pictures that the model was trained on',
  });
}

/** What an error or a warning says of a foreign file. */
const foreign = (name: string) => `${name} does not say what its features are`;

/** @throws ConfigError for a foreign file's statistics of another width than these features have; else the warning */
function takenFor(
  { name: features, width }: Pick<Features, 'name' | 'width'>,
  found: number,
  shape: PictureShape,
  name: string,
): string {
  if (width === found) return `${foreign(name)}: they are taken for ${features}, as they are ${width} wide`;
  throw new ConfigError(`${foreign(name)}: they are ${found} wide, and ${features} of ${sized(shape)} are ${width}`, {
    hint: 'compare with statistics of the same features',
  });
}

/** A network as errors call it. */
const called = ({ name, digest }: Pick<Features, 'name' | 'digest'>) =>
  digest === undefined ? name : `${name} (SHA-256 ${digest.slice(0, 12)}...)`;

/**
 * Whether statistics are of the features of this network, for samples of this shape. It may be called otherwise: its digest counts, and
 * whether it makes FID. A foreign file's are taken for them by their width; then this gives a warning. `name` is the file.
 * @throws ConfigError for another network, other pictures, or another width
 */
export function checkNetworkOf(
  { about, width }: StatisticsFile,
  network: Pick<Features, 'name' | 'width' | 'digest' | 'distance'>,
  shape: PictureShape,
  name: string,
): string | undefined {
  if (!about) return takenFor(network, width, shape, name);
  const { features } = about;
  if (features.digest !== network.digest || features.distance !== network.distance) {
    throw new ConfigError(`--features is ${called(network)}; ${name} has statistics of ${called(features)}`, {
      hint: `give --features ${askedAs(features)}, or write statistics of ${network.name} with odelt stats`,
    });
  }
  checkShape(about.shape, shape, name);
  return undefined;
}

/**
 * The features without a network that statistics are of, for samples of this shape; a foreign file's are those `wanted`, by their width,
 * which is the `warning`. `name` is the file.
 * @throws ConfigError for other features than wanted, other pictures, or a foreign file's that are not known; DataError for a damaged file
 */
export async function featuresOfStatistics(
  { about, width }: StatisticsFile,
  { height, width: across, channels }: PictureShape,
  wanted: FeatureName | undefined,
  name: string,
): Promise<{ features: Features; warning?: string }> {
  const shape = { height, width: across, channels };
  const known = { pixels: pixelFeatures, random: randomFeatures } as const;
  if (!about) {
    const own = foreign(name);
    if (wanted === undefined)
      throw new ConfigError(own, {
        hint: `--features may say it: fid:FILE, onnx:FILE, classifier[:FILE], ${Object.keys(known).join(' or ')}`,
      });
    if (!Object.hasOwn(known, wanted)) {
      throw new ConfigError(`${own}, and ${wanted} are made of the pictures, which it does not have`, {
        hint: 'write it with odelt stats, which keeps what they were made of',
      });
    }
    const features = known[wanted as keyof typeof known](shape);
    return { features, warning: takenFor(features, width, shape, name) };
  }
  const recorded = about.features.name;
  if (wanted !== undefined && wanted !== recorded)
    throw new ConfigError(`--features is ${wanted}; ${name} has statistics of ${recorded}`, {
      hint: `give --features ${askedAs(about.features)}`,
    });
  checkShape(about.shape, shape, name);
  const damaged = (cause?: unknown): never => {
    throw new DataError(`${name}: its features are not what it says they are`, {
      cause,
      hint: 'it is damaged, or was written by a version with other features: write it again with odelt stats',
    });
  };
  let features: Features;
  if (recorded === 'pca64') {
    try {
      features = principalFeaturesAgain(shape, about.identity ?? damaged());
    } catch (cause) {
      return damaged(cause);
    }
  } else if (Object.hasOwn(known, recorded)) features = known[recorded as keyof typeof known](shape);
  else {
    throw new ConfigError(`${name} has statistics of ${called(about.features)}, a network in a file of its own`, {
      hint: `give that file: --features ${askedAs(about.features)}`,
    });
  }
  if ((await featuresDigest(features, shape)) !== about.features.digest) damaged();
  return { features };
}
