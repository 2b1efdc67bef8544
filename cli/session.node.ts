/** What every command shares: the engine on the chosen adapter, Ctrl-C as an AbortSignal, output for people and for --json. */
import type { AdapterReport } from '../engine/adapters.node.ts';
import { createNodeEngine } from '../engine/engine.node.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { GroupProgress } from '../model/weights/source.ts';

export interface Session {
  readonly engine: Engine;
  readonly adapter: AdapterReport;
}

/** Acquires a device on `--adapter` (or ODELT_ADAPTER, or the best there is). @throws UnsupportedError. */
export async function openSession(adapter: string | undefined): Promise<Session> {
  const { engine, node } = await createNodeEngine({ adapter: adapter as 'auto' | undefined, onError: () => {} });
  return { engine, adapter: node.adapterReport };
}

/** Aborts on the first Ctrl-C or SIGTERM, saying `what` happens now; a second one ends the process at once. */
export function interruptSignal(what = 'stopping after this step'): AbortSignal {
  const controller = new AbortController();
  let pressed = 0;
  const stop = () => {
    if (++pressed > 1) process.exit(130);
    process.stderr.write(`\n${what} (press Ctrl-C again to stop at once)\n`);
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}

/** How long reading may take unsaid where there is no terminal, in milliseconds. */
const QUIET_READING = 2000;

/** One line that is rewritten in place on a terminal, and printed now and then elsewhere. */
export class ProgressLine {
  #last = 0;
  #width = 0;
  /** When the present reading began; 0 while something else goes on. */
  #reading = 0;
  /** `force` prints even if the last line is recent. */
  update(text: string, force = false): void {
    this.#reading = 0;
    this.#write(text, force);
  }
  #write(text: string, force: boolean): void {
    const now = Date.now();
    const interval = process.stderr.isTTY ? 100 : 10_000;
    if (!force && now - this.#last < interval) return;
    this.#last = now;
    if (process.stderr.isTTY) {
      process.stderr.write(`\r${text.padEnd(this.#width)}`);
      this.#width = text.length;
    } else process.stderr.write(`${text}\n`);
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
}

export const log = (text: string): void => void process.stderr.write(`${text}\n`);
export const print = (text: string): void => void process.stdout.write(`${text}\n`);
export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

/** Parsers for commander's options, with errors that name the option. */
export const number =
  (name: string, rule: { integer?: boolean; min?: number; max?: number } = {}) =>
  (text: string): number => {
    const value = Number(text);
    const { integer = false, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = rule;
    if (
      text.trim() === '' ||
      !Number.isFinite(value) ||
      (integer && !Number.isInteger(value)) ||
      value < min ||
      value > max
    ) {
      const range = [Number.isFinite(min) ? `at least ${min}` : '', Number.isFinite(max) ? `at most ${max}` : '']
        .filter(Boolean)
        .join(' and ');
      throw new ConfigError(
        `${name} is '${text}'; it must be ${integer ? 'an integer' : 'a number'}${range ? ` ${range}` : ''}`,
      );
    }
    return value;
  };

export const duration = (seconds: number): string => {
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};

export const bytes = (n: number): string =>
  n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`;
