/** `odelt stats` of a network's features, their figures against float64, and what `odelt eval --reference` refuses of such files. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readStatistics } from '../../evaluation/statistics-file.ts';
import { sha256 } from '../../formats/bytes.ts';
import { writeNpz } from '../../formats/npy-write.ts';
import { npy } from '../support/archives.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { normals } from '../support/normals.ts';
import { denseOnnx } from '../support/onnx.ts';
import { provideOnnxRuntime } from '../support/onnx-runtime.ts';

/** Pictures of the shipped model's size: more than are looked at once, and no multiple of it. */
const [COUNT, SIDE, WIDTH] = [150, 28, 5];
const size = SIDE ** 2;
const pixels = Uint8Array.from({ length: COUNT * size }, (_, i) => (i * i * 31 + i * 7) % 251);
const weights = Float32Array.from({ length: size * WIDTH }, normals(1));
const network = denseOnnx({ shape: ['N', 1, SIDE, SIDE], weights, outputs: WIDTH });
const digest = await sha256(network);

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  provideOnnxRuntime(cli.folder);
  mkdirSync(join(cli.folder, 'data'));
  const at = (name: string) => join(cli.folder, name);
  writeFileSync(at('data/images.npy'), npy('|u1', [COUNT, SIDE, SIDE], pixels));
  writeFileSync(
    at('data/labels.npy'),
    npy(
      '|u1',
      [COUNT],
      Uint8Array.from({ length: COUNT }, (_, i) => i % 10),
    ),
  );
  writeFileSync(at('net.onnx'), network);
  writeFileSync(
    at('other.onnx'),
    denseOnnx({ shape: ['N', 1, SIDE, SIDE], weights: weights.map((w) => -w), outputs: WIDTH }),
  );
  const sigma = Float64Array.from({ length: WIDTH ** 2 }, (_, i) => Number(i % (WIDTH + 1) === 0));
  const foreign = {
    mu: { shape: [WIDTH], values: new Float64Array(WIDTH) },
    sigma: { shape: [WIDTH, WIDTH], values: sigma },
  };
  writeFileSync(at('foreign.npz'), writeNpz(foreign));
  const about = {
    ...{ features: { name: 'net.onnx', width: WIDTH, digest }, count: COUNT, data: 'pets', classes: 3 },
    shape: { height: SIDE, width: SIDE, channels: 1 },
  };
  const text = new TextEncoder().encode(JSON.stringify(about));
  writeFileSync(at('pets.npz'), writeNpz({ ...foreign, odelt: { shape: [text.length], values: text } }));
});
afterAll(() => cli?.remove());

describe('statistics of a network in ONNX', () => {
  it('are mean and covariance of its answers, with its name and digest', async () => {
    const made = await cli.run('stats', 'data', '--features', 'onnx:net.onnx', '--out', 's.npz', '--json');
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ count: COUNT, features: 'net.onnx', width: WIDTH, digest });
    const { mean, covariance, about } = readStatistics(readFileSync(join(cli.folder, 's.npz')), 's.npz');
    expect(about).toMatchObject({
      ...{ features: { name: 'net.onnx', width: WIDTH, digest }, count: COUNT, classes: 10 },
      shape: { height: SIDE, width: SIDE, channels: 1 },
    });
    // In float64, of pixels from 0 to 255 as numbers from -1 to 1.
    const rows = Array.from({ length: COUNT }, (_, r) =>
      Array.from({ length: WIDTH }, (_, o) => {
        let sum = 0;
        for (let i = 0; i < size; i++) sum += ((2 * pixels[r * size + i]!) / 255 - 1) * weights[i * WIDTH + o]!;
        return sum;
      }),
    );
    const of = (values: number[]) => values.reduce((a, b) => a + b, 0);
    const mu = Array.from({ length: WIDTH }, (_, o) => of(rows.map((row) => row[o]!)) / COUNT);
    const spread = (a: number, b: number) =>
      of(rows.map((row) => (row[a]! - mu[a]!) * (row[b]! - mu[b]!))) / (COUNT - 1);
    for (let a = 0; a < WIDTH; a++) {
      const deviation = Math.sqrt(spread(a, a));
      // A sum of 784 products in float32 is off by some 1e-6 of the features' size.
      expect(Math.abs(mean[a]! - mu[a]!) / deviation).toBeLessThan(1e-5);
      for (let b = 0; b < WIDTH; b++) {
        const both = deviation * Math.sqrt(spread(b, b));
        expect(Math.abs(covariance[a * WIDTH + b]! - spread(a, b)) / both).toBeLessThan(1e-5);
      }
    }
  });

  // No adapter has this name: a command that got as far as asking for one would say so instead.
  it.each([
    [
      ['s.npz'],
      'ConfigError: s.npz has statistics of net.onnx (SHA-256 DIGEST...), a network in a file of its own',
      'give that file: --features onnx:FILE',
    ],
    [
      ['s.npz', '--features', 'onnx:other.onnx'],
      '--features is other.onnx (SHA-256 ',
      'give --features onnx:FILE, or write statistics of other.onnx with odelt stats',
    ],
    [
      ['pets.npz', '--features', 'onnx:net.onnx'],
      "'pets' has 3 classes; the model draws 10",
      'the pictures that the model was trained on',
    ],
    [['s.npz', '--features', 'classifier'], '; s.npz has statistics of net.onnx (SHA-256 DIGEST...)', 'onnx:FILE'],
    [
      ['foreign.npz', '--features', 'classifier'],
      'they are 5 wide, and classifier of 28 x 28 x 1 are 64',
      'compare with statistics of the same features',
    ],
  ])('are refused: --reference %j', async (args, message, hint) => {
    const { code, stderr } = await cli.run('eval', '--adapter', 'none', '--reference', ...args);
    expect(stderr).toContain(message.replace('DIGEST', digest.slice(0, 12)));
    expect(stderr).toContain(hint);
    expect(code).toBe(2);
  });

  it('are taken, and foreign ones with a warning, before an adapter is asked for', async () => {
    for (const [file, said] of [
      ['s.npz', ''],
      [
        'foreign.npz',
        'warning: foreign.npz does not say what its features are: they are taken for net.onnx, as they are 5 wide\n',
      ],
    ] as const) {
      const { stderr } = await cli.run('eval', '--adapter', 'none', '--reference', file, '--features', 'onnx:net.onnx');
      expect(stderr).toContain(`${said}${file} has no pictures: not computed are kid, precision`);
      expect(stderr).toContain("adapter 'none'");
      expect(stderr.includes('warning')).toBe(said !== '');
    }
  });
});

describe('Ctrl-C', () => {
  it.each([
    ['pca64', /^InterruptedError: fitting principal components was interrupted after \d+ of 10000 pictures$/m],
    ['random', /^InterruptedError: stopped after the features of \d+ of 10000 pictures; nothing was written$/m],
  ])('ends the statistics of %s with 130 and says how far they were', async (features, message) => {
    const { code, stderr } = await cli.watch(['stats', '--features', features, '--out', 'stopped.npz'], {
      cwd: cli.folder,
      onStderr: (text, kill) => {
        if (text.endsWith('features of 10000 pictures\n')) kill('SIGINT');
      },
    });
    expect(stderr).toMatch(message);
    expect(code).toBe(130);
    expect(existsSync(join(cli.folder, 'stopped.npz'))).toBe(false);
  });
});
