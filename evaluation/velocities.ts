/** Velocities of the network at any point, time, level and number of blocks, a batch at a time. */
import type { Engine } from '../engine/engine.ts';
import { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { type Model, rowsPerGroup, velocity } from '../model/dit.ts';

/** Where velocities are asked for: all rows at one time, level and number of blocks. */
export interface VelocityRequest {
  /** `[rows, H, W, C]`; `batch` rows at most. */
  readonly x: Float32Array;
  readonly labels: readonly number[];
  readonly t: number;
  readonly level: number;
  readonly blocks: number;
}

/** The network as a function; to be disposed. */
export interface Velocities {
  /** Gives `[rows, H, W, C]`. */
  of(asked: VelocityRequest): Promise<Float32Array>;
  /** Frees its programs and inputs; the weights stay. */
  dispose(): void;
}

/** Makes it for `batch` rows; a number of blocks is compiled at its first use. The weights must be resident. */
export function createVelocities(engine: Engine, model: Model, batch: number): Velocities {
  const { imageSize, channels, lengths } = model.config;
  const size = imageSize ** 2 * channels;
  const u32 = (label: string) => engine.tensor(label, [batch], { dtype: 'u32' });
  const inputs = engine.memory.allOrNothing(() => ({
    x: engine.tensor('x', [batch, imageSize, imageSize, channels]),
    t: engine.tensor('t', [batch]),
    step: engine.tensor('step', [batch]),
    labels: u32('labels'),
    lengths: u32('lengths'),
  }));
  const arena = new Arena(engine, 'velocities');
  const programs = new Map<number, { program: Program; v: Tensor }>();

  async function compiled(blocks: number) {
    const known = programs.get(blocks);
    if (known) return known;
    const rows = rowsPerGroup(model.config, [blocks]).filter((n) => n > 0);
    const depth = lengths ? { lengths: inputs.lengths, rows: rows.map(() => batch) } : undefined;
    const { recording, result } = record(engine, `velocity L=${blocks}`, (ctx, keep) => {
      const v = velocity(ctx, model, inputs, depth);
      keep(v);
      return { v };
    });
    const made = { program: await Program.compile(engine, recording, { arena }), ...result };
    programs.set(blocks, made);
    return made;
  }

  return {
    async of({ x, labels, t, level, blocks }) {
      const { program, v } = await compiled(blocks);
      // Rows beyond those asked for compute something that nobody reads.
      const all = new Float32Array(batch * size);
      all.set(x);
      engine.write(inputs.x, all);
      engine.write(inputs.t, new Float32Array(batch).fill(t));
      engine.write(inputs.step, new Float32Array(batch).fill(level));
      engine.write(
        inputs.labels,
        Uint32Array.from({ length: batch }, (_, i) => labels[i] ?? 0),
      );
      engine.write(inputs.lengths, new Uint32Array(batch).fill(blocks));
      program.run({});
      const [values] = await program.read(v);
      return values!.slice(0, x.length) as Float32Array;
    },
    dispose() {
      for (const { program } of programs.values()) program.dispose();
      arena.dispose();
      for (const tensor of Object.values(inputs)) engine.release(tensor);
    },
  };
}
