/** Square blocks of pixels, channel by channel: where each number of a picture goes when blocks are summed. */
import type { Dataset } from '../training/data/dataset.ts';

/** Blocks that cover a picture; those at the right and lower edges may be smaller. */
export interface SquareBlocks {
  /** Blocks, of all channels. */
  readonly count: number;
  /** The block of each number of a picture. */
  readonly blockOf: Uint32Array;
  /** Numbers in each block. */
  readonly sizes: Float64Array;
}

/** Blocks of side x side pixels. */
export function squareBlocks(
  { height, width, channels }: Pick<Dataset, 'height' | 'width' | 'channels'>,
  side: number,
): SquareBlocks {
  const [down, across] = [Math.ceil(height / side), Math.ceil(width / side)];
  const count = down * across * channels;
  const blockOf = Uint32Array.from({ length: height * width * channels }, (_, p) => {
    const [y, x] = [Math.floor(p / channels / width), Math.floor(p / channels) % width];
    return (Math.floor(y / side) * across + Math.floor(x / side)) * channels + (p % channels);
  });
  const sizes = new Float64Array(count);
  for (const block of blockOf) sizes[block]! += 1;
  return { count, blockOf, sizes };
}
