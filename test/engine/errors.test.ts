/** What is behind an error is told to the end, and once. */
import { expect, it } from 'vitest';
import { throwIfAborted } from '../../engine/abort.ts';
import * as errors from '../../engine/errors.ts';
import { CheckpointError, causesOf, DataError } from '../../engine/errors.ts';

it('errors have the names of their classes, however short a bundler makes those', () => {
  const { LimitError, ConvergenceError, OdeltError, causesOf: _, ...plain } = errors;
  for (const [name, Class] of Object.entries(plain)) expect(new Class('message').name).toBe(name);
  const amounts = { asked: 2, available: 1 };
  expect(new LimitError('message', amounts).name).toBe('LimitError');
  const reached = { t: 0, accepted: 0, rejected: 0, tolerance: 1 };
  expect(new ConvergenceError('message', reached).name).toBe('ConvergenceError');
  expect(new OdeltError('shader', 'message').name).toBe('OdeltError');
});

it('causes are told to the last, outermost first', () => {
  const root = Object.assign(new Error('connect refused 127.0.0.1'), { code: 'ECONNREFUSED' });
  const middle = new TypeError('fetch failed', { cause: root });
  expect(causesOf(new CheckpointError('cannot read', { cause: middle }))).toEqual([
    'fetch failed',
    'connect refused 127.0.0.1 (ECONNREFUSED)',
  ]);
});

it('what stopped the work is told, but for the reason that an abort has by itself', () => {
  const stopped = (signal?: AbortSignal): Error | undefined => {
    try {
      throwIfAborted(signal, 'reading was interrupted');
      return undefined;
    } catch (error) {
      return error as Error;
    }
  };
  expect(stopped()).toBeUndefined();
  expect(stopped(new AbortController().signal)).toBeUndefined();
  const plain = stopped(AbortSignal.abort());
  expect(plain).toMatchObject({ name: 'InterruptedError', message: 'reading was interrupted' });
  expect(plain!.cause).toMatchObject({ name: 'AbortError' });
  expect(causesOf(plain)).toEqual([]);
  expect(causesOf(stopped(AbortSignal.abort(new Error('the page is left'))))).toEqual(['the page is left']);
});

it('parts of an AggregateError are told, and what is behind them', () => {
  const parts = [new Error('one'), new Error('two', { cause: new DataError('three\n') })];
  const all = Object.assign(new AggregateError(parts), { code: 'EALL' });
  expect(causesOf(new Error('all failed', { cause: all }))).toEqual(['EALL', 'one', 'two', 'three\\n']);
  expect(causesOf(new AggregateError(parts, 'outermost'))).toEqual(['one', 'two', 'three\\n']);
});

it('nothing is told twice, circles end, and there is an end to it', () => {
  const [a, b]: Error[] = [new Error('a says'), new Error('b says')];
  a!.cause = b;
  b!.cause = a;
  expect(causesOf(a)).toEqual(['b says']);
  expect(causesOf(new Error('wrapped: no space left', { cause: new Error('no space left') }))).toEqual([]);
  let deep = new Error('0');
  for (let i = 1; i < 100; i++) deep = new Error(`number ${i}.`, { cause: deep });
  expect(causesOf(deep)).toHaveLength(16);
});

it('causes that are no errors, or would steer a terminal, are told safely', () => {
  expect(causesOf(new Error('x', { cause: 'a\x1b[2J' }))).toEqual(['a\\x1b[2J']);
  expect(causesOf(new Error('x', { cause: Object.create(null) }))).toEqual(['[object Object]']);
  expect(causesOf('no error')).toEqual([]);
  expect(causesOf(undefined)).toEqual([]);
});
