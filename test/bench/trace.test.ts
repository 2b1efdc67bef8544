/** The trace event format's rules, and what a trace says of spans that were told to it. */
import { expect, it } from 'vitest';
import { chromeTrace, type Span } from '../../bench/trace.ts';
import { checkTrace } from '../support/trace.ts';

const span = (name: string, begin: number, end: number): Span => ({ name, begin, end });

it('follows the format: microseconds from the earliest event, tracks by name', () => {
  const trace = chromeTrace(
    {
      host: [span('run', 10, 12.5), span('submit', 11, 12)],
      GPU: [{ ...span('matmul', 12, 14), args: { grid: '3' } }],
    },
    { model: 'tiny' },
  );
  checkTrace(trace);
  const events = trace.traceEvents.filter((e) => e.ph === 'X');
  expect(events.map(({ name, ts, dur, tid }) => [name, ts, dur, tid])).toEqual([
    ['run', 0, 2500, 1],
    ['submit', 1000, 1000, 1],
    ['matmul', 2000, 2000, 2],
  ]);
  expect(events[2]!.args).toEqual({ grid: '3' });
  const tracks = trace.traceEvents.filter((e) => e.name === 'thread_name');
  expect(tracks.map(({ tid, args }) => [tid, args.name])).toEqual([
    [1, 'host'],
    [2, 'GPU'],
  ]);
  expect(trace.otherData).toEqual({ model: 'tiny' });
});

it('puts spans that cross on tracks beside each other', () => {
  const crossing = [span('compile', 0, 10), span('wait', 5, 15), span('write', 6, 8), span('bind', 10, 12)];
  const trace = chromeTrace({ host: crossing }, {});
  checkTrace(trace);
  const events = trace.traceEvents.filter((e) => e.ph === 'X');
  expect(new Map(events.map(({ name, tid }) => [name, tid]))).toEqual(
    new Map([
      ['compile', 1],
      ['write', 1],
      ['bind', 1],
      ['wait', 2],
    ]),
  );
});
