/** Bilinear resizing without antialiasing, as FID is computed with: each new pixel is a mean of the four that are nearest to its centre. */

/** Sides of pictures [height, width, channels]. */
export interface Sides {
  readonly height: number;
  readonly width: number;
}

/** For each new place: the two old ones that it lies between, and the second one's share. Beyond the edge the edge goes on. */
function taps(from: number, to: number): { low: Uint32Array; high: Uint32Array; share: Float64Array } {
  const [low, high, share] = [new Uint32Array(to), new Uint32Array(to), new Float64Array(to)];
  for (let i = 0; i < to; i++) {
    const at = Math.min(from - 1, Math.max(0, ((i + 0.5) * from) / to - 0.5));
    low[i] = Math.floor(at);
    high[i] = Math.min(from - 1, low[i]! + 1);
    share[i] = at - low[i]!;
  }
  return { low, high, share };
}

/** Pictures [count, from.height, from.width, channels] in the new size; computed in float64. */
export function resizeBilinear(images: Float32Array, from: Sides, to: Sides, channels: number): Float32Array {
  const [rows, columns] = [taps(from.height, to.height), taps(from.width, to.width)];
  const [size, target] = [from.height * from.width * channels, to.height * to.width * channels];
  const out = new Float32Array((images.length / size) * target);
  for (let start = 0, at = 0; start < images.length; start += size) {
    for (let y = 0; y < to.height; y++) {
      const [above, below] = [rows.low, rows.high].map((r) => start + r[y]! * from.width * channels);
      const down = rows.share[y]!;
      for (let x = 0; x < to.width; x++) {
        const [left, right] = [columns.low[x]! * channels, columns.high[x]! * channels];
        const across = columns.share[x]!;
        for (let c = 0; c < channels; c++) {
          const upper = images[above! + left + c]! * (1 - across) + images[above! + right + c]! * across;
          const lower = images[below! + left + c]! * (1 - across) + images[below! + right + c]! * across;
          out[at++] = upper * (1 - down) + lower * down;
        }
      }
    }
  }
  return out;
}
