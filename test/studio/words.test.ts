/** Numbers and errors as the studio says them. */
import { expect, it } from 'vitest';
import { CheckpointError, DeviceLostError, UnsupportedError } from '../../engine/errors.ts';
import { bytes, modelText, time, troubleText } from '../../studio/words.ts';
import { tinyModel } from '../support/tiny.ts';

it('numbers have three digits and a unit that fits', () => {
  expect([0.5, 8.412, 99.96, 840.6, 999.6, 12_345].map(time)).toEqual([
    '0.500 ms',
    '8.41 ms',
    '100 ms',
    '841 ms',
    '1.00 s',
    '12.3 s',
  ]);
  expect([704_000, 999_600, 1_899_000, 3e9].map(bytes)).toEqual(['704 kB', '1.00 MB', '1.90 MB', '3.00 GB']);
});

it('what is open is told with what makes its pictures', () => {
  const model = { config: { ...tinyModel, depth: 12, classes: 10 }, lengths: [] };
  expect(modelText({ model, fileName: null, decoder: null })).toBe(
    'The shipped model, Fashion-MNIST: 8 \u00d7 8 pixels, 12 blocks, 10 classes.',
  );
  const decoder = {
    ...({ fileName: 'vae.pth', shown: { imageSize: 64, channels: 3 }, precision: 'f32', bands: 1, rows: 64 } as const),
    ...{ peakBytes: 1, why: '', warning: 'pictures may look odd' },
  };
  const latent = { ...model, config: { ...model.config, channels: 4 } };
  expect(modelText({ model: latent, fileName: 'dit.safetensors', decoder })).toBe(
    'dit.safetensors: 64 \u00d7 64 pixels, which vae.pth makes of 8 \u00d7 8 latents of 4 channels, 12 blocks, 10 classes. Note: pictures may look odd.',
  );
});

const here = { isSecureContext: true, hasWebGPU: true };
const none = new UnsupportedError('this runtime has no WebGPU');

it.each([
  [new DeviceLostError('the device was lost'), here, /^The GPU was lost: .*\nTry again/],
  [none, { isSecureContext: false, hasWebGPU: false }, /secure pages only\.\nOpen this page at http:\/\/127/],
  [none, { isSecureContext: true, hasWebGPU: false }, /^This browser has no WebGPU/],
  [new UnsupportedError('WebGPU has no adapter on this machine'), here, /found no GPU that it may use/],
  [new UnsupportedError('the driver failed'), here, /^the driver failed$/],
  [
    new CheckpointError('the model is damaged', { hint: 'copy it again' }),
    here,
    /^the model is damaged\ncopy it again$/,
  ],
  ['a text', here, /^a text$/],
])('%s is told in plain words', (error, where, words) => {
  expect(troubleText(error, where)).toMatch(words);
});
