/** Made-up results of benchmarks, for what compares and shows them. */
import { timingOf } from '../../bench/harness.ts';
import type { KernelResult } from '../../bench/kernels.bench.ts';
import type { BenchReport, SubjectReport } from '../../bench/report.ts';
import type { Ceiling } from '../../bench/roofline.ts';

/** A forward pass of 0.5 s: 8 operations per byte, at 40 GFLOP/s. */
export const kernelResult = (fields: Partial<KernelResult> = {}): KernelResult => ({
  kernel: 'linear',
  case: { size: 4 },
  subject: 'lavapipe',
  pass: 'forward',
  layer: null,
  timing: timingOf([0.5, 0.5, 0.5]),
  placements: 1,
  both: null,
  clock: 'timestamp',
  repeats: 1,
  dispatches: 1,
  flops: 2e10,
  bytes: 2.5e9,
  gflops: 40,
  gbytes: 5,
  bound: 'memory',
  ceilingRates: { copy: [10, 10, 10], multiplyAdd: [100, 100, 100] },
  roofline: 0.5,
  error: 1e-7,
  checked: 4,
  outputs: 4,
  pipelines: 0,
  coldSeconds: 0,
  ...fields,
});

const ceiling = (rate: number): Ceiling => ({
  rate,
  variant: 'some way',
  work: 1e9 * rate,
  timing: timingOf([1, 1, 1]),
});

/** 10 GB/s and 100 GFLOP/s. */
export const subjectReport = (fields: Partial<SubjectReport> = {}): SubjectReport => ({
  name: 'lavapipe',
  adapter: { name: 'A', driver: '1.0', kind: 'lavapipe' } as SubjectReport['adapter'],
  clock: { clock: 'timestamp', reason: 'they agree', agreement: [1, 1] },
  ceilings: { copy: ceiling(10), multiplyAdd: ceiling(100), multiplyAddF16: null },
  ...fields,
});

export const benchReport = (fields: Partial<BenchReport> = {}): BenchReport => ({
  format: 1,
  date: '2026-01-02T03:04:05.000Z',
  command: 'odelt bench kernels',
  machine: '2 x CPU',
  load: 0.5,
  versions: { odelt: '0.1.0' },
  note: '',
  subjects: [subjectReport()],
  kernels: [kernelResult()],
  replay: [],
  against: null,
  ...fields,
});
