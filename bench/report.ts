/** A benchmark of kernels as data: what --json prints, --save writes and --against reads. docs/benchmarks.md says what each field means. */
import * as v from 'valibot';
import type { AdapterDescription } from '../engine/device.ts';
import { ConfigError } from '../engine/errors.ts';
import type { ClockChoice } from './clock.ts';
import type { KernelResult } from './kernels.bench.ts';
import type { ReplayResult } from './replay.bench.ts';
import type { Ceilings } from './roofline.ts';

/** Counts changes after which older files cannot be compared. */
export const FORMAT = 1;

/** An adapter, or a build on one, that was measured. */
export interface SubjectReport {
  readonly name: string;
  readonly adapter: AdapterDescription;
  readonly clock: ClockChoice;
  readonly ceilings: Ceilings;
}

/** A quotient of medians, and between what bounds it lies with 99 % confidence. */
export interface Ratio {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/** What a comparison says; `no difference` where the interval of the ratio contains 1. */
export type Verdict = 'faster' | 'slower' | 'no difference';

/** One pass of one case, now and in what it is compared with. */
export interface Comparison {
  readonly kernel: string;
  readonly case: object;
  readonly pass: KernelResult['pass'];
  /** Medians in seconds. */
  readonly seconds: number;
  readonly baseSeconds: number;
  /** Seconds over seconds of the base: below 1 is faster. */
  readonly raw: Ratio;
  /** Between two runs: the same in units of what each run copied, and multiplied and added, in the same rounds. Null for pairs of one run. */
  readonly inCopies: Ratio | null;
  readonly inMultiplyAdds: Ratio | null;
  /** What all of these say; where they do not agree, the machine's speed explains the difference. */
  readonly verdict: Verdict;
}

/** All comparisons with one base. */
export interface Comparisons {
  /** The subject that is judged, and what with. */
  readonly subject: string;
  readonly base: string;
  /** True: rounds of one run, in turn. False: two runs. */
  readonly paired: boolean;
  /** How often each case was prepared, in turn by one subject first and the other. 1 between two runs. */
  readonly placements: number;
  /** An interval must lie this far from 1 for a difference. */
  readonly margin: number;
  readonly comparisons: readonly Comparison[];
  /** What was measured on one side only, or in no time above the noise. */
  readonly leftOut: readonly string[];
  /** How the two runs differ besides. */
  readonly warnings: readonly string[];
}

/** A benchmark as data. */
export interface BenchReport {
  readonly format: typeof FORMAT;
  /** When it began, as ISO 8601. */
  readonly date: string;
  /** The command that made it; empty where there was none. */
  readonly command: string;
  /** The processors, in words. */
  readonly machine: string;
  /** Processes that wanted to run in the minute before, on average; null where the runtime does not tell. */
  readonly load: number | null;
  /** Of odelt, the runtime, Dawn: by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** Whatever else the reader must know, such as that the machine was shared. */
  readonly note: string;
  readonly subjects: readonly SubjectReport[];
  readonly kernels: readonly KernelResult[];
  readonly replay: readonly ({ readonly subject: string } & ReplayResult)[];
  readonly against: Comparisons | null;
}

const timing = v.looseObject({ median: v.number(), seconds: v.pipe(v.array(v.number()), v.minLength(1)) });
const ceiling = v.looseObject({ rate: v.number(), work: v.number(), timing });
/** As much as a comparison looks at. */
const schema = v.looseObject({
  format: v.literal(FORMAT),
  date: v.string(),
  machine: v.string(),
  versions: v.record(v.string(), v.string()),
  subjects: v.pipe(
    v.array(
      v.looseObject({
        name: v.string(),
        adapter: v.looseObject({ name: v.string(), driver: v.string() }),
        clock: v.looseObject({ clock: v.string() }),
        ceilings: v.looseObject({ copy: ceiling, multiplyAdd: ceiling }),
      }),
    ),
    v.minLength(1),
  ),
  kernels: v.array(
    v.looseObject({
      kernel: v.string(),
      case: v.looseObject({}),
      subject: v.string(),
      pass: v.picklist(['forward', 'backward']),
      timing,
      ceilingRates: v.looseObject({ copy: v.array(v.number()), multiplyAdd: v.array(v.number()) }),
    }),
  ),
});

/** A saved report. `name` is what to call it. @throws ConfigError for anything else, and for one of another version. */
export function parseReport(text: string, name: string): BenchReport {
  const refuse = (why: string, cause?: unknown): never => {
    throw new ConfigError(`${name} is no saved benchmark of kernels: ${why}`, {
      cause,
      hint: 'give what `odelt bench kernels --save` wrote with this version',
    });
  };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return refuse('it is no JSON', cause);
  }
  const parsed = v.safeParse(schema, json);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    return refuse(`${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`);
  }
  return json as BenchReport;
}
