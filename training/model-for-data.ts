/** The model that a preset becomes for given pictures: their size, channels and classes, the preset's everything else. */
import { ConfigError } from '../engine/errors.ts';
import { type ModelConfig, preset } from '../model/config.ts';
import type { DataShape } from './data/dataset.ts';

/** @throws ConfigError for data that a model cannot be trained on: pictures of another size, or more classes. */
export function checkFits(model: Pick<ModelConfig, 'imageSize' | 'channels' | 'classes'>, data: DataShape): void {
  const name = `'${data.name}'`;
  if (data.height !== model.imageSize || data.width !== model.imageSize || data.channels !== model.channels) {
    throw new ConfigError(
      `the model takes ${model.imageSize}x${model.imageSize}x${model.channels} pictures; ${name} has ${data.height}x${data.width}x${data.channels}`,
      { hint: 'give the data that the model was made for, or make the model with modelForData' },
    );
  }
  if (data.classes > model.classes) {
    throw new ConfigError(`${name} has ${data.classes} classes; the model has ${model.classes}`);
  }
}

/** @throws ConfigError for pictures that what the model draws cannot be compared with: of another size, or of fewer classes than it draws. */
export function checkComparable(model: ModelConfig, data: DataShape): void {
  checkFits(model, { ...data, classes: model.classes });
  if (model.unconditional || data.classes >= model.classes) return;
  throw new ConfigError(`'${data.name}' has ${data.classes} classes; the model draws ${model.classes}`, {
    hint: 'give --data the pictures that the model was trained on',
  });
}

/**
 * The preset with imageSize, channels and classes of the data, and the overrides. An override of those three says what is
 * expected, and must agree with the data (classes may be more, to keep labels for later).
 * @throws ConfigError where it does not, for pictures that are not square, and for what makes no model, such as a patch that does
 * not divide the pictures.
 */
export function modelForData(presetName: string, data: DataShape, overrides: Partial<ModelConfig> = {}): ModelConfig {
  const { height, width, channels } = data;
  const name = `'${data.name}'`;
  if (height !== width) {
    throw new ConfigError(`the pictures of ${name} are ${height} x ${width}; models take square ones`, {
      hint: 'make them square, or put them as files into a folder per class: those are cropped',
    });
  }
  const wanted = { imageSize: height, channels, classes: data.classes };
  const sizes = `${height} x ${width} x ${channels}`;
  if ((overrides.imageSize ?? height) !== height) {
    throw new ConfigError(`model.imageSize is ${overrides.imageSize}; the pictures of ${name} are ${sizes}`, {
      hint: 'leave model.imageSize out: only folders of pictures are brought to another size',
    });
  }
  if ((overrides.channels ?? channels) !== channels) {
    throw new ConfigError(`model.channels is ${overrides.channels}; the pictures of ${name} are ${sizes}`, {
      hint: 'leave model.channels out: only folders of pictures are made grey or coloured',
    });
  }
  if ((overrides.classes ?? data.classes) < data.classes) {
    throw new ConfigError(`model.classes is ${overrides.classes}; ${name} has ${data.classes}`, {
      hint: 'leave model.classes out',
    });
  }
  return preset(presetName, { ...wanted, ...overrides });
}
