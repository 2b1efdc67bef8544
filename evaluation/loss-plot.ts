/** The losses of a run as a picture: what its updates and its validations came to. */
import { linePlot } from '../pictures/line-plot.ts';
import { type LossCurve, lossCurves, validationCurves } from '../training/metrics.ts';
import type { TrainEvent } from '../training/trainer.ts';

/**
 * An SVG of the losses by kind, each point the mean over `mean` updates, and of the validations; and the curves in it, none where no update
 * has a loss. @throws ConfigError for a mean over more updates than there are
 */
export function lossPlot(events: readonly TrainEvent[], mean: number): { svg: string; series: LossCurve[] } {
  const series = [...lossCurves(events, mean), ...validationCurves(events)];
  if (series.length === 0) return { svg: '', series };
  const svg = linePlot({
    title: 'Mean squared velocity error by what a sample learns',
    x: { label: 'updates' },
    y: { label: 'loss', log: true },
    series,
  });
  return { svg, series };
}
