/** Judges what was drawn of a cell: every figure of its features, with intervals, against real pictures or their statistics alone. */

import type { Drawn } from './draw.ts';
import { type FeatureStatistics, featureStatistics } from './feature-statistics.ts';
import { type Features, featuresOfData } from './features.ts';
import { measuredFrechet } from './frechet.ts';
import { kernelDistance } from './kernel-distance.ts';
import type { LinearAlgebra } from './linear-algebra.ts';
import { manifold, realBalls } from './manifold.ts';
import { share } from './measured.ts';
import { distanceQuantiles, NEAREST_QUANTILES, nearerShare, nearestDistances } from './nearest.ts';
import type { RealPictures } from './real.ts';
import type { Cell, Distances, EvaluationResults, Floor, NearestCell } from './results.ts';

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
  judge(drawn: Drawn, samples: number): { cell: Cell; nearest: NearestCell | null };
  /** Held-out real pictures in the samples' place; computed once. */
  readonly floor: () => Floor | null;
  readonly nearest: Pick<NonNullable<EvaluationResults['nearest']>, 'quantiles' | 'heldOut'> | null;
}

/** How figures are computed. */
export interface Judging {
  readonly seed: number;
  readonly algebra?: LinearAlgebra;
}

/** Computes what all cells are compared with. */
export async function createJudge(
  features: Features,
  real: RealPictures | RealStatistics,
  { seed, algebra }: Judging,
): Promise<Judge> {
  const { width } = features;
  const pictures = hasPictures(real) ? await pictureFeatures(features, real) : null;
  const statistics = hasPictures(real) ? featureStatistics(pictures!.reference, width, algebra) : { ...real, count: 0 };

  // Balls are those of as many real pictures as there are samples: the same for all cells.
  const balls = new Map<number, ReturnType<typeof realBalls>>();
  function ballsOf(of: Float32Array) {
    const found = balls.get(of.length) ?? realBalls(of, width);
    balls.set(of.length, found);
    return found;
  }

  function distances(rows: Float32Array): Distances {
    const fd = measuredFrechet(rows, statistics, { seed, algebra });
    if (!pictures) return { fd, kid: null, precision: null, recall: null, density: null, coverage: null };
    const { reference } = pictures;
    // Precision and the like compare equally many; the rest takes the whole reference.
    const most = Math.min(rows.length, reference.length);
    const compared = reference.subarray(0, most);
    return {
      fd,
      kid: kernelDistance(rows, reference, width, { seed }),
      ...manifold(rows.subarray(0, most), compared, width, { seed, balls: ballsOf(compared) }),
    };
  }

  function floorOf(): Floor | null {
    if (!pictures || !hasPictures(real)) return null;
    const { how, heldOut, reference } = real;
    const classes = features.classesOf?.(pictures.heldOut);
    const right = classes?.filter((c, i) => c === heldOut.data.label(heldOut.indices[i]!)).length;
    return {
      ...{ how, count: heldOut.indices.length, of: reference.indices.length },
      ...distances(pictures.heldOut),
      ...(right === undefined ? {} : { agreement: share(right, heldOut.indices.length) }),
    };
  }

  let floor: Floor | null | undefined;
  return {
    nearest: pictures && { quantiles: NEAREST_QUANTILES, heldOut: distanceQuantiles(pictures.heldOutNearest) },
    floor() {
      floor ??= floorOf();
      return floor;
    },
    judge({ key, features: rows, agreed, seconds, evaluations, accepted, rejected, ...cost }, samples) {
      const { peakBytes, bytesRead } = cost;
      const found = pictures && nearestDistances(rows, pictures.reference, width);
      return {
        cell: {
          ...{ ...key, ...distances(rows) },
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

/** Features of real pictures, and how far held-out ones are from the nearest of the others, ascending. */
async function pictureFeatures(features: Features, { reference, heldOut }: RealPictures) {
  const all = await featuresOfData(features, reference.data, reference.indices);
  const out = await featuresOfData(features, heldOut.data, heldOut.indices);
  return { reference: all, heldOut: out, heldOutNearest: nearestDistances(out, all, features.width) };
}
