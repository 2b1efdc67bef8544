/** The fixed two-dimensional sine-cosine position embedding of DiT. */

/**
 * [side * side, width], row-major tokens: the first half of the channels encodes the column ("w first"), the second the
 * row; each half is sines then cosines of position / 10000^(i / (width / 4)).
 */
export function positionEmbedding(side: number, width: number): Float32Array {
  const quarter = width / 4;
  const table = new Float32Array(side * side * width);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const at = (row * side + column) * width;
      for (let i = 0; i < quarter; i++) {
        const frequency = 1 / 10000 ** (i / quarter);
        table[at + i] = Math.sin(column * frequency);
        table[at + quarter + i] = Math.cos(column * frequency);
        table[at + 2 * quarter + i] = Math.sin(row * frequency);
        table[at + 3 * quarter + i] = Math.cos(row * frequency);
      }
    }
  }
  return table;
}
