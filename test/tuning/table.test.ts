/** Tuning tables: read back whole or refused by name, for the adapter that they were measured on; and as text. */
import { describe, expect, it } from 'vitest';
import { TuningError } from '../../engine/errors.ts';
import { formatRejected, formatResults, summary } from '../../tuning/report.ts';
import { adapterKey, checkAdapter, mergeResults, parseTable, parseTableText } from '../../tuning/table.ts';
import { adapter, result, table } from '../support/tuning-table.ts';

function refusal(body: () => unknown): TuningError {
  try {
    body();
  } catch (error) {
    if (error instanceof TuningError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a table', () => {
  it('survives JSON', () => {
    expect(parseTableText(JSON.stringify(table), 'x.json')).toEqual(table);
  });

  it.each([
    ['x.json is damaged: it is no JSON', JSON.stringify(table).slice(0, -20)],
    ['x.json is no tuning table', 'null'],
    ['x.json is no tuning table', '[]'],
    ['x.json is no tuning table', JSON.stringify({ model: 1 })],
    ['x.json is of version 2; this odelt reads version 1', JSON.stringify({ ...table, version: 2 })],
    ['x.json is of version undefined; this odelt reads version 1', JSON.stringify({ ...table, version: undefined })],
    [
      'x.json is damaged: results.0.variant is 7, not string',
      JSON.stringify({ ...table, results: [{ ...result, variant: 7 }] }),
    ],
    [
      'x.json is damaged: results.0.seconds.reviewed.0 is -1, not >0',
      JSON.stringify({ ...table, results: [{ ...result, seconds: { reviewed: [-1], variant: [1] } }] }),
    ],
    ['x.json is damaged: results is missing', JSON.stringify({ ...table, results: undefined })],
  ])('is refused: %s', (message, json) => {
    const error = refusal(() => parseTableText(json, 'x.json'));
    expect(error).toMatchObject({ code: 'tuning', hint: expect.stringContaining('odelt tune --again') });
    expect(error.message).toBe(message);
  });

  it('is for one adapter and driver', () => {
    checkAdapter(table, { ...adapter }, 'x.json');
    const other = { ...adapter, driver: 'some driver 1.2.4' };
    expect(adapterKey(other)).not.toBe(adapterKey(adapter));
    const halves = { ...adapter, modes: ['f16', 'matrix units'] };
    expect(adapterKey(halves)).not.toBe(adapterKey(adapter));
    expect(() => checkAdapter(table, halves, 'x.json')).toThrow('(some driver 1.2.3, f16, matrix units)');
    // A table from before modes counted is read, for whoever gives it; stores look for another name.
    const { modes: _, ...old } = adapter;
    const before = parseTable({ ...table, adapter: old }, 'x.json');
    checkAdapter(before, halves, 'x.json');
    expect(adapterKey(before.adapter)).not.toBe(adapterKey(adapter));
    expect(refusal(() => checkAdapter(table, other, 'x.json')).message).toBe(
      'x.json was measured on Some GPU 9000 (some driver 1.2.3); this engine is on Some GPU 9000 (some driver 1.2.4)',
    );
  });

  it('takes new results in the place of old ones', () => {
    const again = { ...result, shape: { n: 64, vec: true, layout: 'NN' }, variant: 'register' };
    const other = { ...result, shape: { layout: 'NT', vec: true, n: 64 } };
    expect(mergeResults([result], [other, again])).toEqual([again, other]);
    expect(parseTable(JSON.parse(JSON.stringify({ ...table, results: [] })), 'x').results).toEqual([]);
  });
});

describe('a report', () => {
  const kept = { ...result, variant: 'register', rejected: [{ variant: 'warp', error: 'element 3 is 1, 2 expected' }] };

  it('says what was gained, and what was the fastest where nothing was', () => {
    const lines = formatResults([result, kept]).split('\n');
    expect(lines[2]).toMatch(
      /product layout NN, vec true, n 64 +\| 1 \/ 16 +\| 2\.00 \/ 10\.00 +\| 1\.00 \/ 8\.00 +\| 0\.63 \(0\.60 to 0\.66\) +\| staged +\| register +\|/,
    );
    expect(lines[3]).toMatch(/\| 2\.00 \/ 10\.00 \| +\| staged: 0\.63 \(0\.60 to 0\.66\) \| register \| +\|/);
    expect(formatResults([kept], false)).toBe('');
  });

  it('names wrong variants with their error, and counts the rest', () => {
    expect(formatRejected([result, kept])).toBe(
      'product layout NN, vec true, n 64: warp is not used: element 3 is 1, 2 expected',
    );
    const problem = { family: 'product', shape: { n: 1 }, tokens: 4, uses: 1 };
    expect(
      summary({ results: [result, kept], known: [problem], single: [], left: [problem], uncovered: [problem] }),
    ).toBe(
      '2 problems tuned, another variant is faster for 1; 1 known from before; 1 left for another time, as the budget is spent; ' +
        '1 that no trial exercises here (product n 1).',
    );
  });
});
