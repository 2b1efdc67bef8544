/** Tables of numbers as pictures. */
import { expect, it } from 'vitest';
import { heatMap } from '../../pictures/heat-map.ts';

const cellWidths = (line: string) => {
  const svg = heatMap({
    ...{ title: 'a table', row: 'blocks', column: 'steps', rowLabels: ['4'], columnLabels: ['1', '2'] },
    ...{ values: [[1, Number.NaN]], text: (_, column) => (column === 0 ? ['1', line] : expect.fail()) },
  });
  return [...svg.matchAll(/<rect x="(\d+)" y="\d+" width="(\d+)"/g)].map(([, x, width]) => [Number(x), Number(width)]);
};

it('cells are as wide as their longest line, in the widest font', () => {
  expect(cellWidths('0.9 to 1.1')).toEqual([[96, 150]]);
  // 175 pixels in DejaVu Sans.
  const [[x, width]] = cellWidths('+0.0452 (-0.0820 to 0.173)') as [[number, number]];
  expect(x).toBe(96);
  expect(width).toBeGreaterThanOrEqual(175 + 12);
  expect(width).toBeLessThan(250);
});
