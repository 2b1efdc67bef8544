/**
 * Contracts of kernels, and what holds a kernel to its own: the check against float64 and central differences, and timing.
 * @module odelt/bench
 */
export { interleave, runSeconds, type Timed, type Timing } from './bench/harness.ts';
export { benchKernels, type KernelBenchOptions, type KernelResult, type Subject } from './bench/kernels.bench.ts';
export { type BenchOptions, type BenchReport, formatBench, runBench } from './bench/main.ts';
export { benchReplay, type ReplayResult } from './bench/replay.bench.ts';
export {
  type Arrays,
  type Checked,
  caseInputs,
  checkCase,
  checkForward,
  tolerance,
  uploadCase,
  worstElement,
} from './kernels/check.ts';
export { type Contract, contract, type InputSpec } from './kernels/contract.ts';
export { families, type Trial, type TunedFamily } from './kernels/families.ts';
export type { Family, Variant } from './kernels/family.ts';
export { contracts } from './kernels/registry.ts';
