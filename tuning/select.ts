/** Who is the fastest: a pure function of the seconds measured, so that it can be tested without a clock. */
import { pairedRatio } from '../bench/compare.ts';
import type { Ratio } from '../bench/report.ts';

/** Seconds of one use: by number of samples, then by round. All that were timed together have as many of both. */
export type Samples = readonly (readonly number[])[];

/** A candidate that is this much slower than the fastest after one round is timed no more. */
const SLOWER = 2;
/** So far below 1 an interval must lie: programs differ by where their memory lies, too. */
const MARGIN = 0.03;
/** Candidates that are timed against each other, apart from the one that they must beat. */
const MOST_KEPT = 3;

/** Geometric mean over the numbers of samples, round by round: each counts the same, however long it takes. */
const perRound = (samples: Samples): number[] =>
  samples[0]!.map((_, round) => {
    const logs = samples.map((rounds) => Math.log(rounds[round]!));
    return Math.exp(logs.reduce((a, b) => a + b, 0) / logs.length);
  });

/** Seconds over seconds of the base, timed in the same rounds, with its 99 % interval. Below 1 is faster. */
export const ratioTo = (samples: Samples, base: Samples): Ratio => pairedRatio(perRound(samples), perRound(base));

/** Which candidates stay after a round, fastest first, by their ratios to the base: no more than `most`, none far behind. */
export function stillIn(ratios: ReadonlyMap<string, number>, most = MOST_KEPT): string[] {
  const limit = SLOWER * Math.min(1, ...ratios.values());
  return [...ratios]
    .filter(([, ratio]) => ratio <= limit)
    .sort(([, a], [, b]) => a - b)
    .slice(0, most)
    .map(([id]) => id);
}

/** Whether a candidate beats the base by more than the noise: the whole interval lies below 1 by the margin. */
export const beats = ({ high }: Ratio): boolean => high < 1 - MARGIN;
