/** Points of the plane to train on: shapes to draw them from, and a model small enough to be trained while one watches. */
import { ConfigError } from '../engine/errors.ts';
import { type RandomSource, uniforms } from '../engine/philox.ts';
import { knownNames } from '../formats/options.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import type { TrainConfig } from './config.ts';
import type { NumberFields } from './numbers.ts';

/** A point of the shape, between -1 and 1, from three numbers in [0, 1). */
type Shape = (u: number, v: number, w: number) => readonly [number, number];

const turn = 2 * Math.PI;

const SHAPES: Readonly<Record<PointShape, Shape>> = {
  'two moons': (u, v, w) => {
    const angle = Math.PI * u;
    const [x, y] =
      w < 0.5 ? [Math.cos(angle) - 0.5, Math.sin(angle) - 0.25] : [0.5 - Math.cos(angle), 0.25 - Math.sin(angle)];
    return [0.6 * x + thick(v), 0.75 * y + thick(2 * w)];
  },
  ring: (u, v) => {
    const radius = 0.75 + thick(v);
    return [radius * Math.cos(turn * u), radius * Math.sin(turn * u)];
  },
  spiral: (u, v, w) => {
    // Evenly along its length: the square root.
    const along = 0.08 + 0.92 * Math.sqrt(u);
    const angle = 1.6 * turn * along;
    return [0.9 * along * Math.cos(angle) + thick(v, 0.03), 0.9 * along * Math.sin(angle) + thick(w, 0.03)];
  },
  checkerboard: (u, v, w) => {
    const row = Math.floor(4 * v);
    const column = 2 * Math.floor(2 * u) + (row % 2);
    return [(column + ((2 * u) % 1)) * 0.45 - 0.9, (row + w) * 0.45 - 0.9];
  },
};

/** A little to either side of a line. */
const thick = (u: number, width = 0.05): number => width * (2 * (u % 1) - 1);

/** A shape that points can be drawn from. */
export type PointShape = 'two moons' | 'ring' | 'spiral' | 'checkerboard';

/** All of them. */
export const POINT_SHAPES = Object.keys(SHAPES) as PointShape[];

/** How far points go. */
const REACH = 2;
const STREAM = 0x706f696e;

/**
 * Points of a shape, between -2 and 2, about as far as noise goes: [count, 2]. The same for the same seed, an integer in [0, 2^32).
 * @throws ConfigError for a shape that is none
 */
export function pointsOf(shape: PointShape, count: number, seed = 0): Float32Array {
  if (!Object.hasOwn(SHAPES, shape)) {
    throw new ConfigError(`there is no shape '${shape}'`, { hint: knownNames(shape, POINT_SHAPES) });
  }
  const source: RandomSource = { seed, stream: STREAM, step: 0 };
  const u = uniforms(source, 3 * count);
  return Float32Array.from({ length: 2 * count }, (_, i) => {
    const at = 3 * (i >> 1);
    return REACH * SHAPES[shape](u[at]!, u[at + 1]!, u[at + 2]!)[i % 2]!;
  });
}

/** Points [count, 2] as a data set of one class, for `numbersOf` and for a worker's `train`. */
export const pointData = (points: Float32Array): NumberFields => ({
  ...{ name: 'points', height: 1, width: 1, channels: 2, classes: 1 },
  values: points,
  labels: new Uint8Array(points.length / 2),
});

/** A transformer whose picture is one point, one token, and each of whose three blocks is a group. */
export const POINT_MODEL: ModelConfig = parseModelConfig({
  ...{ imageSize: 1, channels: 2, patch: 1, width: 64, heads: 1, depth: 3, mlpRatio: 4, classes: 1, timeScale: 16 },
  lengths: { min: 1, group: 1 },
});

/** How it is trained: without labels, and with an average that follows at once, as a run is short. */
export const POINT_TRAINING: Partial<TrainConfig> = {
  ...{ steps: 2000, batch: 256, lr: 3e-3, warmup: 50, weightDecay: 0 },
  ...{ timeEvery: 4, lengthEvery: 8, finest: 128 },
  ...{ emaDecay: 0.99, emaWarmup: true, guidance: null, classDropout: 1 },
};
