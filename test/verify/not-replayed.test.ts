/** Recordings that no case reads: each is named once, with the reason. */
import { expect, it } from 'vitest';
import type { GoldenDir } from '../../verify/golden.ts';
import { notReplayed } from '../../verify/not-replayed.ts';

/** A directory with models in these folders. */
function directory(models: readonly string[], paths: readonly string[]): GoldenDir {
  const fail = () => Promise.reject(new Error('nothing is to be read'));
  return {
    path: '/golden',
    folders: models.map((path) => ({ name: path, path, open: fail })),
    files: new Map(paths.map((path) => [path, 1])),
    json: fail,
    bytes: fail,
  };
}

it('lists what is left by folder and reason', () => {
  const golden = directory(
    ['a/', 'large/'],
    [
      ...['README.md', 'MANIFEST.json', 'strange.bin'],
      ...['a/config.json', 'a/forward.safetensors', 'a/targets_other.safetensors', 'a/targets_another.safetensors'],
      ...['a/train_trajectory_noise.json', 'a/sampling_float64.safetensors', 'a/forward_strong.json'],
      ...['a/more/deep/x.bin', 'a/more/y.bin', 'large/config.json', 'large/forward.safetensors'],
      ...['vae/kl/config.json', 'vae/io.safetensors', 'vae/README.md', 'torch/dit.pt'],
    ],
  );
  const used = new Set(['a/config.json', 'a/forward.safetensors']);
  expect(notReplayed(golden, used, new Set(['large/']))).toEqual([
    'strange.bin (no case reads it)',
    'a/targets_another.safetensors, a/targets_other.safetensors (objectives that odelt does not know)',
    'a/more/: 2 files (there is no config.json of a model in it)',
    'vae/: 2 files (there is no config.json of a model in it)',
    'torch/: 1 file (there is no config.json of a model in it)',
  ]);
});

it('says nothing where all is read, also where the directory is itself the model', () => {
  const golden = directory([''], ['config.json', 'forward.safetensors']);
  expect(notReplayed(golden, new Set(['config.json', 'forward.safetensors']), new Set())).toEqual([]);
  expect(notReplayed(golden, new Set(), new Set(['']))).toEqual([]);
});
