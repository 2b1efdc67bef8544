/** Times every kernel contract that names bench cases, forward and with its backward, on one adapter or on two side by side. */
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { InterruptedError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import { Tape } from '../engine/tape.ts';
import type { Tensor } from '../engine/tensor.ts';
import { addGradients } from '../kernels/add.ts';
import { caseInputs, checkForward, uploadCase } from '../kernels/check.ts';
import type { Contract } from '../kernels/contract.ts';
import { interleave, runSeconds, type Timed, type Timing } from './harness.ts';

/** An engine to measure, and what to call it. */
export interface Subject {
  readonly name: string;
  readonly engine: Engine;
}

/** One case of one kernel on one subject. */
export interface KernelResult {
  readonly kernel: string;
  readonly case: object;
  readonly subject: string;
  readonly pass: 'forward' | 'forward and backward';
  /** Seconds of one use of the kernel, all its dispatches. */
  readonly timing: Timing;
  readonly repeats: number;
  readonly dispatches: number;
  /** Of the forward pass, from the contract's cost; null for a backward, whose cost contracts do not state. */
  readonly gflops: number | null;
  readonly gbytes: number | null;
  /** Largest relative error of the forward pass against float64. */
  readonly error: number;
  /** Pipelines that this case compiled, and the seconds from recording to the end of the first run, less those of a later run. */
  readonly pipelines: number;
  readonly coldSeconds: number;
}

/** What is timed, how often, and who is told. */
export interface KernelBenchOptions {
  readonly contracts: readonly Contract[];
  readonly rounds: number;
  readonly signal?: AbortSignal;
  /** Told before each case. */
  readonly onCase?: (text: string) => void;
  /** Told each result as it comes. */
  readonly onResult?: (result: KernelResult) => void;
}

const AT_LEAST_SECONDS = 0.012;
const MOST_REPEATS = 400;

/** Measures all bench cases of `contracts`. @throws OdeltError for a kernel that computes wrong; InterruptedError. */
export async function benchKernels(subjects: readonly Subject[], options: KernelBenchOptions): Promise<KernelResult[]> {
  const results: KernelResult[] = [];
  for (const c of options.contracts) {
    for (const k of c.bench?.cases ?? []) {
      if (options.signal?.aborted) throw new InterruptedError('the benchmark was interrupted');
      options.onCase?.(`${c.name} ${JSON.stringify(k)}`);
      for (const result of await benchCase(subjects, c, k, options.rounds)) {
        results.push(result);
        options.onResult?.(result);
      }
    }
  }
  return results;
}

async function benchCase(
  subjects: readonly Subject[],
  c: Contract,
  k: object,
  rounds: number,
): Promise<KernelResult[]> {
  const arrays = caseInputs(c, k);
  const want = c.reference(arrays, k);
  const parts: { subject: Subject; backward: boolean; timed: Timed; dispatches: number; cold: Cold }[] = [];
  const owned: { engine: Engine; tensors: Tensor[] }[] = [];
  const errors = new Map<Subject, number>();
  try {
    for (const subject of subjects) {
      const { engine } = subject;
      const inputs = uploadCase(engine, c, k, arrays);
      const outputs = Object.entries(want).map(([name, v]) => [name, onesLike(engine, name, v.length)] as const);
      const gradients = c.differentiable.map(
        (name) => [name, engine.tensor(`d(${name})`, inputs[name]!.shape)] as const,
      );
      owned.push({ engine, tensors: [inputs, Object.fromEntries([...outputs, ...gradients])].flatMap(Object.values) });
      for (const backward of c.differentiable.length > 0 ? [false, true] : [false]) {
        const use = (ctx: Context) => {
          const tape = backward ? new Tape(addGradients) : null;
          ctx.tape = tape;
          for (const [name, gradient] of gradients) tape?.watch(inputs[name]!, gradient);
          const made = c.run(ctx, inputs, k);
          const seeds = Object.fromEntries(outputs);
          const pairs = Object.entries(made).map(([name, y]) => [y, { ...seeds[name]!, shape: y.shape }] as const);
          tape?.backward(ctx, pairs);
        };
        const { once, pipelines, firstSeconds } = await compileCold(engine, `${c.name} once`, use);
        const seconds = await fastestOf(3, { engine, program: once, repeats: 1 });
        const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(AT_LEAST_SECONDS / seconds)));
        const cold = { pipelines, coldSeconds: Math.max(0, firstSeconds - seconds) };
        const { dispatches } = once;
        once.dispose();
        const { recording } = record(engine, `${c.name} x ${repeats}`, (ctx) => {
          for (let i = 0; i < repeats; i++) use(ctx);
        });
        const program = await Program.compile(engine, recording);
        parts.push({ subject, backward, timed: { engine, program, repeats }, dispatches, cold });
      }
      // After the first compilation, so that this finds warm pipelines and the cold seconds stay cold.
      errors.set(subject, await checkForward(engine, c, k, inputs, want));
    }
    const timings = await interleave(
      parts.map((part) => part.timed),
      rounds,
    );
    const { flops, bytes } = c.bench!.cost(k);
    return parts.map(({ subject, backward, timed, dispatches, cold }, i) => ({
      kernel: c.name,
      case: k,
      subject: subject.name,
      pass: backward ? 'forward and backward' : 'forward',
      timing: timings[i]!,
      repeats: timed.repeats,
      dispatches,
      gflops: backward || flops === 0 ? null : flops / timings[i]!.median / 1e9,
      gbytes: backward ? null : bytes / timings[i]!.median / 1e9,
      error: errors.get(subject)!,
      ...cold,
    }));
  } finally {
    for (const { timed } of parts) timed.program.dispose();
    for (const { engine, tensors } of owned) for (const t of tensors) engine.release(t);
  }
}

interface Cold {
  readonly pipelines: number;
  readonly coldSeconds: number;
}

/** Compiles one use and runs it, timing both: some drivers finish compiling only at the first run. */
async function compileCold(engine: Engine, name: string, use: (ctx: Context) => void) {
  const before = engine.pipelines.size;
  const started = performance.now();
  const once = await Program.compile(engine, record(engine, name, use).recording);
  once.run();
  await engine.device.queue.onSubmittedWorkDone();
  const firstSeconds = (performance.now() - started) / 1000;
  return { once, pipelines: engine.pipelines.size - before, firstSeconds };
}

async function fastestOf(runs: number, timed: Timed): Promise<number> {
  let seconds = Number.POSITIVE_INFINITY;
  for (let i = 0; i < runs; i++) seconds = Math.min(seconds, (await runSeconds(timed)).seconds);
  return seconds;
}

const onesLike = (engine: Engine, name: string, size: number): Tensor =>
  engine.tensor(`seed(${name})`, [size], { data: new Float32Array(size).fill(1) });
