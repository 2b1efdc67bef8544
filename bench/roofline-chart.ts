/** A report's results as the points of a roofline. */
import type { RooflineChart } from '../pictures/roofline-plot.ts';
import type { KernelResult } from './kernels.bench.ts';
import { milliseconds, rate, share, sizes } from './markdown.ts';
import type { SubjectReport } from './report.ts';

const tooltip = (r: KernelResult): string =>
  `${r.kernel} ${r.pass}: ${sizes(r.case)}; ${milliseconds(r.timing.median)} ms, ${rate(r.gflops)} GFLOP/s, ${rate(r.gbytes)} GB/s, ${share(r)}`;

/** The roofline of a subject: its ceilings, and its passes. Those that compute nothing, or in no time above the noise, have no place in it. */
export function rooflineChart({ name, ceilings }: SubjectReport, kernels: readonly KernelResult[]): RooflineChart {
  const points = kernels.flatMap((r) => {
    if (r.subject !== name || !r.flops || !r.bytes || r.gflops === null) return [];
    const place = { intensity: r.flops / r.bytes, gflops: r.gflops };
    return [{ name: r.kernel, title: tooltip(r), hollow: r.pass === 'backward', ...place }];
  });
  return {
    title: `Roofline of ${name}`,
    gbytes: ceilings.copy.rate,
    gflops: ceilings.multiplyAdd.rate,
    points,
    filledName: 'forward',
    hollowName: 'backward',
  };
}
