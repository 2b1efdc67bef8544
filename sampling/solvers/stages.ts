/** What Runge-Kutta methods keep on the GPU, the state and the velocities at their stages, and the programs that compute with them. */
import type { Context } from '../../engine/context.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Arena } from '../../engine/memory/arena.ts';
import { Program, record } from '../../engine/program.ts';
import { type Scalar, scalarInput } from '../../engine/scalar.ts';
import { reshaped, type Tensor } from '../../engine/tensor.ts';
import { copyInto } from '../../kernels/add.ts';
import { sumSquares } from '../../kernels/reduce.ts';
import { combineStages, scaledStages, storeStage } from '../../kernels/stages.ts';

/** Sum of the state times `own` and of the slots times these. */
export interface Combination {
  readonly own: number;
  readonly slots: readonly number[];
}

export class Stages {
  /** [slots, batch, H, W, C]. */
  readonly #velocities: Tensor;
  /** [batch, H, W, C]. */
  readonly #state: Tensor;
  /** Where the network is evaluated, and between steps the state. */
  readonly #x: Tensor;
  readonly #engine: Engine;
  readonly #programs: { keep: Program; combine: Program; norm: Program | null };
  readonly #sum: Tensor | null;

  private constructor(
    engine: Engine,
    x: Tensor,
    tensors: { state: Tensor; velocities: Tensor },
    programs: { keep: Program; combine: Program; norm: Program | null },
    sum: Tensor | null,
  ) {
    this.#engine = engine;
    this.#x = x;
    this.#state = tensors.state;
    this.#velocities = tensors.velocities;
    this.#programs = programs;
    this.#sum = sum;
  }

  /** For up to `batch` samples of x; `norms`: whether errors will be asked for. */
  static async create(
    engine: Engine,
    arena: Arena,
    x: Tensor,
    { slots, batch, norms }: { slots: number; batch: number; norms: boolean },
  ): Promise<Stages> {
    const picture = x.shape.slice(1) as number[];
    const { state, velocities } = engine.memory.allOrNothing(() => ({
      state: engine.tensor('solver/state', [batch, ...picture], { kind: 'activations' }),
      velocities: engine.tensor('solver/stages', [slots, batch, ...picture], { kind: 'activations' }),
    }));
    const made: Program[] = [];
    const compile = async (recording: ReturnType<typeof record>['recording']) => {
      const program = await Program.compile(engine, recording, { arena });
      made.push(program);
      return program;
    };
    try {
      const rows = scalarInput('rows', batch);
      const some = (t: Tensor) => reshaped(t, [rows, ...picture]);
      const sum = {
        ...{ x: some(state), stages: velocities, own: scalarInput('own') },
        slots: Array.from({ length: slots }, (_, j): Scalar => scalarInput(`c${j}`)),
      };
      const keep = record(engine, 'solver/keep', (ctx) => void copyInto(ctx, some(x), some(state)));
      const combine = record(engine, 'solver/combine', (ctx) => combineStages(ctx, sum, some(x)));
      const norm = record(engine, 'solver/norm', (ctx, kept) => {
        const total = sumSquares(ctx, scaledStages(ctx, sum, some(x), scalarInput('tolerance')));
        kept(total);
        return total;
      });
      const programs = {
        keep: await compile(keep.recording),
        combine: await compile(combine.recording),
        norm: norms ? await compile(norm.recording) : null,
      };
      return new Stages(engine, x, { state, velocities }, programs, norms ? norm.result : null);
    } catch (error) {
      for (const program of made) program.dispose();
      engine.release(state);
      engine.release(velocities);
      throw error;
    }
  }

  /** Records: the velocities' slot = v. */
  store(ctx: Context, v: Tensor, slot: Scalar): void {
    storeStage(ctx, v, this.#velocities, slot);
  }

  /** The state = x. */
  keep(rows: number): void {
    this.#programs.keep.run({ rows });
  }

  /** x = the combination. */
  combine(rows: number, of: Combination): void {
    this.#programs.combine.run({ rows, ...named(of) });
  }

  /**
   * Root mean square over all samples and pixels of the combination by what is tolerated, tolerance (1 + max(|state|, |x|)). Waits for the
   * GPU and reads one number.
   */
  async norm(rows: number, tolerance: number, of: Combination): Promise<number> {
    const norm = this.#programs.norm!;
    norm.run({ rows, tolerance, ...named(of) });
    const [[sum]] = (await norm.read(this.#sum!)) as [Float32Array];
    const pixels = this.#x.shape.slice(1).reduce<number>((n, d) => n * (d as number), 1);
    return Math.sqrt(sum! / (rows * pixels));
  }

  dispose(): void {
    for (const program of Object.values(this.#programs)) program?.dispose();
    this.#engine.release(this.#state);
    this.#engine.release(this.#velocities);
  }
}

const named = ({ own, slots }: Combination) => ({ own, ...Object.fromEntries(slots.map((c, j) => [`c${j}`, c])) });
