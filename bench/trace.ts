/**
 * Traces in the Chrome trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open: what the host did in one
 * track, the GPU's dispatches in another. Events of one track follow or contain each other; what would cross goes to a track beside.
 */

import type { Engine, HostPhase } from '../engine/engine.ts';
import type { Program } from '../engine/program.ts';
import type { ScalarValues } from '../engine/scalar.ts';
import { profile } from '../engine/timed.ts';
import { type DispatchWork, dispatchWork } from './cost.ts';

/** A complete event, or the name of a process or track. Times in microseconds. */
export type TraceEvent =
  | {
      readonly ph: 'X';
      readonly name: string;
      readonly cat: string;
      readonly ts: number;
      readonly dur: number;
      readonly pid: number;
      readonly tid: number;
      readonly args: Readonly<Record<string, unknown>>;
    }
  | {
      readonly ph: 'M';
      readonly name: 'process_name' | 'thread_name' | 'thread_sort_index';
      readonly pid: number;
      readonly tid: number;
      readonly args: Readonly<Record<string, unknown>>;
    };

/** The document. */
export interface Trace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: 'ms';
  readonly otherData: Readonly<Record<string, string>>;
}

/** Something that took time on a track; milliseconds by performance.now(). */
export interface Span {
  readonly name: string;
  readonly begin: number;
  readonly end: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

const PID = 1;

/** One process with these tracks, the earliest event at 0. */
export function chromeTrace(tracks: Readonly<Record<string, readonly Span[]>>, about: Record<string, string>): Trace {
  const zero = Math.min(...Object.values(tracks).flatMap((spans) => spans.map(({ begin }) => begin)));
  const events: TraceEvent[] = [];
  const names: TraceEvent[] = [{ ph: 'M', name: 'process_name', pid: PID, tid: 0, args: { name: 'odelt' } }];
  let tid = 0;
  for (const [track, spans] of Object.entries(tracks)) {
    for (const [i, lane] of lanes(spans).entries()) {
      tid++;
      const name = i === 0 ? track : `${track} ${i + 1}`;
      names.push({ ph: 'M', name: 'thread_name', pid: PID, tid, args: { name } });
      names.push({ ph: 'M', name: 'thread_sort_index', pid: PID, tid, args: { sort_index: tid } });
      for (const { name, begin, end, args = {} } of lane) {
        const [ts, dur] = [(begin - zero) * 1000, (end - begin) * 1000];
        events.push({ ph: 'X', name, cat: track, ts, dur, pid: PID, tid, args });
      }
    }
  }
  events.sort((a, b) => (a.ph === 'X' && b.ph === 'X' ? a.ts - b.ts || b.dur - a.dur : 0));
  return { traceEvents: [...names, ...events], displayTimeUnit: 'ms', otherData: about };
}

/** Divides spans into lanes in each of which any two are apart or one holds the other. */
function lanes(spans: readonly Span[]): Span[][] {
  const found: { spans: Span[]; open: Span[] }[] = [];
  for (const span of [...spans].sort((a, b) => a.begin - b.begin || b.end - a.end)) {
    const fits = ({ open }: { open: Span[] }) => {
      while (open.length > 0 && open.at(-1)!.end <= span.begin) open.pop();
      return open.length === 0 || open.at(-1)!.end >= span.end;
    };
    let lane = found.find(fits);
    if (!lane) {
      lane = { spans: [], open: [] };
      found.push(lane);
    }
    lane.spans.push(span);
    lane.open.push(span);
  }
  return found.map((lane) => lane.spans);
}

/** Gathers what an engine's host does, and profiles of its programs, until `finish`. */
export class Tracer {
  readonly #engine: Engine;
  readonly #host: Span[] = [];
  readonly #gpu: Span[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
    engine.onPhase = ({ name, label, begin, end }: HostPhase) =>
      void this.#host.push({ name: `${name} ${label}`, begin, end, args: { phase: name, of: label } });
  }

  /** A span of the host's that holds all that `body` does. */
  async span<T>(name: string, body: () => T | Promise<T>): Promise<T> {
    const begin = performance.now();
    try {
      return await body();
    } finally {
      this.#host.push({ name, begin, end: performance.now() });
    }
  }

  /** Runs a program with each dispatch between timestamps; adds nothing to the GPU's track where the device has none. */
  async profile(name: string, program: Program, values: ScalarValues = {}): Promise<void> {
    if (!this.#engine.device.features.has('timestamp-query')) return;
    const works = program.nodes.map((node) => dispatchWork(node, values));
    const started = performance.now();
    const profiled = await this.span(`${name}: with timestamps`, () => profile(this.#engine, program, values));
    profiled.forEach(({ label, begin, seconds }, i) => {
      const at = started + begin * 1000;
      this.#gpu.push({ name: label, begin: at, end: at + Math.max(0, seconds * 1000), args: shown(works[i]!) });
    });
  }

  /** The trace; the engine is not watched any longer. */
  finish(about: Record<string, string> = {}): Trace {
    this.#engine.onPhase = null;
    const gpu =
      this.#gpu.length > 0
        ? 'by the adapter’s timestamps, each dispatch in a pass of its own; the first is put where the host began to submit'
        : 'the device has no timestamps';
    return chromeTrace(
      { host: this.#host, ...(this.#gpu.length > 0 ? { GPU: this.#gpu } : {}) },
      { ...about, GPU: gpu },
    );
  }
}

function shown({ kernel, grid, constants, params, flops, bytes }: DispatchWork): Record<string, unknown> {
  return { kernel, grid: grid.join(' x '), constants, params, flops, bytes };
}
