/** Noise of samples: what they start from, and what consistency sampling mixes in, from the caller or from a seed by sample number. */
import type { Engine } from '../engine/engine.ts';
import type { Arena } from '../engine/memory/arena.ts';
import { philox } from '../engine/philox.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput } from '../engine/scalar.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { copyInto } from '../kernels/add.ts';
import { euler, guide } from '../kernels/flow.ts';
import { randomNormal } from '../kernels/random/random.ts';
import type { EvaluationInputs } from './evaluation.ts';

/** Random streams. */
const START = 0x73616d70;
const AGAIN = 0x72656e6f;

/** Which samples: `rows` of them from number `first` on, of a seed. */
export interface Numbered {
  readonly rows: number;
  readonly seed: number;
  readonly first: number;
}

export class Noise {
  readonly #engine: Engine;
  readonly #arena: Arena;
  readonly #inputs: EvaluationInputs;
  readonly #programs = new Map<string, Program>();
  /** The caller's noise of one batch, while there is some. */
  #given: Tensor | null = null;

  constructor(engine: Engine, arena: Arena, inputs: EvaluationInputs) {
    this.#engine = engine;
    this.#arena = arena;
    this.#inputs = inputs;
  }

  /** x = the noise that the samples start from. */
  async start(samples: Numbered, given: Float32Array | undefined): Promise<void> {
    const { x, numbers } = this.#inputs;
    if (given) return this.#engine.write(x, given);
    const program = await this.#program('noise', () =>
      record(this.#engine, 'noise', (ctx) => {
        const from = { seed: 0, stream: START, step: scalarInput('seed'), indices: numbers };
        euler(ctx, x, randomNormal(ctx, x.shape, from), 1);
      }),
    );
    this.#engine.write(x, new Float32Array(maxSize(x)));
    this.#number(samples);
    program.run({ seed: samples.seed });
  }

  /** x = t x + (1 - t) noise, after step `index`. */
  async again(samples: Numbered, index: number, t: number, given: Float32Array | undefined): Promise<void> {
    const { x, numbers } = this.#inputs;
    const mixed = (name: string, noise: (ctx: Parameters<Parameters<typeof record>[2]>[0]) => Tensor) =>
      this.#program(name, () =>
        record(this.#engine, name, (ctx) => void copyInto(ctx, guide(ctx, noise(ctx), x, scalarInput('t')), x)),
      );
    if (given) {
      this.#given ??= this.#engine.tensor('noise/given', x.shape as [number, ...number[]]);
      const held = this.#given;
      const program = await mixed('noise/given', () => held);
      this.#engine.write(held, given);
      return program.run({ t });
    }
    const program = await mixed('noise/again', (ctx) =>
      randomNormal(ctx, x.shape, { seed: 0, stream: AGAIN, step: scalarInput('word'), indices: numbers }),
    );
    this.#number(samples);
    program.run({ t, word: philox([index, 0, 0, 0], [samples.seed, AGAIN])[0] });
  }

  /** Frees what only a caller's noise needs. */
  trim(): void {
    if (!this.#given) return;
    this.#programs.get('noise/given')?.dispose();
    this.#programs.delete('noise/given');
    this.#engine.release(this.#given);
    this.#given = null;
  }

  dispose(): void {
    this.trim();
    for (const program of this.#programs.values()) program.dispose();
    this.#programs.clear();
  }

  #number({ rows, first }: Numbered): void {
    const { numbers } = this.#inputs;
    this.#engine.write(
      numbers,
      Uint32Array.from({ length: maxSize(numbers) }, (_, i) => first + Math.min(i, rows - 1)),
    );
  }

  async #program(name: string, recorded: () => ReturnType<typeof record>): Promise<Program> {
    const known = this.#programs.get(name);
    if (known) return known;
    const program = await Program.compile(this.#engine, recorded().recording, { arena: this.#arena });
    this.#programs.set(name, program);
    return program;
  }
}
