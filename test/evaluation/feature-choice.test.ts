/** How features are named. */
import { expect, it } from 'vitest';
import { askedAs, parseFeatures } from '../../evaluation/feature-choice.ts';

it.each([
  ['pca64', { kind: 'plain', name: 'pca64' }],
  ['auto', { kind: 'auto' }],
  ['classifier', { kind: 'classifier' }],
  ['classifier:runs/mine:2.safetensors', { kind: 'classifier', file: 'runs/mine:2.safetensors' }],
  ['onnx:net.onnx', { kind: 'onnx', file: 'net.onnx' }],
  ['fid:C:\\inception.onnx', { kind: 'fid', file: 'C:\\inception.onnx' }],
])('%s', (text, choice) => {
  expect(parseFeatures(text)).toEqual(choice);
});

it.each([
  [{ name: 'pca64' }, 'pca64'],
  [{ name: 'classifier' }, 'classifier'],
  [{ name: 'classifier mine.safetensors' }, 'classifier:FILE'],
  [{ name: 'net.onnx' }, 'onnx:FILE'],
  [{ name: 'FID (InceptionV3)', distance: 'FID' }, 'fid:FILE'],
] as const)('features called %j are asked for as %s', (features, text) => {
  expect(askedAs(features)).toBe(text);
  expect(() => parseFeatures(text)).not.toThrow();
});

it.each([
  ['onnx', '--features onnx names no file'],
  ['fid:', '--features fid names no file'],
  ['classifier:', '--features classifier names no file'],
  ['pca64:x', "--features is 'pca64:x'; it must be one of pca64, pixels, random, classifier, classifier:FILE"],
  ['inception', "--features is 'inception'; it must be one of pca64"],
])('%s is refused', (text, message) => {
  expect(() => parseFeatures(text)).toThrow(message);
});
