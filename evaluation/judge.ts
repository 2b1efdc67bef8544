/** Judges what was drawn of a cell: every figure of its features, with intervals, against real pictures or their statistics alone. */

import type { Drawn } from './draw.ts';
import { type FeatureStatistics, featureStatisticsInTurns } from './feature-statistics.ts';
import { type Features, featuresOfData } from './features.ts';
import { floorDistance, SPLITS } from './floor.ts';
import { measuredFrechet } from './frechet.ts';
import { kernelDistance } from './kernel-distance.ts';
import type { LinearAlgebra } from './linear-algebra.ts';
import { manifold, realBalls } from './manifold.ts';
import { share } from './measured.ts';
import { distanceQuantiles, NEAREST_QUANTILES, nearerShare, nearestDistances } from './nearest.ts';
import type { Balls } from './neighbours.ts';
import type { RealPictures } from './real.ts';
import type { Cell, Distances, EvaluationResults, Floor, NearestCell } from './results.ts';
import type { Waiting } from './waiting.ts';

/** Mean and covariance of real pictures' features, which somebody else has computed. */
export type RealStatistics = Pick<FeatureStatistics, 'width' | 'mean' | 'covariance'>;

/** Whether there are pictures, or their statistics only. */
export const hasPictures = (real: RealPictures | RealStatistics): real is RealPictures => 'heldOut' in real;

const NEED_PICTURES = ['kid', 'precision', 'recall', 'density', 'coverage', 'agreement', 'nearer', 'floor'] as const;

/** What cannot be computed from statistics alone. Class agreement can, where the features know the classes. */
export const needPictures = ({ classesOf }: Features): readonly (typeof NEED_PICTURES)[number][] =>
  NEED_PICTURES.filter((figure) => figure !== 'agreement' || classesOf === undefined);

/** Compares with real pictures. */
export interface Judge {
  /** The figures of a cell, and its distances to real pictures where there are some. */
  judge(drawn: Drawn, samples: number, waiting?: Waiting): Promise<{ cell: Cell; nearest: NearestCell | null }>;
  /** Held-out real pictures in the samples' place; computed once. */
  floor(waiting?: Waiting): Promise<Floor | null>;
  readonly nearest: Pick<NonNullable<EvaluationResults['nearest']>, 'quantiles' | 'heldOut'> | null;
}

/** How figures are computed. */
export interface Judging {
  readonly seed: number;
  /** Resampled sets of a Fréchet distance's interval; 0: no interval. Default 200. */
  readonly replicates?: number;
  readonly algebra?: LinearAlgebra;
}

/** Computes what all cells are compared with. @throws InterruptedError, and what features throw */
export async function createJudge(
  features: Features,
  real: RealPictures | RealStatistics,
  { seed, algebra, replicates }: Judging,
  before?: Waiting,
): Promise<Judge> {
  const { width } = features;
  const pictures = hasPictures(real) ? await pictureFeatures(features, real, before) : null;
  const statistics = hasPictures(real)
    ? await featureStatisticsInTurns(pictures!.reference, width, algebra, before)
    : { ...real, count: 0 };

  // Balls are those of as many real pictures as there are samples: the same for all cells.
  const balls = new Map<number, Balls>();
  async function ballsOf(of: Float32Array, waiting: Waiting | undefined) {
    const found = balls.get(of.length) ?? (await realBalls(of, width, {}, waiting));
    balls.set(of.length, found);
    return found;
  }

  const distance = (rows: Float32Array, waiting: Waiting | undefined) =>
    measuredFrechet(rows, statistics, { seed, algebra, replicates, ...waiting });

  async function others(rows: Float32Array, waiting: Waiting | undefined): Promise<Omit<Distances, 'fd'>> {
    if (!pictures) return { kid: null, precision: null, recall: null, density: null, coverage: null };
    const { reference } = pictures;
    // Precision and the like compare equally many; the rest takes the whole reference.
    const most = Math.min(rows.length, reference.length);
    const compared = reference.subarray(0, most);
    const kid = await kernelDistance(rows, reference, width, { seed, ...waiting });
    const own = await ballsOf(compared, waiting);
    return { kid, ...(await manifold(rows.subarray(0, most), compared, width, { seed, balls: own, ...waiting })) };
  }

  /** The mean over choices of as many pictures, where there are enough to choose from. */
  async function floorFd({ how, heldOut }: RealPictures, waiting: Waiting | undefined) {
    const count = heldOut.indices.length;
    const choosing = { seed, count, algebra, ...waiting };
    if (how === 'parts of one set') {
      const all = new Float32Array(pictures!.reference.length + pictures!.heldOut.length);
      all.set(pictures!.heldOut);
      all.set(pictures!.reference, pictures!.heldOut.length);
      return { fd: await floorDistance(all, width, choosing), splits: SPLITS };
    }
    if (2 * count <= heldOut.data.count) {
      const every = Uint32Array.from({ length: heldOut.data.count }, (_, i) => i);
      const all = await featuresOfData(features, heldOut.data, every, waiting);
      return { fd: await floorDistance(all, width, { ...choosing, reference: statistics }), splits: SPLITS };
    }
    const { value, low, high } = await distance(pictures!.heldOut, waiting);
    return { fd: { value, low, high } };
  }

  async function floorOf(waiting: Waiting | undefined): Promise<Floor | null> {
    if (!pictures || !hasPictures(real)) return null;
    const { how, heldOut, reference } = real;
    const classes = features.classesOf?.(pictures.heldOut);
    const right = classes?.filter((c, i) => c === heldOut.data.label(heldOut.indices[i]!)).length;
    return {
      ...{ how, count: heldOut.indices.length, of: reference.indices.length },
      ...(await floorFd(real, waiting)),
      ...(await others(pictures.heldOut, waiting)),
      ...(right === undefined ? {} : { agreement: share(right, heldOut.indices.length) }),
    };
  }

  let floor: Floor | null | undefined;
  return {
    nearest: pictures && { quantiles: NEAREST_QUANTILES, heldOut: distanceQuantiles(pictures.heldOutNearest) },
    async floor(waiting) {
      if (floor === undefined) floor = await floorOf(waiting);
      return floor;
    },
    async judge(drawn, samples, waiting) {
      const { key, features: rows, agreed, seconds, evaluations, accepted, rejected, ...cost } = drawn;
      const { peakBytes, bytesRead } = cost;
      const found = pictures && (await nearestDistances(rows, pictures.reference, width, waiting));
      const { resampled, ...fd } = await distance(rows, waiting);
      return {
        cell: {
          ...{ ...key, fd, ...(await others(rows, waiting)) },
          ...(resampled.length > 0 ? { resampled: resampled.map(rounded) } : {}),
          agreement: agreed === null ? null : share(agreed, samples),
          ...{ secondsPerSample: seconds / samples, peakBytes, bytesRead },
          evaluations: evaluations / samples,
          ...(key.steps === null ? { accepted: accepted / samples, rejected: rejected / samples } : {}),
        },
        nearest: found && {
          ...{ ...key, distances: distanceQuantiles(found) },
          nearer: nearerShare(found, pictures.heldOutNearest),
        },
      };
    },
  };
}

/** What a difference of cells bears, in fewer characters. */
const rounded = (value: number): number => Number(value.toPrecision(8));

/** Features of real pictures, and how far held-out ones are from the nearest of the others, ascending. */
async function pictureFeatures(features: Features, { reference, heldOut }: RealPictures, waiting: Waiting | undefined) {
  const all = await featuresOfData(features, reference.data, reference.indices, waiting);
  const out = await featuresOfData(features, heldOut.data, heldOut.indices, waiting);
  return { reference: all, heldOut: out, heldOutNearest: await nearestDistances(out, all, features.width, waiting) };
}
