/** Errors through structured clone: what arrives is what was thrown. */
import { describe, expect, it } from 'vitest';
import {
  ConfigError,
  ConvergenceError,
  DeviceLostError,
  InterruptedError,
  LimitError,
  OdeltError,
} from '../../engine/errors.ts';
import { receivedError, sendableError } from '../../web/errors.ts';

const through = (error: unknown) => receivedError(structuredClone(sendableError(error)));

describe('an error from the worker', () => {
  it.each([
    new ConfigError('steps is 3', { hint: 'give a power of two' }),
    new InterruptedError(),
    new DeviceLostError('the device was lost', { details: 'line one\nline two' }),
    new LimitError('too much', { asked: 7, available: 5 }),
    new ConvergenceError('no end', { t: 0.5, accepted: 3, rejected: 2, tolerance: 1e-5 }),
    new OdeltError('wrong-result', 'element 3 is 4', { hint: 'verify' }),
    new TypeError('x is not a function'),
  ])('%s arrives as it left', (error) => {
    const arrived = through(error);
    const isOurs = error instanceof OdeltError;
    expect(arrived).toBeInstanceOf(isOurs ? error.constructor : Error);
    expect(arrived.name).toBe(error.name);
    expect(arrived.message).toBe(error.message);
    expect(arrived.stack).toBe(error.stack);
    const { code, hint, asked, available, t, tolerance } = error as unknown as Record<string, unknown>;
    expect(arrived).toMatchObject(
      Object.fromEntries(
        Object.entries({ code, hint, asked, available, t, tolerance }).filter(([, value]) => value !== undefined),
      ),
    );
    expect('code' in arrived).toBe(isOurs);
  });

  it('brings its causes', () => {
    const cause = new LimitError('inner', { asked: 2, available: 1 }, { cause: new Error('innermost') });
    const arrived = through(new ConfigError('outer', { cause }));
    expect(arrived.cause).toBeInstanceOf(LimitError);
    expect((arrived.cause as Error).cause).toMatchObject({ message: 'innermost' });
  });

  it('is an error whatever was thrown, and no class that the message names but that is none', () => {
    expect(through('text')).toMatchObject({ name: 'Error', message: 'text' });
    expect(receivedError({ name: 'causesOf', code: 'x', message: 'm', fields: {} })).toBeInstanceOf(OdeltError);
    expect(receivedError({ name: '__proto__', message: 'm', fields: {} }).message).toBe('m');
  });
});
