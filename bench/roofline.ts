/**
 * The ceilings of an adapter, measured: bytes that it moves and multiply-adds that it does per second, each in several ways of
 * which the best counts. A kernel cannot be faster than the nearer of the two (Williams, Waterman, Patterson 2009).
 */
import type { Context } from '../engine/context.ts';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { OdeltError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import type { Work } from '../kernels/contract.ts';
import { type Clock, compileRepeated, interleave, type Repeated, type Timing } from './harness.ts';
import source from './roofline.wgsl';

const kernel = defineKernel('roofline', source);

/** The most that was reached. */
export interface Ceiling {
  /** Median of the best variant: 10^9 bytes per second, read and written, or 10^9 operations per second. */
  readonly rate: number;
  /** How it was reached, in words. */
  readonly variant: string;
  /** Bytes or operations of one repeat, and its seconds. */
  readonly work: number;
  readonly timing: Timing;
}

/** What an adapter can do at most. */
export interface Ceilings {
  /** Copying a buffer larger than caches. */
  readonly copy: Ceiling;
  /** Multiply-adds in float32, two operations each, in registers. */
  readonly multiplyAdd: Ceiling;
  /** The same in native 16-bit floats; null without `shader-f16`. Kernels of odelt compute in float32. */
  readonly multiplyAddF16: Ceiling | null;
}

/** The nearer ceiling for some work, and the seconds that it takes there. */
export interface Roof {
  readonly bound: 'compute' | 'memory';
  readonly seconds: number;
}

/** No implementation of the work is faster on this adapter, unless caches serve what it reads and writes. */
export function roofOf({ flops, bytes }: Work, { copy, multiplyAdd }: Pick<Ceilings, 'copy' | 'multiplyAdd'>): Roof {
  const [compute, memory] = [flops / multiplyAdd.rate / 1e9, bytes / copy.rate / 1e9];
  return compute > memory ? { bound: 'compute', seconds: compute } : { bound: 'memory', seconds: memory };
}

interface Candidate {
  readonly variant: string;
  readonly work: number;
  readonly use: (ctx: Context) => void;
}

/** Rounds in which variants meet each other; the winner gets the rounds that were asked for. */
const HEATS = 3;
/** How many times slower than another a variant's first runs show it to be, where it need not meet it. */
const HOPELESS = 2;

/** Ceilings, and the programs that reach them: to be timed again beside kernels, as a machine's speed changes within a run. */
export interface OpenCeilings {
  readonly ceilings: Ceilings;
  readonly copy: Repeated;
  readonly multiplyAdd: Repeated;
  /** Frees the programs. */
  dispose(): void;
}

/** @throws OdeltError ('wrong-result') where an adapter computes wrong; OutOfMemoryError. */
export async function measureCeilings(engine: Engine, clock: Clock, rounds: number): Promise<Ceilings> {
  const { ceilings, dispose } = await openCeilings(engine, clock, rounds);
  dispose();
  return ceilings;
}

/** As `measureCeilings`; the caller disposes the programs. */
export async function openCeilings(engine: Engine, clock: Clock, rounds: number): Promise<OpenCeilings> {
  const owned: (() => void)[] = [];
  const dispose = () => {
    for (const free of owned.splice(0)) free();
  };
  const best = async (candidates: readonly Candidate[]) => {
    const found = await bestOf(engine, clock, rounds, candidates);
    owned.push(() => found.program.program.dispose());
    return found;
  };
  try {
    const copy = await best(await copies(engine, (t) => owned.push(() => engine.release(t))));
    const multiplyAdd = await best(await multiplyAdds(engine, false));
    const halves = engine.device.features.has('shader-f16') ? await best(await multiplyAdds(engine, true)) : null;
    const ceilings = {
      copy: copy.ceiling,
      multiplyAdd: multiplyAdd.ceiling,
      multiplyAddF16: halves?.ceiling ?? null,
    };
    return { ceilings, copy: copy.program, multiplyAdd: multiplyAdd.program, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The fastest candidate and its program; the others' are disposed. */
async function bestOf(
  engine: Engine,
  clock: Clock,
  rounds: number,
  candidates: readonly Candidate[],
): Promise<{ ceiling: Ceiling; program: Repeated }> {
  const programs: Repeated[] = [];
  let kept: Repeated | undefined;
  try {
    for (const { variant, use } of candidates) programs.push(await compileRepeated(engine, variant, clock, use));
    const guesses = programs.map(({ roundSeconds, repeats }, i) => (candidates[i]!.work * repeats) / roundSeconds);
    const near = [...programs.keys()].filter((i) => guesses[i]! >= Math.max(...guesses) / HOPELESS);
    const heats = await interleave(
      near.map((i) => programs[i]!),
      HEATS,
    );
    const rates = heats.map(({ median }, at) => candidates[near[at]!]!.work / median);
    const winner = near[rates.indexOf(Math.max(...rates))]!;
    const program = programs[winner]!;
    const [timing] = await interleave([program], rounds);
    const { variant, work } = candidates[winner]!;
    kept = program;
    return { ceiling: { rate: work / timing!.median / 1e9, variant, work, timing: timing! }, program };
  } finally {
    for (const p of programs) if (p !== kept) p.program.dispose();
  }
}

/** Floats to copy: more than caches hold (72 MB on the largest consumer GPUs), in one binding that every device has. */
const copiedFloats = ({ adapterClass, largestBinding }: Engine): number =>
  Math.floor(Math.min(adapterClass === 'gpu' ? 2 ** 27 : 2 ** 26, largestBinding) / 4 / 4096) * 4096;

const wrong = (what: string, got: number | undefined, want: number): never => {
  throw new OdeltError('wrong-result', `${what} gave ${got}, ${want} expected`, {
    hint: 'run `odelt verify` on this adapter; a driver may be at fault',
  });
};

/** Ways to copy, each checked. `own` is told the buffers, to be released when no candidate is used any more. */
async function copies(engine: Engine, own: (t: Tensor) => void): Promise<Candidate[]> {
  const floats = copiedFloats(engine);
  const buffer = (name: string) => {
    const t = engine.tensor(name, [floats]);
    own(t);
    return t;
  };
  const [origin, copied] = [buffer('origin'), buffer('copied')];
  await engine.allocated();
  const ways = [true, false].flatMap((vector) => [1, 4, 16, 64].map((each) => ({ vector, each })));
  const candidates = ways.map(({ vector, each }): Candidate => {
    const size = floats / (vector ? 4 : 1);
    const constants = { WG: WG_COPY, EACH: each, VECTOR: vector };
    return {
      variant: `copy of ${vector ? 'vec4' : 'f32'}, ${each} per invocation`,
      work: 8 * floats,
      use: (ctx) =>
        ctx.dispatch({
          ...{ kernel, entry: 'copy', constants, tensors: { origin, copied } },
          ...{ params: { ...NO_PARAMS, size }, grid: ceilDiv(size, WG_COPY * each) },
        }),
    };
  });
  for (const [shift, { variant, use }] of candidates.entries()) {
    await eager(engine, async (ctx) => {
      fill(ctx, origin, floats, shift);
      use(ctx);
    });
    for (const at of [0, Math.floor(floats / 128) * 64, floats - 64]) {
      const values = await engine.read(engine.slice(copied, at, 'part', [64]));
      const want = (i: number) => ((at + i + shift) % 8191) + 1;
      const off = values.findIndex((v, i) => v !== want(i));
      if (off >= 0) wrong(`element ${at + off} of a ${variant}`, values[off], want(off));
    }
  }
  return candidates;
}

const WG_COPY = 64;
const NO_PARAMS = { size: 0, shift: 0, steps: 0, factor: 1, addend: 1 };

function fill(ctx: Context, pattern: Tensor, size: number, shift: number): void {
  ctx.dispatch({
    ...{ kernel, entry: 'fill', constants: { WG: WG_COPY, EACH: 16 }, tensors: { pattern } },
    ...{ params: { ...NO_PARAMS, size, shift }, grid: ceilDiv(size, WG_COPY * 16) },
  });
}

/** Four links each: 1,024, beside which a half still counts by one. */
const STEPS = 256;

/** How `multiply_add` is launched: CPU drivers want few invocations, GPUs many. */
const launchOf = ({ adapterClass }: Engine) =>
  adapterClass === 'gpu' ? { wg: 256, groups: 4096 } : { wg: 64, groups: 128 };

function multiplyAdd(ctx: Context, options: Readonly<Record<string, number | boolean>>): Tensor {
  const { wg, groups } = launchOf(ctx.engine);
  const sums = ctx.empty('sums', [wg * groups]);
  const params = { ...NO_PARAMS, steps: STEPS };
  const constants = { WG: wg, ...options };
  ctx.dispatch({ kernel, entry: 'multiply_add', constants, tensors: { sums }, params, grid: groups });
  return sums;
}

/** Work that takes time and no memory, to compare clocks by. */
export const arithmetic = (ctx: Context): void => void multiplyAdd(ctx, { CHAINS: 8 });

/** Ways to multiply and add in registers, each checked. */
async function multiplyAdds(engine: Engine, halves: boolean): Promise<Candidate[]> {
  const { wg, groups } = launchOf(engine);
  const ways = [
    ...[4, 8, 16].map((chains) => ({ chains, vector: false, fused: true })),
    ...[2, 4, 8].map((chains) => ({ chains, vector: true, fused: true })),
    // Some drivers compute fma() in software.
    { chains: 8, vector: false, fused: false },
    { chains: 4, vector: true, fused: false },
  ];
  const candidates: Candidate[] = [];
  for (const { chains, vector, fused } of ways) {
    const options = { CHAINS: chains, VECTOR: vector, FUSED: fused, F16: halves };
    const type = `${vector ? 'vec4 of ' : ''}${halves ? 'f16' : 'f32'}`;
    const variant = `${chains} chains of ${fused ? 'fma' : 'x * a + b'} in ${type}`;
    const lanes = vector ? 4 : 1;
    const sums = await eager(engine, (ctx) => engine.read(multiplyAdd(ctx, options)));
    const want = (i: number) => lanes * chains * ((i % 8) + (chains - 1) / 2 + 4 * STEPS);
    const off = sums.findIndex((v, i) => v !== want(i));
    if (off >= 0) wrong(`invocation ${off} of ${variant}`, sums[off], want(off));
    candidates.push({
      variant,
      work: 2 * 4 * STEPS * lanes * chains * wg * groups,
      use: (ctx) => void multiplyAdd(ctx, options),
    });
  }
  return candidates;
}
