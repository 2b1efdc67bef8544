/** The rules of the Chrome trace event format that odelt's traces must keep, as far as Perfetto needs them. */
import { expect } from 'vitest';

interface Event {
  readonly ph: string;
  readonly name: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly pid: number;
  readonly tid: number;
  readonly args: Record<string, unknown>;
}

/** Fails unless every event is well formed, they are sorted, and those of one track are apart or one inside the other. */
export function checkTrace(document: unknown): void {
  const { traceEvents: events, displayTimeUnit } = JSON.parse(JSON.stringify(document)) as {
    traceEvents: Event[];
    displayTimeUnit: string;
  };
  expect(displayTimeUnit).toBe('ms');
  const named = new Set<string>();
  const open = new Map<string, number[]>();
  let last = 0;
  for (const { ph, name, ts, dur, pid, tid, args } of events) {
    const track = `${pid}/${tid}`;
    expect(Number.isInteger(pid) && Number.isInteger(tid) && name !== '' && typeof args === 'object', name).toBe(true);
    if (ph === 'M') {
      if (name === 'thread_name') named.add(track);
      continue;
    }
    expect(ph).toBe('X');
    expect(ts! >= last && dur! >= 0, `${name} begins at ${ts}, after one at ${last}, and takes ${dur}`).toBe(true);
    last = ts!;
    expect(named.has(track), `track ${track} of ${name} has a name`).toBe(true);
    const ends = open.get(track) ?? [];
    // Sums of milliseconds in another unit are off by some bits.
    const slack = 1e-3;
    while (ends.length > 0 && ends.at(-1)! <= ts! + slack) ends.pop();
    if (ends.length > 0)
      expect(ts! + dur!, `${name} ends inside what holds it`).toBeLessThanOrEqual(ends.at(-1)! + slack);
    open.set(track, [...ends, ts! + dur!]);
  }
}
