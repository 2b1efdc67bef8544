/** How solvers take a batch from noise to data: those of one stage here, those of more in staged.ts, which is loaded when one is asked for (on-request.ts). */
import type { SampleRequest } from '../request.ts';
import type { Schedule } from '../schedule.ts';
import { END } from './controller.ts';
import type { Solve } from './integrate.ts';
import type { Batch } from './staged.ts';
import type { Stages } from './stages.ts';

/** Takes the batch to the end. `stages` where the schedule keeps some. @throws ConvergenceError, NonFiniteError (solvers/integrate.ts). */
export async function walk(
  batch: Batch,
  schedule: Schedule,
  stages: Stages | null,
  request: SampleRequest,
): Promise<Solve> {
  if (stages) {
    const { adaptive, rungeKutta } = await import('../on-request.ts');
    return schedule.evaluations === null
      ? adaptive(batch, schedule, stages, request)
      : rungeKutta(batch, schedule, stages);
  }
  for (const [i, step] of schedule.steps.entries()) {
    if (schedule.solver === 'consistency') {
      // To where the velocity points, and part of the way back with new noise.
      await batch.evaluate(step.evaluations[0]!, { h: END - step.from }, step.to);
      if (i < schedule.steps.length - 1) await batch.renoise(i, step.to);
    } else await batch.evaluate(step.evaluations[0]!, { h: step.h }, step.to);
  }
  return { accepted: schedule.steps.map(({ to }) => to), rejected: 0 };
}
