/** Numbers of blocks of a request: one throughout, or another from each of several times on. How they are written, and which holds when. */
import { ConfigError } from '../engine/errors.ts';

/** So many blocks from this time on. */
export interface BlocksFrom {
  /** A time in [0, 1); 0 is noise. */
  readonly from: number;
  /** One of the model's allowed lengths. */
  readonly blocks: number;
}

/** How many blocks run: one number throughout, or a list whose times ascend from 0. */
export type Blocks = number | readonly BlocksFrom[];

/**
 * Late blocks evaluated in some steps only: every `every`-th step runs `blocks` of them and keeps what those beyond the request's own
 * `blocks` add before the head; the steps between run the request's blocks and add what was kept.
 */
export interface Refresh {
  /** One of the model's allowed lengths, which the network is told in all steps. */
  readonly blocks: number;
  /** At least 1: all steps. */
  readonly every: number;
}

/**
 * When the weights of blocks are on the GPU that not all evaluations need: from the first on; from before the first evaluation that
 * needs them; or while the evaluations need them, and no longer.
 */
export const LOADING = ['first', 'along', 'needed'] as const;
/** One of `LOADING`. */
export type Loading = (typeof LOADING)[number];

/** How a list is written, in code and in words. */
export const BLOCKS_HINT =
  'the first is from time 0, each other later than the one before, below 1: [{ from: 0, blocks: 4 }, { from: 0.5, blocks: 12 }], or 4@0,12@0.5';

/** The list that says the same. */
export const blocksFrom = (blocks: Blocks): readonly BlocksFrom[] =>
  typeof blocks === 'number' ? [{ from: 0, blocks }] : blocks;

/** The number that holds at time t, from 0 on. */
export const blocksAt = (blocks: Blocks, t: number): number =>
  blocksFrom(blocks).findLast(({ from }) => from <= t)!.blocks;

/** The largest number that occurs. */
export const mostBlocks = (blocks: Blocks): number => Math.max(...blocksFrom(blocks).map((part) => part.blocks));

/** "8", or "4@0,12@0.5". */
export const describeBlocks = (blocks: Blocks): string =>
  typeof blocks === 'number' ? String(blocks) : blocks.map((part) => `${part.blocks}@${part.from}`).join(',');

/**
 * Numbers of blocks as `describeBlocks` writes them; whether they suit a model is not looked at. `option` is what the user calls them.
 * @throws ConfigError for what is not written so
 */
export function parseBlocks(text: string, option = 'blocks'): Blocks {
  if (/^\s*\d+\s*$/.test(text)) return Number(text);
  return text.split(',').map((part) => {
    const match = /^\s*(\d+)@(\d+(?:\.\d+)?|\.\d+)\s*$/.exec(part);
    if (match) return { from: Number(match[2]), blocks: Number(match[1]) };
    throw new ConfigError(`${option} is '${text}'; '${part.trim()}' is no number of blocks from a time on`, {
      hint: 'write one number for all times, like 8, or numbers and the times that they hold from, like 4@0,8@0.5,12@0.8',
    });
  });
}

/** "12:2": 12 blocks in every second step. `option` as for `parseBlocks`. @throws ConfigError for what is not written so. */
export function parseRefresh(text: string, option = 'refresh'): Refresh {
  const match = /^\s*(\d+):(\d+)\s*$/.exec(text);
  if (match) return { blocks: Number(match[1]), every: Number(match[2]) };
  throw new ConfigError(`${option} is '${text}', which is no number of blocks and of steps`, {
    hint: 'write it like 12:2, for 12 blocks in every second step',
  });
}
