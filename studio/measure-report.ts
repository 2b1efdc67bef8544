/** What was measured as one document, and what of it is shown. Pure: knows neither page nor worker. */
import type { BenchReport } from '../bench/report.ts';
import type { AdapterDescription } from '../engine/device.ts';
import type { CaseResult, Kind } from '../verify/case.ts';

/** The document that is copied into an issue. */
export interface MeasureReport {
  readonly format: 'odelt-studio 1';
  readonly odelt: string;
  /** When it was put together, as ISO 8601. */
  readonly date: string;
  readonly browser: string;
  readonly adapter: AdapterDescription;
  /** Null where it was not checked, or not to the end. */
  readonly verify: { readonly cases: number; readonly failed: number; readonly results: readonly CaseResult[] } | null;
  readonly bench: BenchReport | null;
}

/** Cases of one kind together. */
export interface KindSummary {
  readonly kind: Kind;
  readonly cases: number;
  readonly failed: number;
  /** The one whose error is the largest share of its tolerance. */
  readonly worst: CaseResult;
}

/** The error as a share of what is tolerated; infinite where there is none, or where nothing is and something was found. */
const strain = ({ error, tolerance }: CaseResult): number =>
  error === 0 ? 0 : Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / tolerance;

/** By kind, in the order in which they came. */
export function kindsOf(results: readonly CaseResult[]): KindSummary[] {
  const kinds = [...new Set(results.map(({ kind }) => kind))];
  return kinds.map((kind) => {
    const own = results.filter((result) => result.kind === kind);
    const worst = own.reduce((a, b) => (strain(b) > strain(a) ? b : a));
    return { kind, cases: own.length, failed: own.filter(({ ok }) => !ok).length, worst };
  });
}

/** An error beside what is tolerated, in words. */
export const errorText = ({ error, tolerance }: CaseResult): string =>
  `${Number.isNaN(error) ? 'none' : error === 0 ? '0' : error.toExponential(1)} of ${tolerance === 0 ? '0' : tolerance.toExponential(0)}`;
