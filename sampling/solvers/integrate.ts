/** The loop of an adaptive solver, on whatever machine computes its steps: try, judge, go on, until the end or a limit. */
import { ConvergenceError, NonFiniteError } from '../../engine/errors.ts';
import { begin, type ControllerRules, isDone, judge, type Progress } from './controller.ts';

/** What computes steps: the GPU (solvers/stages.ts), or plain arrays (solvers/plain.ts). Norms are root mean squares by tolerated error. */
export interface Machine {
  /** Computes the step and the norm of its error; the state stays what it was. */
  attempt(from: number, to: number): Promise<number>;
  /** Makes the end of the last attempt the state. */
  accept(): void;
  /** Norms of the state and of its velocity at the start. */
  norms(): Promise<{ state: number; velocity: number }>;
  /** Norm of the change of velocity along an Euler step of h from the start, by h. */
  bend(h: number): Promise<number>;
}

export interface IntegrateOptions extends ControllerRules {
  /** Of the allowed error, for messages. */
  readonly tolerance: number;
  /** 'auto': from the velocity and its change at the start. */
  readonly firstStep: number | 'auto';
  /** Most steps, accepted and rejected. */
  readonly maxSteps: number;
  /** Told after each step, before the next. */
  readonly onStep?: (progress: Progress) => void;
}

/** How a solve went. */
export interface Solve {
  /** Times at which accepted steps ended; the last is 1. */
  readonly accepted: readonly number[];
  readonly rejected: number;
}

/**
 * Takes a machine from 0 to 1.
 * @throws ConvergenceError where the limit of steps is reached, or steps too short to tell apart; NonFiniteError.
 */
export async function integrate(machine: Machine, options: IntegrateOptions): Promise<Solve> {
  const { maxSteps, onStep, tolerance, ulp } = options;
  let at = begin(options.firstStep === 'auto' ? await firstStep(machine, options.order) : options.firstStep);
  while (!isDone(at)) {
    const steps = at.accepted.length + at.rejected;
    const tooShort = at.to - at.from <= ulp * at.from;
    if (steps >= maxSteps || tooShort) throw notReached(at, tooShort, options);
    const error = await machine.attempt(at.from, at.to);
    if (!Number.isFinite(error)) {
      throw new NonFiniteError(
        `the step from t = ${short(at.from)} to ${short(at.to)} is not finite, after ${told(at)} at tolerance ${tolerance}`,
        {
          hint: 'use activations in f32 if they are in f16; otherwise the weights may be damaged, or the driver wrong: `odelt verify` checks it',
        },
      );
    }
    const next = judge(at, error, options);
    if (next.accepted.length > at.accepted.length) machine.accept();
    at = next;
    onStep?.(at);
  }
  return { accepted: at.accepted, rejected: at.rejected };
}

const short = (t: number) => String(Number(t.toPrecision(6)));

const told = ({ accepted, rejected }: Progress) => `${accepted.length} accepted and ${rejected} rejected steps`;

function notReached(at: Progress, tooShort: boolean, { tolerance, maxSteps }: IntegrateOptions): ConvergenceError {
  const why = tooShort
    ? `the next one, of ${short(at.to - at.from)}, is too short to tell`
    : `${maxSteps} are the most`;
  return new ConvergenceError(
    `the solver reached t = ${short(at.from)} of 1 in ${told(at)} at tolerance ${tolerance}; ${why}`,
    { t: at.from, accepted: at.accepted.length, rejected: at.rejected, tolerance },
    { hint: tooShort ? 'use a larger tolerance' : 'allow more steps, or use a larger tolerance' },
  );
}

/** Shares of a first step (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4). */
const SHARE = 0.01;
const TINY = 1e-5;

async function firstStep(machine: Machine, order: number): Promise<number> {
  const { state, velocity } = await machine.norms();
  const euler = state < TINY || velocity < TINY ? 1e-6 : (SHARE * state) / velocity;
  const largest = Math.max(velocity, await machine.bend(Math.min(euler, 1)));
  const next = largest <= 1e-15 ? Math.max(1e-6, euler * 1e-3) : (SHARE / largest) ** (1 / order);
  return Math.min(100 * euler, next);
}
