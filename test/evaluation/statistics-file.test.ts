/** Statistics as .npz: written and read again, by NumPy too; whose features they are of; files that are damaged or hostile. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, DataError } from '../../engine/errors.ts';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import {
  type Features,
  pixelFeatures,
  principalFeatures,
  randomFeatures,
  unitImages,
} from '../../evaluation/features.ts';
import {
  checkNetworkOf,
  featuresOfStatistics,
  readStatistics,
  writeStatistics,
} from '../../evaluation/statistics-file.ts';
import { type Written, writeNpz } from '../../formats/npy-write.ts';
import { datasetOf } from '../../training/data/dataset.ts';

const SHAPE = { height: 4, width: 4, channels: 1 };
const data = datasetOf({
  ...{ ...SHAPE, name: 'made', classes: 1 },
  pixels: Uint8Array.from({ length: 16 * 60 }, (_, i) => (i * i * 31 + i * 7) % 251),
  labels: new Uint8Array(60),
});
const images = unitImages(
  data,
  Array.from({ length: 60 }, (_, i) => i),
);
const principal = principalFeatures(data);
const statistics = featureStatistics((await principal.of(images)) as Float32Array, principal.width);
const bytes = await writeStatistics(statistics, principal, SHAPE, 'made');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs Python with NumPy; undefined where there is none. */
function numpy(program: string, ...args: string[]): string | undefined {
  try {
    execFileSync('python3', ['-c', 'import numpy'], { stdio: 'ignore' });
  } catch {
    console.warn('not compared with NumPy: there is no python3 that has it');
    return undefined;
  }
  return execFileSync('python3', ['-c', program, ...args], { encoding: 'utf8' });
}

describe('a file of statistics', () => {
  it('gives back what was written, and the same features without the pictures', async () => {
    const file = readStatistics(bytes, 'f.npz');
    expect([...file.mean]).toEqual([...statistics.mean]);
    expect([...file.covariance]).toEqual([...statistics.covariance]);
    expect(file.about).toMatchObject({ features: { name: 'pca64', width: 16 }, shape: SHAPE, count: 60, data: 'made' });
    const { features, warning } = await featuresOfStatistics(file, SHAPE, undefined, 'f.npz');
    expect(warning).toBeUndefined();
    expect(features.of(images)).toEqual(principal.of(images));
    expect(await writeStatistics(statistics, principal, SHAPE, 'made')).toEqual(bytes);
  });

  it('is read by NumPy, and one of NumPy is read', () => {
    const [ours, theirs] = [join(folder, 'ours.npz'), join(folder, 'theirs.npz')];
    writeFileSync(ours, bytes);
    const said = numpy(
      `import sys, json, numpy as np
d = np.load(sys.argv[1])
print(json.dumps([str(d['mu'].dtype), str(d['sigma'].dtype), d['mu'].tolist(), d['sigma'].tolist(), json.loads(bytes(d['odelt']))['count']]))
np.savez(sys.argv[2], mu=d['mu'].astype(np.float32), sigma=d['sigma'])`,
      ours,
      theirs,
    );
    if (said === undefined) return;
    const [mu, sigma, mean, covariance, count] = JSON.parse(said);
    expect([mu, sigma, count]).toEqual(['float64', 'float64', 60]);
    expect(mean).toEqual([...statistics.mean]);
    expect(covariance.flat()).toEqual([...statistics.covariance]);
    const file = readStatistics(readFileSync(theirs), theirs);
    expect([...file.mean]).toEqual(Array.from(statistics.mean, Math.fround));
    expect(file.about).toBeNull();
  });

  it('of others is taken for features of its width, with a warning', async () => {
    const foreign = (width: number) => {
      const sigma = Float64Array.from({ length: width ** 2 }, (_, i) => Number(i % (width + 1) === 0));
      const arrays = {
        mu: { shape: [width], values: new Float64Array(width) },
        sigma: { shape: [width, width], values: sigma },
      };
      return readStatistics(writeNpz(arrays), 'f.npz');
    };
    const { features, warning } = await featuresOfStatistics(foreign(16), SHAPE, 'pixels', 'f.npz');
    expect([features.name, features.width]).toEqual(['pixels', 16]);
    expect(warning).toBe('f.npz does not say what its features are: they are taken for pixels, as they are 16 wide');
    for (const [width, wanted, message] of [
      [15, 'pixels', 'they are 15 wide, and pixels of 4 x 4 x 1 are 16'],
      [16, undefined, 'f.npz does not say what its features are'],
      [64, 'pca64', 'pca64 are made of the pictures, which it does not have'],
    ] as const) {
      const asked = featuresOfStatistics(foreign(width), SHAPE, wanted, 'f.npz');
      await expect(asked).rejects.toThrow(message);
      await expect(asked).rejects.toThrow(ConfigError);
    }
  });

  it("with ADM's other arrays is read without looking at those", () => {
    const { width, mean, covariance } = statistics;
    const spatial = { shape: [3, 3], values: new Float64Array(9).fill(Number.NaN) };
    const arrays = {
      arr_0: { shape: [2, 4, 4, 3], values: new Uint8Array(96) },
      // Means are float32 where features were.
      mu: { shape: [width], values: Float32Array.from(mean) },
      sigma: { shape: [width, width], values: covariance },
      mu_s: { shape: [3], values: new Float32Array(3) },
      sigma_s: spatial,
    };
    const file = readStatistics(writeNpz(arrays), 'f.npz');
    expect([...file.mean]).toEqual(Array.from(mean, Math.fround));
    expect([...file.covariance]).toEqual([...covariance]);
    expect(file.about).toBeNull();
    const { mu: _, ...lacking } = arrays;
    expect(() => readStatistics(writeNpz(lacking), 'f.npz')).toThrow(
      'f.npz: has no array mu, but arr_0, sigma, mu_s, sigma_s',
    );
  });

  it('of other features, pictures or contents is refused', async () => {
    const file = readStatistics(bytes, 'f.npz');
    const asked = (...args: [typeof SHAPE, 'random' | undefined]) => featuresOfStatistics(file, ...args, 'f.npz');
    await expect(asked(SHAPE, 'random')).rejects.toThrow('--features is random; f.npz has statistics of pca64');
    await expect(asked({ ...SHAPE, channels: 3 }, undefined)).rejects.toThrow(
      'f.npz has statistics of pictures of 4 x 4 x 1; the model makes 4 x 4 x 3',
    );
    const about = file.about!;
    const changed = { ...file, about: { ...about, identity: about.identity!.map((x) => x + 1e-9) } };
    await expect(featuresOfStatistics(changed, SHAPE, undefined, 'f.npz')).rejects.toThrow(
      'f.npz: its features are not what it says they are',
    );
    const cut = { ...file, about: { ...about, identity: about.identity!.subarray(0, 20) } };
    await expect(featuresOfStatistics(cut, SHAPE, undefined, 'f.npz')).rejects.toThrow(DataError);
    const unknown = { ...file, about: { ...about, features: { ...about.features, name: 'other' } } };
    await expect(featuresOfStatistics(unknown, SHAPE, undefined, 'f.npz')).rejects.toThrow(
      /^f\.npz has statistics of other \(SHA-256 [0-9a-f]{12}\.\.\.\), a network in a file of its own$/,
    );
    for (const features of [pixelFeatures(SHAPE), randomFeatures(SHAPE)]) {
      const own = featureStatistics((await features.of(images)) as Float32Array, features.width);
      const again = readStatistics(await writeStatistics(own, features, SHAPE, 'made'), 'f.npz');
      expect((await featuresOfStatistics(again, SHAPE, undefined, 'f.npz')).features.name).toBe(features.name);
    }
  });
});

describe('statistics of a network', () => {
  const network = { ...principal, name: 'net.onnx', identity: undefined, digest: 'ab'.repeat(32) } satisfies Features;
  const named = { ...SHAPE, classes: 2, classNames: ['cat', 'dog'] };
  const of = async (features: Features) =>
    readStatistics(await writeStatistics(statistics, features, named, 'made'), 'f.npz');
  const foreign = { ...statistics, about: null };

  it('say which it is, and what their pictures were of', async () => {
    const record = { name: 'net.onnx', width: 16, digest: network.digest };
    expect((await of(network)).about).toEqual({
      ...{ features: record, shape: SHAPE, count: 60, data: 'made' },
      ...{ classes: 2, classNames: ['cat', 'dog'] },
    });
    expect((await of({ ...network, distance: 'FID' })).about!.features).toEqual({ ...record, distance: 'FID' });
  });

  it('are taken for its features, whatever its file is called, and for no others', async () => {
    const file = await of(network);
    expect(checkNetworkOf(file, { ...network, name: 'renamed.onnx' }, SHAPE, 'f.npz')).toBeUndefined();
    const other = { ...network, name: 'other.onnx', digest: 'cd'.repeat(32) };
    const refused = (...args: Parameters<typeof checkNetworkOf>) => {
      try {
        checkNetworkOf(...args);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        const { message, hint } = error as ConfigError;
        return [message, hint];
      }
      return expect.fail('nothing was refused');
    };
    expect(refused(file, other, SHAPE, 'f.npz')).toEqual([
      '--features is other.onnx (SHA-256 cdcdcdcdcdcd...); f.npz has statistics of net.onnx (SHA-256 abababababab...)',
      'give --features onnx:FILE, or write statistics of other.onnx with odelt stats',
    ]);
    // The same file, but resized otherwise.
    const inception = { ...network, name: 'FID (InceptionV3)', distance: 'FID' } as const;
    expect(refused(await of(inception), network, SHAPE, 'f.npz')).toEqual([
      expect.stringContaining('f.npz has statistics of FID (InceptionV3) (SHA-256 abab'),
      expect.stringContaining('give --features fid:FILE, '),
    ]);
    expect(refused(await of(principal), network, SHAPE, 'f.npz')[1]).toContain('give --features pca64, ');
    expect(refused(file, network, { ...SHAPE, channels: 3 }, 'f.npz')[0]).toBe(
      'f.npz has statistics of pictures of 4 x 4 x 1; the model makes 4 x 4 x 3',
    );
    expect(refused(foreign, { ...inception, width: 2048 }, SHAPE, 'f.npz')).toEqual([
      'f.npz does not say what its features are: they are 16 wide, and FID (InceptionV3) of 4 x 4 x 1 are 2048',
      'compare with statistics of the same features',
    ]);
    expect(checkNetworkOf(foreign, inception, { ...SHAPE, channels: 3 }, 'f.npz')).toBe(
      'f.npz does not say what its features are: they are taken for FID (InceptionV3), as they are 16 wide',
    );
  });

  it('without the network ask for it, and with other features name it', async () => {
    const file = await of({ ...network, name: 'classifier own.safetensors' });
    const asked = (wanted?: 'pca64') => featuresOfStatistics(file, SHAPE, wanted, 'f.npz');
    await expect(asked()).rejects.toMatchObject({
      message:
        'f.npz has statistics of classifier own.safetensors (SHA-256 abababababab...), a network in a file of its own',
      hint: 'give that file: --features classifier:FILE',
    });
    await expect(asked('pca64')).rejects.toMatchObject({
      message: '--features is pca64; f.npz has statistics of classifier own.safetensors',
      hint: 'give --features classifier:FILE',
    });
  });

  it('of a description with other classes than names is refused', async () => {
    const odd = await writeStatistics(statistics, network, { ...named, classes: 3 }, 'made');
    expect(() => readStatistics(odd, 'f.npz')).toThrow('its array odelt does not describe features');
  });
});

const vector = (...values: number[]): Written => ({ shape: [values.length], values: Float64Array.from(values) });
const square = (...values: number[]): Written => ({
  shape: [Math.sqrt(values.length), Math.sqrt(values.length)],
  values: Float64Array.from(values),
});
const [mu, sigma] = [vector(1, 2), square(1, 0.5, 0.5, 1)];

it.each([
  ['no zip', { file: Uint8Array.from([1, 2, 3]) }, 'is damaged or cut short'],
  ['a truncated file', { file: bytes.subarray(0, bytes.length - 40) }, 'is damaged or cut short'],
  ['a file without a covariance', { mu }, 'has no array sigma, but mu'],
  ['integers', { mu: { shape: [2], values: Uint8Array.of(1, 2) }, sigma }, 'mu has no floating-point numbers'],
  ['a mean of two axes', { mu: square(1, 2, 3, 4), sigma }, 'mu is 2 x 2, where a mean has one axis'],
  ['an empty mean', { mu: vector(), sigma: square() }, 'mu is 0, where'],
  [
    'a covariance of another width',
    { mu: vector(1, 2, 3), sigma },
    'sigma is 2 x 2, where a mean of 3 goes with 3 x 3',
  ],
  ['NaN in the mean', { mu: vector(1, Number.NaN), sigma }, 'element 1 of mu is NaN'],
  ['infinity', { mu, sigma: square(1, 0, 0, Number.POSITIVE_INFINITY) }, 'element 3 of sigma is Infinity'],
  ['no symmetry', { mu, sigma: square(1, 0.5, 0.4, 1) }, 'sigma is not symmetric: element 1, 0 is 0.4'],
  ['a variance below zero', { mu, sigma: square(1, 0, 0, -1) }, 'sigma is no covariance: element 1, 1 is -1'],
  ['more covariance than variance', { mu, sigma: square(1, 2, 2, 1) }, 'element 1, 0 is 2, more than the variances'],
  ['a description that is none', { mu, sigma, odelt: vector(1) }, 'its array odelt does not describe features'],
  [
    'a description of other features',
    { mu, sigma, odelt: { shape: [9], values: new TextEncoder().encode('{"a":1.0}') } },
    'its array odelt does not describe features',
  ],
])('%s is refused', (_, arrays, message) => {
  const file = 'file' in arrays ? (arrays.file as Uint8Array) : writeNpz(arrays as Record<string, Written>);
  expect(() => readStatistics(file, 'f.npz')).toThrow(DataError);
  expect(() => readStatistics(file, 'f.npz')).toThrow(message);
});
