/** Files that are opened together: which is the model, which the autoencoder of its latents. */
import { expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { sortFiles } from '../../studio/chosen-files.ts';
import { foreignWeights } from '../support/autoencoder.ts';
import { latentModelFile, safetensorsOf } from '../support/latents.ts';
import { smallTaesd } from '../support/taesd.ts';

const model = new File([await latentModelFile()], 'model.safetensors');
const vae = new File([await safetensorsOf(foreignWeights(smallTaesd()))], 'vae.safetensors');
const pickled = new File(['PK'], 'taesd_decoder.pth');
const broken = new File(['no model at all'], 'broken.safetensors');
const config = new File(['{}'], 'config.json');

it('is told by what they hold, in any order', async () => {
  expect(await sortFiles([model], true)).toEqual({ model, autoencoder: null });
  for (const files of [
    [model, vae],
    [vae, model],
  ]) {
    const found = await sortFiles(files, false);
    expect([found.model, found.autoencoder]).toEqual([model, { weights: vae, config: null }]);
    expect(found.model!.name).toBe('model.safetensors');
  }
  const three = await sortFiles([config, pickled, model], false);
  expect([three.model!.name, three.autoencoder!.weights.name]).toEqual(['model.safetensors', 'taesd_decoder.pth']);
  expect(three.autoencoder!.config!.name).toBe('config.json');
});

it('an autoencoder alone is for the model that is there; what does not say is what is wanted', async () => {
  for (const file of [vae, pickled]) {
    const { model: none, autoencoder } = await sortFiles([file], false);
    expect([none, autoencoder!.weights.name]).toEqual([null, file.name]);
  }
  expect((await sortFiles([broken], false)).model!.name).toBe('broken.safetensors');
  expect((await sortFiles([broken], true)).autoencoder!.weights.name).toBe('broken.safetensors');
  expect((await sortFiles([config, broken], true)).autoencoder!.config!.name).toBe('config.json');
});

it('more than one of a kind is refused by their names', async () => {
  const second = new File([await latentModelFile()], 'second.safetensors');
  await expect(sortFiles([model, second], true)).rejects.toThrow(
    'model.safetensors and second.safetensors are 2 models',
  );
  await expect(sortFiles([vae, model, pickled], true)).rejects.toThrow(
    'vae.safetensors and taesd_decoder.pth are 2 files that are no models of odelt',
  );
  for (const files of [[config], [model, config]]) {
    const error = await sortFiles(files, true).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ConfigError);
  }
});
