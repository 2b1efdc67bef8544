/** Progress lines stay within one line of the terminal, and leave nothing of the longer line before. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fitted, ProgressLine, printJson } from '../../cli/output.node.ts';

/** What a terminal of so many columns shows after the text: its lines, wrapped where they are too long. */
function screen(text: string, columns: number): string[] {
  const lines = [''];
  let at = 0;
  for (const character of text) {
    if (character === '\r') at = 0;
    else if (character === '\n') {
      lines.push('');
      at = 0;
    } else {
      if (at === columns) {
        lines.push('');
        at = 0;
      }
      const line = lines.at(-1)!.padEnd(at);
      lines[lines.length - 1] = line.slice(0, at) + character + line.slice(at + 1);
      at++;
    }
  }
  return lines.map((line) => line.trimEnd());
}

let written = '';
const { stderr } = process;
const before = { isTTY: stderr.isTTY, columns: stderr.columns };
const terminal = (columns: number) => Object.assign(stderr, { isTTY: true, columns });

beforeEach(() => {
  written = '';
  vi.spyOn(stderr, 'write').mockImplementation((text) => {
    written += text;
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  Object.assign(stderr, before);
});

describe('ProgressLine', () => {
  it('shows what fits a narrow terminal, in one line', () => {
    terminal(20);
    const line = new ProgressLine();
    for (const step of [1, 22, 333]) line.update(`step ${step} of 1000  loss 0.1234 (flow 0.1)`, true);
    expect(screen(written, 20)).toEqual(['step 333 of 1000  l']);
  });

  it('leaves nothing of a longer line, nor of one in a terminal that has become narrower', () => {
    terminal(40);
    const line = new ProgressLine();
    line.update('a long line of some thirty letters', true);
    line.update('short', true);
    expect(screen(written, 40)).toEqual(['short']);
    line.update('a long line of some thirty letters', true);
    written = '';
    terminal(10);
    line.update('short', true);
    expect(screen(written, 10)).toEqual(['short']);
    expect(written.length).toBeLessThanOrEqual(10);
  });

  it('is wiped by clear and ended by end', () => {
    terminal(40);
    const line = new ProgressLine();
    line.update('to be wiped', true);
    line.clear();
    line.update('to be kept', true);
    line.end();
    line.end();
    line.clear();
    expect(screen(written, 40)).toEqual(['to be kept', '']);
  });

  it('shows names that could steer the terminal as escapes', () => {
    terminal(80);
    new ProgressLine().reading({ name: 'block\x1b[2J\n', bytes: 1e6, totalBytes: 2e6 } as never);
    expect(written).toBe('\rreading block\\x1b[2J\\n: 1.0 of 2.0 MB');
  });

  it('is printed whole where there is no terminal', () => {
    Object.assign(stderr, { isTTY: false, columns: 10 });
    new ProgressLine().update('a line that is longer than that', true);
    expect(written).toBe('a line that is longer than that\n');
  });
});

it('fitted counts what may be two places wide as two', () => {
  expect(fitted('abcdef', 4)).toBe('abcd');
  expect(fitted('日本語', 4)).toBe('日本');
  expect(fitted('a日本', 4)).toBe('a日');
  expect(fitted('', 4)).toBe('');
});

it('printJson prints JSON that cannot steer the terminal', () => {
  let printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += text;
    return true;
  });
  printJson({ name: '\x9b2J\u202e' });
  expect(printed).toBe('{\n  "name": "\\u009b2J\\u202e"\n}\n');
});
