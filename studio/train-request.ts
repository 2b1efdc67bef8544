/** What the tab *Train* asks the worker for: models, options, data and what is shown meanwhile. Pure: knows neither page nor worker. */
import { normals } from '../engine/philox.ts';
import { allowedLengths, type ModelConfig, parseModelConfig, preset, usualSteps } from '../model/config.ts';
import { usualLabels } from '../sampling/classes.ts';
import type { TrainConfig } from '../training/config.ts';
import { FASHION_CLASSES } from '../training/fashion-classes.ts';
import { POINT_MODEL, POINT_TRAINING, pointData } from '../training/points.ts';
import { byClass, type FileAt } from '../web/files.ts';
import type { SentData, ShowRequest, TrainRequest } from '../web/protocol.ts';

/** Where what is trained on comes from. */
export const SOURCES = ['points', 'fashion', 'pictures'] as const;
export type Source = (typeof SOURCES)[number];

/** Of pictures: how large the model is. */
export const SIZES = ['small', 'tiny'] as const;
export type Size = (typeof SIZES)[number];

/** What is to be learnt, as the worker takes it. */
export interface Lesson {
  readonly model: ModelConfig;
  readonly train: Partial<TrainConfig>;
  readonly data: SentData;
  /** Whether checkpoints carry the data. */
  readonly keepData: boolean;
}

/** The numbers of steps that are shown. */
const POINT_STEPS = [1, 2, 4, 16] as const;
const PICTURE_STEPS = [1, 4, 16] as const;
/** Samples of a flow, and places along each side of the plane where its velocities are shown. */
export const FLOW_SAMPLES = 256;
export const FLOW_PLACES = 13;
/** The plane is shown from -REACH to REACH, both ways. */
export const REACH = 3;
/** Pictures in each cell. */
const PICTURES = 8;
/** How often a run is drawn, and updates that lie between at least. */
const DRAWINGS = 10;
const LEAST_BETWEEN = 10;

export const pointsLesson = (points: Float32Array): Lesson => ({
  ...{ model: POINT_MODEL, train: POINT_TRAINING, keepData: true },
  data: { kind: 'numbers', ...pointData(points) },
});

/** Pictures of `size` pixels: eight by eight tokens, or as near as divides them. */
function pictureModel(how: Size, shape: { imageSize: number; channels: number; classes: number }): ModelConfig {
  const patch = [4, 2, 7].find((side) => shape.imageSize % side === 0 && shape.imageSize / side <= 8) ?? 4;
  if (how === 'tiny') return preset('tiny', { ...shape, patch });
  return parseModelConfig({ ...shape, patch, width: 48, heads: 3, depth: 6, lengths: { min: 2, group: 2 } });
}

/** As the shipped models were trained, but for the number of updates. */
const PICTURE_TRAINING: Partial<TrainConfig> = { batch: 32, lr: 1e-3, emaDecay: 0.99, emaWarmup: true };

/** The pictures that come with the studio, at the addresses from which its server gives them. */
export function fashionLesson(how: Size, base: string): Lesson {
  const at = (name: string) => new URL(`data/fashion-mnist/t10k-${name}-ubyte.gz`, base).href;
  const files = { images: at('images-idx3'), labels: at('labels-idx1') };
  return {
    model: pictureModel(how, { imageSize: 28, channels: 1, classes: FASHION_CLASSES.length }),
    train: PICTURE_TRAINING,
    data: { kind: 'idx', name: 'Fashion-MNIST test', ...files, classNames: FASHION_CLASSES },
    keepData: false,
  };
}

/** Pictures of the user's own. `channels`: 1 is grey. */
export function filesLesson(
  files: readonly FileAt[],
  how: Size,
  { size, channels }: { readonly size: number; readonly channels: 1 | 3 },
): Lesson {
  const classes = Math.max(1, classesOf(files).length);
  return {
    model: pictureModel(how, { imageSize: size, channels, classes }),
    train: PICTURE_TRAINING,
    data: { kind: 'files', files, options: { size, channels } },
    keepData: false,
  };
}

/** The names of the folders that pictures lie in, which are their classes. */
export const classesOf = (files: readonly FileAt[]): string[] => [...new Set(byClass(files).found.map(({ of }) => of))];

/** Where a run's pictures are to be had again, from what its checkpoint says. */
export function sourceOf(model: ModelConfig, classNames: readonly string[] | undefined): Source {
  if (isPlane(model)) return 'points';
  const isFashion = model.imageSize === 28 && classNames?.join() === FASHION_CLASSES.join();
  return isFashion ? 'fashion' : 'pictures';
}

/** Whether what a model makes are points of the plane. */
export const isPlane = ({ imageSize, channels }: ModelConfig): boolean => imageSize === 1 && channels === 2;

/** The cells that are shown: up to three numbers of blocks, each with every number of steps. */
export function cellsOf(model: ModelConfig) {
  const allowed = allowedLengths(model);
  const blocks = [...new Set([allowed[0]!, allowed[allowed.length >> 1]!, allowed.at(-1)!])];
  const steps = usualSteps(model, isPlane(model) ? POINT_STEPS : PICTURE_STEPS);
  return { blocks, steps, cells: blocks.flatMap((L) => steps.map((T) => ({ steps: T, blocks: L }))) };
}

/** What is drawn of a model: a flow of points, or pictures of the first classes, all from the same noise. */
export function showOf(model: ModelConfig, updates: number): ShowRequest {
  const every = Math.max(LEAST_BETWEEN, Math.ceil(updates / DRAWINGS));
  const { cells } = cellsOf(model);
  if (isPlane(model)) return { every, flow: { cells, noise: flowNoise(), places: places() } };
  const labels = usualLabels(model, PICTURES);
  return { every, samples: cells.map((cell) => ({ ...cell, labels, seed: 0 })) };
}

/** Where samples of a flow begin: [FLOW_SAMPLES, 2], the same always. */
export const flowNoise = (): Float32Array => normals({ seed: 0, stream: 0x666c6f77, step: 0 }, 2 * FLOW_SAMPLES);

/** A grid over the plane [FLOW_PLACES^2, 2]. */
function places(): Float32Array {
  const at = (i: number) => REACH * ((2 * (i + 0.5)) / FLOW_PLACES - 1);
  return Float32Array.from({ length: 2 * FLOW_PLACES ** 2 }, (_, i) =>
    at(i % 2 === 0 ? (i >> 1) % FLOW_PLACES : Math.floor((i >> 1) / FLOW_PLACES)),
  );
}

/** The whole request of a new run. `updates` at most this many; `lr` and `seed` where the user has chosen them. */
export function requestOf(lesson: Lesson, chosen: Pick<TrainConfig, 'steps'> & Partial<TrainConfig>): TrainRequest {
  const { model, train, data, keepData } = lesson;
  return {
    ...{ model, data, keepData },
    // A warm-up of the default length may be too long for a short run: then one that fits.
    train: { ...train, warmup: Math.min(50, Math.max(1, Math.floor(chosen.steps / 10))), ...chosen },
    show: showOf(model, chosen.steps),
  };
}
