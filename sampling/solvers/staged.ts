/** How Runge-Kutta methods take a batch from noise to data: which evaluations they make, and what they do between them. */
import type { Sink } from '../evaluation.ts';
import { ADAPTIVE_DEFAULTS, type SampleRequest } from '../request.ts';
import type { Evaluation, Schedule, Step } from '../schedule.ts';
import { END } from './controller.ts';
import { integrate, type Machine, type Solve } from './integrate.ts';
import type { Combination, Stages } from './stages.ts';

/** A batch under way, as solvers see it. Calls are queued on the GPU in order. */
export interface Batch {
  readonly rows: number;
  /** Gets ready for evaluations, where that is to be done before each step. */
  prepare(evaluations: readonly Evaluation[]): Promise<void>;
  /** Evaluates the velocity at x; `reached`: the time that the batch has then come to. */
  evaluate(evaluation: Evaluation, sink: Sink, reached: number): Promise<void>;
  /** x = t x + (1 - t) new noise, after step `index`. */
  renoise(index: number, t: number): Promise<void>;
  /** Told after each step of an adaptive solver. */
  judged(progress: { t: number; accepted: number; rejected: number }): void;
}

/** The state and h times a row of a tableau, whose stage j lies in slot `slotOf(j)`. */
function along(h: number, row: readonly number[], slots: number, slotOf: (stage: number) => number): Combination {
  const coefficients = new Array<number>(slots).fill(0);
  for (const [j, a] of row.entries()) coefficients[slotOf(j)] = h * a;
  return { own: 1, slots: coefficients };
}

/** Takes the batch to the end by a method without error control. */
export async function rungeKutta(batch: Batch, schedule: Schedule, stages: Stages): Promise<Solve> {
  const { steps } = schedule;
  stages.keep(batch.rows);
  for (const step of steps) await oneStep(batch, schedule, stages, step);
  return { accepted: steps.map(({ to }) => to), rejected: 0 };
}

async function oneStep(batch: Batch, { tableau, kept }: Schedule, stages: Stages, step: Step): Promise<void> {
  const { rows } = batch;
  const at = (row: readonly number[]) => along(step.h, row, kept, (j) => j);
  for (const [i, evaluation] of step.evaluations.entries()) {
    if (i > 0) stages.combine(rows, at(tableau.stages[i]!));
    await batch.evaluate(evaluation, { slot: i }, i < kept - 1 ? step.from : step.to);
  }
  stages.combine(rows, at(tableau.weights));
  stages.keep(rows);
}

/** Takes the batch to the end by a method that chooses its steps. @throws ConvergenceError, NonFiniteError (integrate.ts). */
export async function adaptive(
  batch: Batch,
  schedule: Schedule,
  stages: Stages,
  request: SampleRequest,
): Promise<Solve> {
  const { tolerance, controller, firstStep, maxSteps } = { ...ADAPTIVE_DEFAULTS, ...defined(request) };
  stages.keep(batch.rows);
  return integrate(machineOf(batch, schedule, stages, tolerance), {
    ...{ controller, firstStep, maxSteps, tolerance, order: schedule.tableau.order },
    // The network gets times in float32.
    ulp: 2 ** -23,
    onStep: ({ from, accepted, rejected }) => batch.judged({ t: from, accepted: accepted.length, rejected }),
  });
}

const defined = ({ tolerance, controller, firstStep, maxSteps }: SampleRequest) =>
  Object.fromEntries(
    Object.entries({ tolerance, controller, firstStep, maxSteps }).filter(([, value]) => value !== undefined),
  ) as Partial<Pick<Required<SampleRequest>, 'tolerance' | 'controller' | 'firstStep' | 'maxSteps'>>;

/** Steps on the GPU. The last stage of an accepted step is the first of the next: slots change their parts instead of being copied. */
function machineOf(batch: Batch, schedule: Schedule, stages: Stages, tolerance: number): Machine {
  const { rows } = batch;
  const { tableau, kept, stepAt } = schedule;
  const last = kept - 1;
  let turn = 0;
  let known = false;
  const slotOf = (stage: number) => (stage + turn) % kept;
  const start = async (from: number, evaluation: Evaluation) => {
    if (!known) await batch.evaluate(evaluation, { slot: slotOf(0) }, from);
    known = true;
  };
  const norm = (own: number, row: readonly number[], h = 1) =>
    stages.norm(rows, tolerance, { ...along(h, row, kept, slotOf), own });
  return {
    async attempt(from, to) {
      const { evaluations, h } = stepAt(from, to);
      await batch.prepare(evaluations);
      await start(from, evaluations[0]!);
      for (let i = 1; i < kept; i++) {
        stages.combine(rows, along(h, tableau.stages[i]!, kept, slotOf));
        await batch.evaluate(evaluations[i]!, { slot: slotOf(i) }, from);
      }
      return norm(0, tableau.error!, h);
    },
    accept() {
      // The last stage was evaluated at the end of the step.
      stages.keep(rows);
      turn = slotOf(last);
    },
    async norms() {
      const { evaluations } = stepAt(0, END);
      await batch.prepare(evaluations);
      await start(0, evaluations[0]!);
      return { state: await norm(1, []), velocity: await norm(0, [1]) };
    },
    async bend(h) {
      const { evaluations } = stepAt(0, h);
      await batch.prepare(evaluations);
      stages.combine(rows, along(h, [1], kept, slotOf));
      await batch.evaluate(evaluations[last]!, { slot: slotOf(1) }, 0);
      return norm(0, [-1, 1], 1 / h);
    },
  };
}
