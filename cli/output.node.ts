/** What the command says: results on standard output, all else on standard error, and nothing that could steer the terminal. */
import { printable, printableJson, printableLines } from '../engine/text.ts';
import type { GroupProgress } from '../model/weights/source.ts';

/** One line; names in it may be foreign. */
export const log = (line: string): void => void process.stderr.write(`${printable(line)}\n`);
/** Text of our own making, with lines and colours: foreign names in it are escaped by who puts them there. */
export const logLines = (text: string): void => void process.stderr.write(`${printableLines(text)}\n`);
/** The same for results. */
export const print = (text: string): void => void process.stdout.write(`${printableLines(text)}\n`);
export const printJson = (value: unknown): void => void process.stdout.write(`${printableJson(value)}\n`);

/** How long reading may take unsaid where there is no terminal, in milliseconds. */
const QUIET_READING = 2000;

/** At most `columns` places of text. What is not plain ASCII counts as two, which is too many rather than too few. */
export function fitted(text: string, columns: number): string {
  let places = 0;
  let out = '';
  for (const character of text) {
    places += character < '\x7f' ? 1 : 2;
    if (places > columns) break;
    out += character;
  }
  return out;
}

/** One line that is rewritten in place on a terminal, and printed now and then elsewhere. */
export class ProgressLine {
  #last = 0;
  /** Characters that stand in the line. */
  #width = 0;
  /** When the present reading began; 0 while something else goes on. */
  #reading = 0;
  /** `force` prints even if the last line is recent. */
  update(text: string, force = false): void {
    this.#reading = 0;
    this.#write(text, force);
  }
  #write(text: string, force: boolean): void {
    const { isTTY, columns } = process.stderr;
    const now = Date.now();
    const interval = isTTY ? 100 : 10_000;
    if (!force && now - this.#last < interval) return;
    this.#last = now;
    const line = printable(text);
    if (!isTTY) {
      process.stderr.write(`${line}\n`);
      return;
    }
    // In the last column some terminals begin a new line, which could not be rewritten.
    const most = (columns || 80) - 1;
    const shown = fitted(line, most);
    process.stderr.write(`\r${shown}${' '.repeat(Math.max(0, Math.min(this.#width, most) - shown.length))}`);
    this.#width = shown.length;
  }
  /** Says which weights are waited for; elsewhere than on a terminal, only once that has taken two seconds. */
  reading({ name, bytes, totalBytes }: GroupProgress): void {
    this.#reading ||= Date.now();
    if (!process.stderr.isTTY && Date.now() - this.#reading < QUIET_READING) return;
    const [have, all] = [bytes, totalBytes].map((n) => (n / 1e6).toFixed(1));
    // Not held back on a terminal: the group that takes long must be the one that is named.
    this.#write(`reading ${name}: ${have} of ${all} MB`, process.stderr.isTTY);
  }
  /** Ends the line, so that what follows starts on its own. */
  end(): void {
    if (process.stderr.isTTY && this.#width > 0) process.stderr.write('\n');
    this.#width = 0;
    this.#last = 0;
  }
  /** Wipes the line, so that something else can take its place. */
  clear(): void {
    if (process.stderr.isTTY && this.#width > 0) process.stderr.write(`\r${' '.repeat(this.#width)}\r`);
    this.#width = 0;
  }
}

export const duration = (seconds: number): string => {
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};

export const bytes = (n: number): string =>
  n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`;
