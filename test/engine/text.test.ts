/** Text from elsewhere cannot steer a terminal. */
import { describe, expect, it } from 'vitest';
import { ConfigError, OdeltError } from '../../engine/errors.ts';
import { printable, printableJson, printableLines } from '../../engine/text.ts';

describe('printable', () => {
  it('leaves ordinary text alone, whatever its script', () => {
    for (const text of [
      '',
      'block_3/kernel',
      'C:\\new\\table',
      'größe 大きさ حجم',
      'a\u{1f469}\u200d\u{1f4bb}b',
      '~!"',
    ]) {
      expect(printable(text)).toBe(text);
    }
  });

  it.each([
    ['\x1b[2J\x1b]0;title\x07', '\\x1b[2J\\x1b]0;title\\x07'],
    ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['\0\x7f', '\\x00\\x7f'],
    ['\x9b31m\x85', '\\x9b31m\\x85'],
    ['\u202egnp.exe\u2066\u2069\u200f\u061c', '\\u202egnp.exe\\u2066\\u2069\\u200f\\u061c'],
    ['\u2028\u2029\ufeff', '\\u2028\\u2029\\ufeff'],
    ['\ud800x\udfff', '\\ud800x\\udfff'],
  ])('escapes %j', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('escapes each control character, so that none is left', () => {
    const all = Array.from({ length: 0x3000 }, (_, i) => String.fromCharCode(i)).join('');
    expect(printable(all)).not.toMatch(/\p{Cc}|\p{Bidi_Control}|\p{Zl}|\p{Zp}/u);
  });
});

describe('printableLines', () => {
  it('keeps lines and plain colours only', () => {
    expect(printableLines('\x1b[31mred\x1b[39m\nnext\x1b[2K\x1b[5m\r\x1b[8m')).toBe(
      '\x1b[31mred\x1b[39m\nnext\\x1b[2K\\x1b[5m\\r\\x1b[8m',
    );
  });

  it('keeps no more of nested or broken codes than plain colours', () => {
    expect(printableLines('\x1b\x1b[31m\x1b[31;5m\x1b[')).toBe('\\x1b\x1b[31m\\x1b[31;5m\\x1b[');
  });
});

describe('printableJson', () => {
  it('is JSON of the same value without any raw control character or mark of direction', () => {
    const value = { 'na\x1b[2Jme': ['\x7f\x9b', '\u202e', 'größe', '\ud800'], n: 1 };
    const json = printableJson(value);
    expect(JSON.parse(json)).toEqual(value);
    expect(json.replaceAll('\n', '')).not.toMatch(/\p{Cc}|\p{Bidi_Control}|\p{Surrogate}/u);
    expect(json).toContain('größe');
  });
});

describe('errors', () => {
  it('have messages of one line, whatever the names in them', () => {
    const error = new ConfigError('a\nb: \x1b[31m\u202e', { hint: 'try\n\x1b[2J' });
    expect(error.message).toBe('a\\nb: \\x1b[31m\\u202e');
    expect(error.hint).toBe('try\n\\x1b[2J');
  });

  it('keep the lines of details, and nothing else', () => {
    expect(new OdeltError('x', 'failed', { details: 'one\n\ttwo\x1b[31m' }).message).toBe(
      'failed: one\n\\ttwo\\x1b[31m',
    );
    expect(new OdeltError('x', 'tried', { details: '\n  - a' }).message).toBe('tried:\n  - a');
  });
});
