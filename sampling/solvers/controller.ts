/**
 * Choosing steps by their error: the rules of the reference's controller as pure functions on plain numbers, in the order accept or
 * reject, next step, end of the interval.
 */

/** Which of the last errors decide the next step: the last alone, or the one before it, too (proportional-integral). */
export const CONTROLLERS = ['integral', 'pi'] as const;
/** One of `CONTROLLERS`. */
export type Controller = (typeof CONTROLLERS)[number];

/** Powers of the last error and of the last accepted one before it, by the order of the method. */
const POWERS: Readonly<Record<Controller, { last: number; before: number }>> = {
  integral: { last: 1, before: 0 },
  pi: { last: 0.7, before: 0.4 },
};

/** A step that the error makes just acceptable is made this much shorter. */
const SAFETY = 0.9;
/** Bounds of the change of step size. */
const SHORTEST = 0.2;
const LONGEST = 10;
/** A step that would end so near the end ends there: in units of the last place. */
const NEAR = 100;

/** Where time ends: 0 is noise, 1 is data. */
export const END = 1;

export interface ControllerRules {
  readonly controller: Controller;
  /** Order of the method. */
  readonly order: number;
  /** Spacing of the numbers near 1 that times are computed in. */
  readonly ulp: number;
}

/** A solve under way: the step to be tried, and those that were. */
export interface Progress {
  readonly from: number;
  readonly to: number;
  /** Times reached, without the first. */
  readonly accepted: readonly number[];
  readonly rejected: number;
  /** Error of the last accepted step. */
  readonly before: number;
}

/** A solve from 0 whose first step has this length. */
export const begin = (firstStep: number): Progress => ({
  from: 0,
  to: Math.min(firstStep, END),
  accepted: [],
  rejected: 0,
  before: 1,
});

export const isDone = ({ from }: Progress): boolean => from >= END;

/** The solve after its step turned out to have this error, in units of what is tolerated: below 1 is accepted. */
export function judge(at: Progress, error: number, { controller, order, ulp }: ControllerRules): Progress {
  const { last, before } = POWERS[controller];
  const accepted = error < 1;
  const wanted = SAFETY * error ** (-last / order) * at.before ** (before / order);
  const [least, most] = accepted ? [1, LONGEST] : [SHORTEST, SAFETY];
  // An error of zero wants an endless step.
  const factor = Math.min(Math.max(wanted, least), most);
  const from = accepted ? at.to : at.from;
  const next = from + (at.to - at.from) * factor;
  // A step that was too long once is not to take all that is left.
  const limit = accepted ? END : from + (END - from) / 2;
  return {
    from,
    to: next > END - NEAR * ulp ? limit : next,
    accepted: accepted ? [...at.accepted, at.to] : at.accepted,
    rejected: at.rejected + (accepted ? 0 : 1),
    before: accepted && error > 0 ? error : at.before,
  };
}
