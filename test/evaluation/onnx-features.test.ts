/** Features of ONNX networks: what they are given, what of their answers becomes features, what is refused; with the real runtime where it is. */

import { rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import {
  loadOnnxRuntime,
  type OnnxRuntime,
  type OnnxTensor,
  onnxFeatures,
  pictureInput,
} from '../../evaluation/onnx-features.node.ts';
import { sha256 } from '../../formats/bytes.ts';
import { normals } from '../support/normals.ts';
import { denseOnnx } from '../support/onnx.ts';
import { scratch } from '../support/repository.ts';

let folder: string;
beforeAll(() => {
  folder = scratch();
});
afterAll(() => rmSync(folder, { recursive: true }));
const write = (bytes: Uint8Array, name = 'net.onnx') => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};

const grey = { height: 2, width: 2, channels: 1 };

/** A runtime whose networks say what they were given: a row of the first `width` numbers for each picture. */
function echo(width: number, seen: OnnxTensor[] = [], change: Partial<OnnxTensor> = {}): OnnxRuntime {
  class Tensor implements OnnxTensor {
    readonly type: 'float32';
    readonly data: Float32Array;
    readonly dims: readonly number[];
    constructor(type: 'float32', data: Float32Array, dims: readonly number[]) {
      this.type = type;
      this.data = data;
      this.dims = dims;
    }
  }
  const run = async (feeds: Record<string, OnnxTensor>) => {
    const given = feeds.pictures!;
    seen.push(given);
    const [rows, ...sides] = given.dims as [number, ...number[]];
    const size = sides.reduce((a, b) => a * b);
    const data = new Float32Array(rows * width);
    for (let i = 0; i < data.length; i++)
      data[i] = (given.data as Float32Array)[Math.floor(i / width) * size + (i % width)]!;
    return { features: { type: 'float32', dims: [rows, width, 1], data, ...change } };
  };
  return { InferenceSession: { create: async () => ({ run }) }, Tensor };
}

const network = (shape: readonly (number | string)[], more = {}) =>
  denseOnnx({ shape, weights: new Float32Array(12), outputs: 1, ...more });

describe('what a network is given', () => {
  it('is clipped after it is resized, planes or channels last, grey thrice or colours as grey', () => {
    const to = { name: 'x', batch: undefined, height: 1, width: 2, channels: 3 };
    const image = Float32Array.of(-3, 0.5, 1, 0.25);
    // Rows are averaged: (-3 + 1) / 2 = -1 and (0.5 + 0.25) / 2. Clipped first it would be (-1 + 1) / 2.
    const planes = pictureInput(image, grey, { ...to, planes: true });
    expect([...planes]).toEqual([-1, 0.375, -1, 0.375, -1, 0.375]);
    const last = pictureInput(image, grey, { ...to, planes: false });
    expect([...last]).toEqual([-1, -1, -1, 0.375, 0.375, 0.375]);
    const colour = { height: 1, width: 1, channels: 3 };
    const one = pictureInput(Float32Array.of(1, 0, -1), colour, { ...to, width: 1, channels: 1, planes: true });
    expect(one[0]).toBeCloseTo(0.299 - 0.114, 6);
  });

  it('has the size that its file says, in batches, and its answers become rows', async () => {
    const seen: OnnxTensor[] = [];
    const bytes = network(['N', 1, 4, 4]);
    const { features } = await onnxFeatures(write(bytes), grey, { runtime: echo(3, seen) });
    expect(features).toMatchObject({ name: 'net.onnx', width: 3, digest: await sha256(bytes) });
    expect(features.distance).toBeUndefined();
    const images = Float32Array.from({ length: 40 * 4 }, (_, i) => i / 160);
    const found = await features.of(images);
    expect(seen.map(({ dims }) => dims)).toEqual([
      [1, 1, 4, 4],
      [32, 1, 4, 4],
      [8, 1, 4, 4],
    ]);
    expect(found.length).toBe(40 * 3);
    expect(found[35 * 3]).toBe(images[35 * 4]); // the upper left pixel
  });

  it('is as many as its file says, the last of them nothing', async () => {
    const seen: OnnxTensor[] = [];
    const { features } = await onnxFeatures(write(network([3, 2, 2, 1])), grey, { runtime: echo(4, seen) });
    const images = Float32Array.from({ length: 5 * 4 }, (_, i) => i / 20);
    expect(await features.of(images)).toEqual(images);
    expect(seen.map(({ dims }) => dims[0])).toEqual([3, 3, 3]);
  });
});

describe('FID', () => {
  it('is what distances are called only of a network of its form', async () => {
    const seen: OnnxTensor[] = [];
    const file = write(network(['N', 3, 'H', 'W']));
    const { features } = await onnxFeatures(file, grey, { fid: true, runtime: echo(2048, seen) });
    expect(features).toMatchObject({ name: 'FID (InceptionV3)', distance: 'FID', width: 2048 });
    expect(seen[0]!.dims).toEqual([1, 3, 299, 299]);
    await expect(onnxFeatures(file, grey, { fid: true, runtime: echo(10) })).rejects.toThrow(
      'gives 10 numbers; the InceptionV3 of FID takes 299 x 299 x 3 and gives 2048 numbers',
    );
    const small = onnxFeatures(write(network([1, 3, 224, 224])), grey, { fid: true, runtime: echo(2048) });
    await expect(small).rejects.toThrow('takes 224 x 224 x 3; the InceptionV3 of FID');
  });
});

describe('what is refused', () => {
  it.each([
    [network(['N', 3, 4, 4], { secondInput: true }), 'takes 2 inputs: pictures, mask'],
    [network(['N', 3, 4, 4], { type: 10 }), "takes elements of ONNX's type 10 at 'pictures'; pictures are float32 (1)"],
    [network(['N', 12]), "takes [?, 12] at 'pictures', which is no batch of pictures"],
    [network(['N', 2, 4, 4]), 'neither second nor last are 1 or 3 channels'],
    [network(['N', 1, 4, 4]).subarray(0, 80), 'is no whole ONNX model: it ends within a field'],
    [new TextEncoder().encode('<html>not found</html>'), 'is no whole ONNX model'],
  ])('%#', async (bytes, message) => {
    const opening = onnxFeatures(write(bytes), grey, { runtime: echo(1) });
    await expect(opening).rejects.toThrow(CheckpointError);
    await expect(opening).rejects.toThrow(message);
  });

  it('answers that are no rows of float32, or not finite', async () => {
    const file = write(network(['N', 1, 2, 2]));
    const wrong = onnxFeatures(file, grey, { runtime: echo(2, [], { dims: [7, 2] }) });
    await expect(wrong).rejects.toThrow('gives [7,2] of float32 for 1 pictures');
    const whole = onnxFeatures(file, grey, { runtime: echo(2, [], { type: 'int64', data: new BigInt64Array(2) }) });
    await expect(whole).rejects.toThrow('of int64 for 1 pictures');
    const { features } = await onnxFeatures(file, grey, { runtime: echo(2) });
    await expect(features.of(Float32Array.of(0, 0, 0, 0, 0, Number.NaN, 0, 0))).rejects.toThrow(
      'gives NaN for picture 1',
    );
  });

  it('a file that is not there, and a package that is not installed', async () => {
    await expect(onnxFeatures(join(folder, 'nowhere.onnx'), grey)).rejects.toThrow(/nowhere\.onnx cannot be read/);
    const loading = loadOnnxRuntime('onnxruntime-that-nobody-has');
    await expect(loading).rejects.toThrow(ConfigError);
    await expect(loading).rejects.toMatchObject({
      message: 'features of an ONNX network need the package onnxruntime-that-nobody-has, which is not installed',
      hint: expect.stringContaining('npm install onnxruntime-that-nobody-has'),
    });
  });
});

describe('onnxruntime-node', async () => {
  // Not by importing it: Vite has a message of its own for an optional peer that is missing.
  let runtime: OnnxRuntime | undefined;
  try {
    createRequire(import.meta.url).resolve('onnxruntime-node');
    runtime = await loadOnnxRuntime();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
  }
  it('runs a network, and refuses one that it cannot run', async ({ skip }) => {
    skip(runtime === undefined, 'onnxruntime-node is not installed: npm install --no-save onnxruntime-node');
    const weights = Float32Array.from({ length: 4 * 3 }, normals(1));
    const file = write(denseOnnx({ shape: ['N', 1, 2, 2], weights, outputs: 3 }));
    const { features, close } = await onnxFeatures(file, grey);
    const images = Float32Array.from({ length: 50 * 4 }, normals(2)).map((x) => Math.max(-1, Math.min(1, x)));
    const found = await features.of(images);
    expect([features.width, found.length]).toEqual([3, 150]);
    for (let i = 0; i < 150; i++) {
      const want = [0, 1, 2, 3].reduce((s, p) => s + images[Math.floor(i / 3) * 4 + p]! * weights[p * 3 + (i % 3)]!, 0);
      expect(found[i]).toBeCloseTo(want, 5);
    }
    await close();
    // The weights are for four numbers of a picture.
    const other = onnxFeatures(write(denseOnnx({ shape: ['N', 1, 3, 3], weights, outputs: 3 }), 'other.onnx'), grey);
    await expect(other).rejects.toThrow(CheckpointError);
  });
});
