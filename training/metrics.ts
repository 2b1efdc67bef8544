/** The lines of metrics.jsonl, one per update: read even where a kill cut the last one, and averaged into curves. */
import { ConfigError } from '../engine/errors.ts';
import type { Losses } from './losses.ts';
import type { TrainEvent } from './trainer.ts';

export interface Metrics {
  readonly events: TrainEvent[];
  /** Bytes, from the start of the file, until the end of each event's line. */
  readonly ends: number[];
  /** Whether the last line has no end: the process that wrote it was killed. */
  readonly torn: boolean;
  /** Numbers (from 1) of whole lines that are no updates. */
  readonly foreign: number[];
}

const LF = 0x0a;

/** Parses the bytes of a metrics.jsonl; lines that are no updates are listed, not thrown. */
export function parseMetrics(bytes: Uint8Array): Metrics {
  const metrics = { events: [] as TrainEvent[], ends: [] as number[], torn: false, foreign: [] as number[] };
  const decoder = new TextDecoder();
  for (let begin = 0, line = 1; begin < bytes.length; line++) {
    const end = bytes.indexOf(LF, begin);
    if (end < 0) {
      metrics.torn = true;
      break;
    }
    const event = parseEvent(decoder.decode(bytes.subarray(begin, end)));
    if (event) {
      metrics.events.push(event);
      metrics.ends.push(end + 1);
    } else metrics.foreign.push(line);
    begin = end + 1;
  }
  return metrics;
}

function parseEvent(line: string): TrainEvent | null {
  try {
    const event = JSON.parse(line) as TrainEvent | null;
    const isUpdate = Number.isInteger(event?.step) && typeof event?.losses === 'object' && event.losses !== null;
    return isUpdate ? event : null;
  } catch {
    return null;
  }
}

/** A curve of the plot of losses. */
export interface LossCurve {
  readonly name: 'flow' | 'time' | 'length' | 'validation' | 'validation, raw weights';
  /** Updates done at the end of each mean. */
  readonly x: number[];
  readonly y: number[];
}

/** Updates that one point of a curve stands for where nobody says: 25, or so few that there are 20 points. */
export const defaultMean = (updates: number): number => Math.max(1, Math.min(25, Math.floor(updates / 20)));

/** The three losses, each point the mean over `mean` updates; a rest of fewer is left out. @throws ConfigError when that leaves nothing. */
export function lossCurves(events: readonly TrainEvent[], mean: number): LossCurve[] {
  if (mean > events.length) {
    throw new ConfigError(`a mean over ${mean} updates was asked for; there are ${events.length}`, {
      hint: `take a mean over ${defaultMean(events.length)}, which is what you get without saying`,
    });
  }
  const curves = (['flow', 'time', 'length'] as const).map((name) => {
    const curve: LossCurve = { name, x: [], y: [] };
    for (let from = 0; from + mean <= events.length; from += mean) {
      const some = events.slice(from, from + mean);
      const values = some.map((event) => event.losses[name]).filter((value) => typeof value === 'number');
      if (values.length === 0) continue;
      curve.x.push(some.at(-1)!.step);
      curve.y.push(values.reduce((a, b) => a + b, 0) / values.length);
    }
    return curve;
  });
  return curves.filter(({ x }) => x.length > 0);
}

/**
 * The losses on held-out pictures, as they were found: of the averaged weights and of the raw ones. Those of `flow`, where there are any:
 * consistency targets come from a network themselves, mostly the averaged one.
 */
export const validationLoss = ({ flow, loss }: Losses): number => flow ?? loss;

/** The curves of `validationLoss`. */
export function validationCurves(events: readonly TrainEvent[]): LossCurve[] {
  const points = events.filter(({ validation }) => validation?.raw && validation.average);
  const curve = (name: LossCurve['name'], which: 'average' | 'raw'): LossCurve => {
    const found = points.map(({ step, validation }) => ({ step, loss: validationLoss(validation![which]) }));
    // JSON has no NaN: it reads as null.
    const finite = found.filter(({ loss }) => Number.isFinite(loss));
    return { name, x: finite.map(({ step }) => step), y: finite.map(({ loss }) => loss) };
  };
  return [curve('validation', 'average'), curve('validation, raw weights', 'raw')].filter(({ x }) => x.length > 0);
}
