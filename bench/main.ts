/** A benchmark run as a whole: clock and ceilings of every subject, kernels, comparison, replay. Runs in browsers as in Node. */
import { throwIfAborted } from '../engine/abort.ts';
import { describeAdapter } from '../engine/device.ts';
import { ConfigError } from '../engine/errors.ts';
import type { Contract } from '../kernels/contract.ts';
import { contracts as registered } from '../kernels/registry.ts';
import { casesOf } from './cases.ts';
import { chooseClock } from './clock.ts';
import { compareRuns, compareSubjects } from './compare.ts';
import { benchKernels, type KernelBenchOptions, type Measurable, type Subject, totalCases } from './kernels.bench.ts';
import { benchReplay, type ReplayResult } from './replay.bench.ts';
import { type BenchReport, FORMAT, type SubjectReport } from './report.ts';
import { openCeilings } from './roofline.ts';

/** Which kernels a benchmark takes, and what its report is to say of the machine. */
export interface BenchOptions extends Omit<KernelBenchOptions, 'contracts'> {
  /** Contracts of your own; default: the registered ones. Replay is measured with those only. */
  readonly contracts?: readonly Contract[];
  /** Only kernels whose name contains this. */
  readonly filter?: string;
  /** Only kernels of these names. */
  readonly kernels?: readonly string[];
  /** A saved report that the first subject is compared with, and its name. Two subjects are compared with each other. */
  readonly saved?: { readonly name: string; readonly report: BenchReport };
  readonly command?: string;
  readonly machine?: string;
  readonly load?: number;
  readonly versions?: Readonly<Record<string, string>>;
  readonly note?: string;
}

const CEILING_ROUNDS = 7;
/** Intervals of few samples are too narrow. Rounds of two subjects are shared out among several preparations. */
const COMPARED_ROUNDS = { runs: 15, subjects: 28 } as const;

/**
 * Checks and times kernels, and replay, on every subject.
 * @throws ConfigError when no kernel with cases to time matches; OdeltError ('wrong-result') for a kernel that computes wrong; InterruptedError.
 */
export async function runBench(subjects: readonly Subject[], options: BenchOptions): Promise<BenchReport> {
  const { contracts = registered, onCase, signal } = options;
  const date = new Date().toISOString();
  const chosen = chosenContracts(contracts, options);
  const total = totalCases(chosen, options);
  const measured: Measurable[] = [];
  const described: SubjectReport[] = [];
  try {
    for (const subject of subjects) {
      const { name, engine, prepareCase: ofOtherBuild } = subject;
      const adapter = describeAdapter(engine.device);
      const [first] = measured;
      if (ofOtherBuild && first) {
        // This build's programs do not run on another build's engine; the adapter is the same.
        measured.push({ ...subject, clock: first.clock, ceilings: first.ceilings });
        described.push({ ...described[0]!, name, adapter });
        continue;
      }
      throwIfAborted(signal, 'the benchmark was interrupted');
      onCase?.(`clock and ceilings of ${name}`, { done: 0, total });
      const clock = await chooseClock(engine);
      const open = await openCeilings(engine, clock.clock, CEILING_ROUNDS);
      measured.push({ ...subject, clock: clock.clock, ceilings: open });
      described.push({ name, adapter, clock, ceilings: open.ceilings });
    }
    return await measure(measured, described, chosen, { ...options, date });
  } finally {
    for (const { ceilings } of measured) ceilings.dispose();
  }
}

async function measure(
  subjects: readonly Measurable[],
  described: readonly SubjectReport[],
  chosen: readonly Contract[],
  options: BenchOptions & { readonly date: string },
): Promise<BenchReport> {
  const { filter = '', kernels: named, contracts = registered, shapes, saved, onCase, date } = options;
  const decodersAlone = shapes?.every((shape) => shape === 'decoder');
  const compared = subjects.length > 1 ? COMPARED_ROUNDS.subjects : saved ? COMPARED_ROUNDS.runs : undefined;
  const mostRounds = options.mostRounds ?? compared;
  const kernels = await benchKernels(subjects, { ...options, contracts: chosen, mostRounds });
  const replay: ({ subject: string } & ReplayResult)[] = [];
  for (const { name, engine, prepareCase: ofOtherBuild } of subjects) {
    if (filter !== '' || named || contracts !== registered || ofOtherBuild || decodersAlone) continue;
    const total = totalCases(chosen, options);
    onCase?.(`replay on ${name}`, { done: total, total });
    replay.push({ subject: name, ...(await benchReplay(engine)) });
  }
  const { command = '', machine = 'unknown', load = null, versions = {}, note = '' } = options;
  const about = { format: FORMAT, date, command, machine, load, versions, note } as const;
  const run = { ...about, subjects: described, kernels, replay };
  const [first, second] = subjects;
  const against = saved
    ? compareRuns(run, saved.report, saved.name)
    : second
      ? compareSubjects(kernels, first!.name, second.name)
      : null;
  return { ...run, against };
}

function chosenContracts(contracts: readonly Contract[], options: BenchOptions): Contract[] {
  const { filter = '', kernels } = options;
  const benched = contracts.filter((c) => c.bench);
  const unknown = kernels?.find((name) => !benched.some((c) => c.name === name));
  const named = benched.filter((c) => c.name.includes(filter) && (kernels?.includes(c.name) ?? true));
  if (named.length === 0 || unknown !== undefined) {
    throw new ConfigError(
      `no kernel that is timed ${unknown === undefined ? `matches '${filter}'` : `is '${unknown}'`}`,
      {
        hint: `there are ${benched.map((c) => c.name).join(', ') || 'none: give contracts with bench'}`,
      },
    );
  }
  const chosen = named.filter((c) => casesOf(c, options).length > 0);
  if (chosen.length === 0) {
    throw new ConfigError(`none of ${named.map((c) => c.name).join(', ')} has cases of the shapes and sizes chosen`, {
      hint: `their own cases are the shapes 'small'`,
    });
  }
  return chosen;
}
