/**
 * The slabs that programs place their activations in. Programs that never run at once (the same model at several numbers
 * of blocks, or sampling and its encoder) share one arena, so that the largest alone decides its size.
 */
import { type Engine, STORAGE_USAGE } from '../engine.ts';
import { type MirrorNeeds, MirrorTextures } from '../mirrors.ts';

/** Slabs of GPU memory that several programs use in turn. */
export class Arena {
  readonly #engine: Engine;
  readonly #label: string;
  /** Textures for what its programs mirror. @internal */
  readonly mirrors: MirrorTextures;
  #slabs: (GPUBuffer | null)[] = [];
  /** Counts reallocations: bind groups made for an earlier generation are stale. */
  generation = 0;
  /** The program that ran last: only its outputs are still there. */
  owner: object | null = null;

  constructor(engine: Engine, label = 'activations') {
    this.#engine = engine;
    this.#label = label;
    this.mirrors = new MirrorTextures(engine.memory, label);
  }

  /** Bytes of all slabs. */
  get bytes(): number {
    return this.#slabs.reduce((n, b) => n + (b?.size ?? 0), 0);
  }

  /** The buffer of slab `i`. */
  slab(i: number): GPUBuffer {
    return this.#slabs[i]!;
  }

  /** False once the device turned out to have no memory for a slab or mirror: `reserve` then makes it anew. */
  get intact(): boolean {
    return this.#slabsIntact && this.mirrors.intact;
  }

  get #slabsIntact(): boolean {
    return this.#slabs.every((slab) => !slab || this.#engine.memory.isLive(slab));
  }

  /**
   * Makes every slab and mirror at least as large as asked; contents are lost where one grows. @internal
   * @throws OutOfMemoryError, LimitError; what the slabs had is then allocated as before. Whether the device has the memory is known
   * later (`Engine.allocated`); slabs that it has none for are missing then.
   */
  reserve(sizes: readonly number[], mirrors: MirrorNeeds): void {
    if (!this.#slabsIntact) this.#dropLost();
    sizes.forEach((size, i) => {
      const have = this.#slabs[i];
      if (have && have.size >= size) return;
      const create = (bytes: number) => {
        this.#slabs[i] = this.#engine.memory.create('activations', `${this.#label}/slab${i}`, bytes, STORAGE_USAGE);
        this.generation++;
        this.owner = null;
      };
      // The old slab goes first, so that the peak never holds both; where the new one does not fit, it comes back.
      if (have) this.#engine.memory.destroy(have);
      try {
        create(size);
      } catch (error) {
        if (have) create(have.size);
        throw error;
      }
    });
    if (this.mirrors.reserve(mirrors)) this.generation++;
  }

  /** Frees slabs and mirrors. */
  dispose(): void {
    for (const slab of this.#slabs) if (slab) this.#engine.memory.destroy(slab);
    this.#slabs = [];
    this.mirrors.dispose();
    this.generation++;
  }

  #dropLost(): void {
    this.#slabs = this.#slabs.map((slab) => (slab && this.#engine.memory.isLive(slab) ? slab : null));
    this.generation++;
    this.owner = null;
  }
}
