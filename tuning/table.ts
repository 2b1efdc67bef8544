/** Tuning tables: what was measured on one adapter, as a document. Read back only whole, of this version, for this adapter. */
import * as v from 'valibot';
import { describeAdapter } from '../engine/device.ts';
import type { Engine } from '../engine/engine.ts';
import { TuningError } from '../engine/errors.ts';
import { shapeKey, type TuningChoice } from '../engine/tuning.ts';

/** Counts changes after which older tables cannot be read. */
const VERSION = 1;

const text = v.string();
const positive = v.pipe(v.number(), v.gtValue(0));
const shape = v.record(text, v.union([v.number(), text, v.boolean()]));
const ratio = v.object({ ratio: positive, low: positive, high: positive });

/** Which adapter and driver measurements hold for. */
export interface TunedAdapter {
  name: string;
  vendor: string;
  architecture: string;
  driver: string;
  /** How Dawn was asked for it, as far as it changes what there is to choose and how fast it is; null: not known. */
  modes: string[] | null;
}

/** What tuning found for one problem. */
export interface TuningResult {
  /** Name of the family, and the shape that the choice is for. */
  family: string;
  shape: Record<string, number | string | boolean>;
  /** Tokens and numbers of samples that were timed. */
  tokens: number;
  batches: number[];
  /** Ids: the variant to take, null where none computes right; the one that is taken without tuning; all that there were. */
  variant: string | null;
  reviewed: string;
  candidates: string[];
  /** Seconds of one use by number of samples, of the reviewed variant (or what took its place) and of the one to take. */
  seconds: { reviewed: number[]; variant: number[] } | null;
  /** The fastest of the others, taken or not: its seconds over those of the reviewed one, with 99 % interval. */
  challenger: { variant: string; ratio: { ratio: number; low: number; high: number } } | null;
  /** Variants that compute wrong or not at all, and what they said. */
  rejected: { variant: string; error: string }[];
  /** Variants that the budget left for another time. */
  untried: string[];
  /** Digest of the kernels that this is about. */
  kernels: string;
}

/** All that was measured on one adapter. Plain data: `JSON.stringify` writes it, `parseTable` reads it. */
export interface TuningTable {
  odelt: 'tuning';
  version: typeof VERSION;
  adapter: TunedAdapter;
  results: TuningResult[];
  /** Variants with which the device or the process was lost, and the one that is being tried. */
  suspects: TuningChoice[];
}

const resultSchema: v.GenericSchema<unknown, TuningResult> = v.object({
  family: text,
  shape,
  tokens: positive,
  batches: v.array(positive),
  variant: v.nullable(text),
  reviewed: text,
  candidates: v.array(text),
  seconds: v.nullable(v.object({ reviewed: v.array(positive), variant: v.array(positive) })),
  challenger: v.nullable(v.object({ variant: text, ratio })),
  rejected: v.array(v.object({ variant: text, error: text })),
  // Tables from before problems could be left half-way have none.
  untried: v.optional(v.array(text), []),
  kernels: text,
});

const tableSchema: v.GenericSchema<unknown, TuningTable> = v.object({
  odelt: v.literal('tuning'),
  version: v.literal(VERSION),
  // Tables from before modes counted do not say of which they are.
  adapter: v.object({
    ...{ name: text, vendor: text, architecture: text, driver: text },
    modes: v.optional(v.nullable(v.array(text)), null),
  }),
  results: v.array(resultSchema),
  suspects: v.optional(v.array(v.object({ family: text, shape, variant: text })), []),
});

/** The adapter behind an engine, in its modes: bounds checks, halves and matrix units. */
export function tunedAdapter({ device, boundsChecks }: Engine): TunedAdapter {
  const { name, vendor, architecture, driver } = describeAdapter(device);
  const has = (feature: string) => (device.features as ReadonlySet<string>).has(feature);
  const modes = [
    ...(boundsChecks ? [] : ['no bounds checks']),
    ...(has('shader-f16') ? ['f16'] : []),
    ...(has('chromium-experimental-subgroup-matrix') ? ['matrix units'] : []),
  ];
  return { name, vendor, architecture, driver, modes };
}

/** A table of these results and, while something is tried, of what may not come back from it. */
export const tableOf = (
  adapter: TunedAdapter,
  results: readonly TuningResult[],
  suspects: readonly TuningChoice[] = [],
): TuningTable => ({
  odelt: 'tuning',
  version: VERSION,
  adapter,
  results: [...results],
  suspects: [...suspects],
});

/** The results of `old` with those of `more` in their place, or behind them. */
export function mergeResults(old: readonly TuningResult[], more: readonly TuningResult[]): TuningResult[] {
  const byKey = [...old, ...more].map((r) => [shapeKey(r.family, r.shape), r] as const);
  return [...new Map(byKey).values()];
}

/**
 * Checks a table that comes from elsewhere. `where`: what to call it. @throws TuningError for anything but a whole table of this version.
 */
export function parseTable(value: unknown, where: string): TuningTable {
  const parsed = v.safeParse(tableSchema, value);
  if (parsed.success) return parsed.output;
  const { odelt, version } = (value ?? {}) as { odelt?: unknown; version?: unknown };
  if (odelt !== 'tuning') throw new TuningError(`${where} is no tuning table`, { hint: AGAIN });
  if (version !== VERSION) {
    throw new TuningError(`${where} is of version ${JSON.stringify(version)}; this odelt reads version ${VERSION}`, {
      hint: AGAIN,
    });
  }
  const [issue] = parsed.issues;
  const path = v.getDotPath(issue) ?? 'the table';
  const what = issue.received === 'undefined' ? 'missing' : `${issue.received}, not ${issue.expected}`;
  throw new TuningError(`${where} is damaged: ${path} is ${what}`, { hint: AGAIN });
}

/** @throws TuningError for a text that is no whole table of this version. */
export function parseTableText(json: string, where: string): TuningTable {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new TuningError(`${where} is damaged: it is no JSON`, { cause, hint: AGAIN });
  }
  return parseTable(value, where);
}

const AGAIN = 'measure anew with `odelt tune --again`, or go without: --tuning off';

/** One text per adapter, driver and modes, the same for the same. */
export const adapterKey = ({ name, vendor, architecture, driver, modes }: TunedAdapter): string =>
  JSON.stringify([name, vendor, architecture, driver, modes]);

/** An adapter, its driver and its modes in words. */
export const adapterText = ({ name, driver, modes }: TunedAdapter): string => {
  const words = [...(driver && driver !== name ? [driver] : []), ...(modes ?? ['modes not known'])];
  return words.length > 0 ? `${name} (${words.join(', ')})` : name;
};

/** @throws TuningError where the table is of another adapter, driver or modes than the engine's. */
export function checkAdapter(table: TuningTable, adapter: TunedAdapter, where: string): void {
  // Whoever gives a table that does not say its modes vouches for them.
  const modes = table.adapter.modes ?? adapter.modes;
  if (adapterKey({ ...table.adapter, modes }) === adapterKey(adapter)) return;
  throw new TuningError(
    `${where} was measured on ${adapterText(table.adapter)}; this engine is on ${adapterText(adapter)}`,
    { hint: 'what is fast on one adapter may be slow on another: run `odelt tune` on this one' },
  );
}
