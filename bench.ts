/**
 * Contracts of kernels, and what holds a kernel to its own: the check against float64 and central differences, and timing.
 * @module odelt/bench
 */

export { type CaseChoice, SHAPES, type ShapeName } from './bench/cases.ts';
export { type ClockChoice, chooseClock } from './bench/clock.ts';
export { type Comparable, compareRuns, compareSubjects, pairedRatio, runsRatio, verdictOf } from './bench/compare.ts';
export type { DecoderUse } from './bench/decoder-cases.ts';
export {
  type Clock,
  compileRepeated,
  interleave,
  type Repeated,
  runSeconds,
  type Timed,
  type Timing,
} from './bench/harness.ts';
export { formatBenchHtml } from './bench/html.ts';
export {
  benchKernels,
  type CaseProgress,
  type CeilingRates,
  type KernelBenchOptions,
  type KernelResult,
  type Measurable,
  type Subject,
} from './bench/kernels.bench.ts';
export { type BenchOptions, runBench } from './bench/main.ts';
export { formatBench } from './bench/markdown.ts';
export { contractsOf } from './bench/own-contracts.ts';
export { type Prepared, prepareCase } from './bench/prepare.ts';
export { type Comparison64, type ReadyCase, type ReadyOptions, readyCase } from './bench/ready-case.ts';
export { benchReplay, type ReplayResult } from './bench/replay.bench.ts';
export {
  type BenchReport,
  type Comparison,
  type Comparisons,
  parseReport,
  type Ratio,
  type SubjectReport,
  type Verdict,
} from './bench/report.ts';
export {
  type Ceiling,
  type Ceilings,
  measureCeilings,
  type OpenCeilings,
  openCeilings,
  type Roof,
  roofOf,
} from './bench/roofline.ts';
export { profile, type TimedDispatch, timed } from './engine/timed.ts';
export { tuningBy, tuningOf } from './kernels/candidates.ts';
export {
  type CaseTensors,
  type Checked,
  checkCase,
  checkForward,
  checkPart,
  type PartChecked,
  tolerance,
  uploadCase,
  worstElement,
} from './kernels/check.ts';
export {
  type Arrays,
  type BlockShape,
  type Contract,
  type Cost,
  contract,
  type InputSpec,
  type InputSpecs,
  type Part,
  type Pick,
  type Work,
} from './kernels/contract.ts';
export { caseInputs, type Expected, type ExpectedPart } from './kernels/expected.ts';
export { families, type Trial, type TunedFamily } from './kernels/families.ts';
export type { Candidates, Family, Variant } from './kernels/family.ts';
export { contracts } from './kernels/registry.ts';
export type { Entrant } from './tuning/candidate.ts';
export type { TuningProblem } from './tuning/problem.ts';
export { type ProblemOptions, problemsOf } from './tuning/problems.ts';
export { formatRejected, formatResults, summary } from './tuning/report.ts';
export type { Samples } from './tuning/select.ts';
export { indexedDbStore } from './tuning/store.ts';
export { adapterKey, checkAdapter, mergeResults, parseTable, tableOf, tunedAdapter } from './tuning/table.ts';
export { type TimeEntrants, type Tuned, type TuneOptions, type TuneProgress, tune } from './tuning/tune.ts';
