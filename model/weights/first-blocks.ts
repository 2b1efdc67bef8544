/** The first blocks of a network as a model of its own, with the weights of the whole: what runs where the later blocks are left out. */
import { ConfigError } from '../../engine/errors.ts';
import { allowedLengths, type ModelConfig } from '../config.ts';
import { paramLayout } from '../params.ts';
import type { GroupValues } from './quantize.ts';
import type { GroupSource } from './source.ts';

/** A model's description and where its weights are. */
export interface DescribedModel {
  readonly config: ModelConfig;
  readonly source: GroupSource;
}

/** The description of a model's first `blocks` blocks. @throws ConfigError where that many are no part of it that runs by itself */
function firstBlocksConfig(config: ModelConfig, blocks: number): ModelConfig {
  if (!(Number.isInteger(blocks) && blocks >= 1 && blocks <= config.depth)) {
    throw new ConfigError(`the first ${blocks} blocks were asked for; the model has ${config.depth}`, {
      hint: `give a number from 1 to ${config.depth}`,
    });
  }
  if (config.lengths && !allowedLengths(config).includes(blocks)) {
    throw new ConfigError(`the first ${blocks} blocks were asked for; the model never runs so many`, {
      hint: `it runs ${allowedLengths(config).join(', ')}`,
    });
  }
  return { ...config, depth: blocks };
}

/**
 * The first `blocks` blocks of a model, between its own embedders and head. Of a model with length wiring they are what it computes
 * at that length, to the bit, and the rest of it is gone. Of a conventional transformer they are that transformer cut short: its last
 * layer gets features that it was not trained for.
 * @throws ConfigError where that many are no part of it that runs by itself; `read` throws what that of `source` throws
 */
export function firstBlocks({ config: whole, source }: DescribedModel, blocks: number): DescribedModel {
  const config = firstBlocksConfig(whole, blocks);
  const layout = paramLayout(config);
  const from = layout.groups.map(({ name }) => source.layout.groups.findIndex((group) => group.name === name));
  return {
    config,
    source: {
      layout,
      bytesOf: (group) => source.bytesOf(from[group]!),
      read: async (group, signal) => {
        const values = await source.read(from[group]!, signal);
        const [{ specs, length }, before] = [layout.groups[group]!, source.layout.groups[from[group]!]!];
        if (length === before.length) return values;
        // The table of lengths has a row for every number of blocks: the first ones stay.
        const kept: GroupValues = values instanceof Uint16Array ? new Uint16Array(length) : new Float32Array(length);
        for (const { name, offset, size } of specs) {
          const there = before.specs.find((spec) => spec.name === name)!;
          kept.set(values.subarray(there.offset, there.offset + size), offset);
        }
        return kept;
      },
    },
  };
}
