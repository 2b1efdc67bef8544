/** The first blocks of a model: which weights they have, and what is refused. */
import { describe, expect, it } from 'vitest';
import { parseModelConfig } from '../../model/config.ts';
import { initParams, paramsByName } from '../../model/params.ts';
import { firstBlocks } from '../../model/weights/first-blocks.ts';
import { memorySource, readParams } from '../../model/weights/source.ts';
import { tinyModel } from '../support/tiny.ts';

describe('the first blocks of a model', () => {
  for (const [kind, config] of Object.entries({
    conventional: parseModelConfig({ ...tinyModel, lengths: null }),
    wired: tinyModel,
  })) {
    it(`of a ${kind} one have its weights, and those of no later block`, async () => {
      const params = initParams(config, 3);
      const cut = firstBlocks({ config, source: memorySource(params) }, 2);
      expect(cut.config).toEqual({ ...config, depth: 2 });
      const [all, kept] = [paramsByName(params), paramsByName(await readParams(cut.source))];
      expect([...kept.keys()]).toEqual([...all.keys()].filter((name) => !/DiTBlock_[23]/.test(name)));
      for (const [name, values] of kept) {
        expect(values, name).toEqual(all.get(name)!.subarray(0, values.length));
        if (!name.startsWith('BlockEmbedder')) expect(values.length).toBe(all.get(name)!.length);
        else expect(values.length).toBe(3 * config.width);
      }
    });
  }

  it('must be some that run by themselves', () => {
    const source = memorySource(initParams(tinyModel, 1));
    expect(() => firstBlocks({ config: tinyModel, source }, 3)).toThrow(
      'the first 3 blocks were asked for; the model never runs so many',
    );
    expect(() => firstBlocks({ config: tinyModel, source }, 5)).toThrow(
      'the first 5 blocks were asked for; the model has 4',
    );
  });
});
