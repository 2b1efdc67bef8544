/** Whether something became faster: ratios of times with bootstrap intervals, within a run and between two. */
import { integers } from '../engine/philox.ts';
import { quantile } from './harness.ts';
import type { CeilingRates, KernelResult } from './kernels.bench.ts';
import type { BenchReport, Comparison, Comparisons, Ratio, SubjectReport, Verdict } from './report.ts';

/** Resamplings, and the share of them outside the interval. */
const RESAMPLINGS = 2000;
const OUTSIDE = 0.01;

/** How far from 1 an interval must lie: programs differ by where their memory lies, and runs by more than the samples of either show. */
const MARGINS = { paired: 0.03, runs: 0.05 } as const;

const median = (values: readonly number[]): number =>
  quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );

/** Interval of a statistic of samples drawn again with replacement (Efron 1979): `again` gives it of the draw of this number. */
function intervalOf(ratio: number, again: (draw: number) => number): Ratio {
  const found = Array.from({ length: RESAMPLINGS }, (_, draw) => again(draw)).sort((a, b) => a - b);
  return { ratio, low: quantile(found, OUTSIDE / 2), high: quantile(found, 1 - OUTSIDE / 2) };
}

/** Draws `count` of so many for every resampling, always the same. */
function draws(of: number, count: number, stream: number): (draw: number, i: number) => number {
  const drawn = integers({ seed: 1, stream, step: 0 }, of, count * RESAMPLINGS);
  return (draw, i) => drawn[draw * count + i]!;
}

/**
 * Median of the ratios round by round. Both were timed in turn: round i of one beside round i of the other. Of several `placements`
 * (groups of as many rounds, each with programs of its own) the median of their medians: rounds of one placement tell nothing of the
 * next, so placements are drawn again, too, and of up to four the interval reaches the most different. What one placement does not
 * show is then no difference.
 */
export function pairedRatio(seconds: readonly number[], base: readonly number[], placements = 1): Ratio {
  const rounds = seconds.length / placements;
  const groups = Array.from({ length: placements }, (_, p) =>
    Array.from({ length: rounds }, (_, i) => seconds[p * rounds + i]! / base[p * rounds + i]!),
  );
  const place = draws(placements, placements, 1);
  const round = draws(rounds, seconds.length, 0);
  const again = (draw: number) =>
    median(
      groups.map((_, p) => {
        const group = groups[place(draw, p)]!;
        return median(group.map((_, i) => group[round(draw, p * rounds + i)]!));
      }),
    );
  return intervalOf(median(groups.map(median)), again);
}

/** Ratio of the medians of two runs; the samples of each are drawn again. */
export function runsRatio(now: readonly number[], base: readonly number[]): Ratio {
  const [ofNow, ofBase] = [draws(now.length, now.length, 0), draws(base.length, base.length, 1)];
  const again = (draw: number) =>
    median(now.map((_, i) => now[ofNow(draw, i)]!)) / median(base.map((_, i) => base[ofBase(draw, i)]!));
  return intervalOf(median(now) / median(base), again);
}

/**
 * A difference only where all `ratios` show it. A machine may have become slower at some work and not at other: a kernel's seconds then
 * differ, but not in units of that work. `margin`: how far each whole interval must lie from 1.
 */
export function verdictOf(ratios: readonly Ratio[], margin: number): Verdict {
  if (ratios.every(({ high }) => high < 1 - margin)) return 'faster';
  return ratios.every(({ low }) => low > 1 + margin) ? 'slower' : 'no difference';
}

/** One text for equal cases, whatever the order of their fields. */
const keyOf = ({ kernel, case: k, pass }: Pick<KernelResult, 'kernel' | 'case' | 'pass'>): string =>
  `${kernel} ${JSON.stringify(Object.fromEntries(Object.entries(k).sort(([a], [b]) => (a < b ? -1 : 1))))} ${pass}`;

interface Both {
  readonly matched: readonly (readonly [KernelResult, KernelResult])[];
  readonly leftOut: readonly string[];
}

function match(now: readonly KernelResult[], base: readonly KernelResult[]): Both {
  const [mine, theirs] = [now, base].map((all) => new Map(all.map((r) => [keyOf(r), r]))) as [
    Map<string, KernelResult>,
    Map<string, KernelResult>,
  ];
  const matched: (readonly [KernelResult, KernelResult])[] = [];
  const leftOut = [...theirs.keys()].filter((key) => !mine.has(key)).map((key) => `${key}: only in the base`);
  for (const [key, r] of mine) {
    const other = theirs.get(key);
    if (!other) leftOut.push(`${key}: not in the base`);
    // Differences of rounds may be noise around zero: no ratio.
    else if (![r, other].every(({ timing }) => Math.min(...timing.seconds) > 0)) {
      leftOut.push(`${key}: no time above the noise`);
    } else matched.push([r, other]);
  }
  return { matched, leftOut };
}

const comparison = (
  r: KernelResult,
  base: KernelResult,
): Omit<Comparison, 'raw' | 'inCopies' | 'inMultiplyAdds' | 'verdict'> => ({
  kernel: r.kernel,
  case: r.case,
  pass: r.pass,
  seconds: r.timing.median,
  baseSeconds: base.timing.median,
});

/** Two subjects of one run, whose rounds are pairs. */
export function compareSubjects(kernels: readonly KernelResult[], subject: string, base: string): Comparisons {
  const of = (name: string) => kernels.filter((r) => r.subject === name);
  const { matched, leftOut } = match(of(subject), of(base));
  const margin = MARGINS.paired;
  const comparisons = matched.map(([r, other]): Comparison => {
    const raw = pairedRatio(r.timing.seconds, other.timing.seconds, r.placements);
    return { ...comparison(r, other), raw, inCopies: null, inMultiplyAdds: null, verdict: verdictOf([raw], margin) };
  });
  const placements = matched[0]?.[0].placements ?? 1;
  return { subject, base, paired: true, placements, margin, comparisons, leftOut, warnings: [] };
}

/** What two runs are compared by. */
export type Comparable = Pick<BenchReport, 'machine' | 'versions' | 'subjects' | 'kernels'>;

/** The first subject of a run and the same, or else the first, of a saved one. `name` is what to call that. */
export function compareRuns(now: Comparable, saved: Comparable, name: string): Comparisons {
  const mine = now.subjects[0]!;
  const theirs = saved.subjects.find((s) => s.name === mine.name) ?? saved.subjects[0]!;
  const of = ({ kernels }: Comparable, subject: SubjectReport) => kernels.filter((r) => r.subject === subject.name);
  const { matched, leftOut } = match(of(now, mine), of(saved, theirs));
  const margin = MARGINS.runs;
  const comparisons = matched.map(([r, other]): Comparison => {
    const raw = runsRatio(r.timing.seconds, other.timing.seconds);
    const [inCopies, inMultiplyAdds] = (['copy', 'multiplyAdd'] as const).map((ceiling) =>
      runsRatio(inUnits(r, ceiling), inUnits(other, ceiling)),
    ) as [Ratio, Ratio];
    const verdict = verdictOf([raw, inCopies, inMultiplyAdds], margin);
    return { ...comparison(r, other), raw, inCopies, inMultiplyAdds, verdict };
  });
  const warnings = [
    ...moved(matched),
    ...differences(
      { ...now.versions, machine: now.machine, ...aboutAdapter(mine) },
      { ...saved.versions, machine: saved.machine, ...aboutAdapter(theirs) },
    ),
  ];
  return { subject: mine.name, base: name, paired: false, placements: 1, margin, comparisons, leftOut, warnings };
}

/** Seconds times what the ceiling's program did in a second of the same round: a machine that is slower at the time cancels. */
const inUnits = ({ timing, ceilingRates }: KernelResult, ceiling: keyof CeilingRates): number[] =>
  timing.seconds.map((seconds, round) => seconds * ceilingRates[ceiling][round]!);

/** Says where a ceiling was another one while the same cases were timed. */
function moved(matched: Both['matched']): string[] {
  const names = { copy: 'copied', multiplyAdd: 'multiplied and added' } as const;
  return (['copy', 'multiplyAdd'] as const).flatMap((ceiling) => {
    const [now, then] = [0, 1].map((side) => median(matched.flatMap((pair) => pair[side]!.ceilingRates[ceiling])));
    const ratio = now! / then!;
    if (matched.length === 0 || Math.abs(Math.log(ratio)) < Math.log(1.1)) return [];
    return `the machine itself ${names[ceiling]} ${ratio.toFixed(2)} times as fast as in the base: its speed may explain differences, too`;
  });
}

const aboutAdapter = ({ adapter, clock }: SubjectReport) => ({
  adapter: adapter.name,
  driver: adapter.driver,
  clock: clock.clock,
});

function differences(now: Readonly<Record<string, string>>, base: Readonly<Record<string, string>>): string[] {
  const names = [...new Set([...Object.keys(now), ...Object.keys(base)])];
  return names
    .filter((name) => now[name] !== base[name])
    .map((name) => `another ${name}: ${now[name] ?? 'unknown'}, was ${base[name] ?? 'unknown'}`);
}
