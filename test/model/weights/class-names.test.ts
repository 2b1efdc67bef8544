/** Names of classes in model files: kept, optional, and not believed when they are something else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { preset } from '../../../model/config.ts';
import { classNamesOf, modelMetadata, parseModelFile } from '../../../model/weights/model-file.ts';

const config = preset('tiny', { classes: 2 });
const of = (text: string) => classNamesOf({ config, metadata: new Map([['odelt.classes', text]]) }, 'm.safetensors');

describe('names of classes', () => {
  it('are kept in the metadata, where there is one per class', () => {
    const names = ['cat', 'dog\n"\u001b'];
    const read = (given?: readonly string[]) =>
      classNamesOf({ config, metadata: new Map(Object.entries(modelMetadata(config, {}, given))) }, 'm');
    expect(read(names)).toEqual(names);
    expect(read(undefined)).toBeUndefined();
    expect(read(['one'])).toBeUndefined();
  });

  it.each([
    ['[', 'are no JSON'],
    ['{"0":"cat","1":"dog"}', 'are no list of strings'],
    ['"ab"', 'are no list of strings'],
    ['["cat",1]', 'are no list of strings'],
    ['["cat"]', 'are 1, for 2 classes'],
    [JSON.stringify(['cat', 'x'.repeat(1001)]), 'hold one of 1001 characters; 1000 are allowed'],
  ])('of %s are refused', (text, problem) => {
    expect(() => of(text)).toThrow(
      expect.objectContaining({
        name: 'CheckpointError',
        message: `m.safetensors: its class names (metadata 'odelt.classes') ${problem}`,
      }),
    );
  });

  it('are in the shipped model', async () => {
    const file = 'models/fashion-mnist.safetensors';
    const model = await parseModelFile(readFileSync(join(import.meta.dirname, '../../..', file)), file);
    expect(classNamesOf(model, file)?.slice(7)).toEqual(['Sneaker', 'Bag', 'Ankle boot']);
  });
});
