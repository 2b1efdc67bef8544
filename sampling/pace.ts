/** How far the host may run ahead of the GPU: work is submitted one after the other, so many before the first of them is done. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';

export class Pace {
  readonly #engine: Engine;
  readonly #ahead: number;
  readonly #under: { readonly done: Promise<void>; readonly finished: () => void }[] = [];

  /** `ahead`: pieces of work that may be submitted before the one before them is done. */
  constructor(engine: Engine, ahead: number) {
    this.#engine = engine;
    this.#ahead = ahead;
  }

  /** Submits a piece of work; `finished` is called when it is known to be done. @throws what went wrong in pieces before. */
  async submit(run: () => Promise<void>, finished: () => void): Promise<void> {
    await run();
    this.#under.push({ done: this.#engine.done(), finished });
    while (this.#under.length > this.#ahead) {
      const { done, finished: tell } = this.#under.shift()!;
      await done;
      this.#engine.check();
      tell();
    }
  }

  /** What was submitted is done, as whoever has read from the GPU knows: tells of it. */
  settle(): void {
    for (const { finished } of this.#under.splice(0)) finished();
  }

  /** @throws InterruptedError, once all that was submitted is done, where `signal` says so. */
  async unlessAborted(signal: AbortSignal | undefined, what: (under: number) => string): Promise<void> {
    if (!signal?.aborted) return;
    await Promise.all(this.#under.map(({ done }) => done));
    throwIfAborted(signal, what(this.#under.length));
  }
}
