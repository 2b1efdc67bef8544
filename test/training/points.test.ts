/** Points of the plane: where each shape has them, and that they are the same every time. */
import { expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { checkFits } from '../../training/model-for-data.ts';
import {
  POINT_MODEL,
  POINT_SHAPES,
  POINT_TRAINING,
  type PointShape,
  pointData,
  pointsOf,
} from '../../training/points.ts';

const pairs = (points: Float32Array) =>
  Array.from({ length: points.length / 2 }, (_, i) => [points[2 * i]!, points[2 * i + 1]!] as const);

it.each(POINT_SHAPES)('%s: as many as are asked for, about the middle, the same for a seed', (shape) => {
  const points = pointsOf(shape, 2000, 3);
  expect(points.length).toBe(4000);
  expect(points).toEqual(pointsOf(shape, 2000, 3));
  expect(points).not.toEqual(pointsOf(shape, 2000, 4));
  for (const axis of [0, 1] as const) {
    const values = pairs(points).map((point) => point[axis]);
    expect(Math.abs(values.reduce((a, b) => a + b, 0) / values.length)).toBeLessThan(0.35);
    expect(Math.max(...values.map(Math.abs))).toBeLessThan(2.01);
    expect(Math.max(...values.map(Math.abs))).toBeGreaterThan(0.9);
  }
});

it('a ring has a radius, a checkerboard every second square', () => {
  for (const [x, y] of pairs(pointsOf('ring', 500))) {
    expect(Math.hypot(x, y)).toBeGreaterThan(1.39);
    expect(Math.hypot(x, y)).toBeLessThan(1.61);
  }
  const squares = pairs(pointsOf('checkerboard', 500)).map(([x, y]) => [x, y].map((v) => Math.floor((v + 1.8) / 0.9)));
  for (const [column, row] of squares) expect((column! + row!) % 2).toBe(0);
  expect(new Set(squares.map((square) => square.join())).size).toBe(8);
});

it('are data that their model takes, with options that are valid', () => {
  const data = pointData(pointsOf('spiral', 10));
  expect(() => checkFits(POINT_MODEL, data)).not.toThrow();
  expect([data.labels.length, parseTrainConfig(POINT_TRAINING).guidance]).toEqual([10, null]);
  expect(() => pointsOf('square' as PointShape, 1)).toThrow(ConfigError);
  expect(() => pointsOf('rings' as PointShape, 1)).toThrow("there is no shape 'rings'");
});
