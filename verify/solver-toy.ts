/** Recorded solves of plain differential equations by the reference's adaptive solvers, in double precision: no GPU. */
import * as v from 'valibot';
import { DataError } from '../engine/errors.ts';
import { integrate } from '../sampling/solvers/integrate.ts';
import { type Field, plainMachine } from '../sampling/solvers/plain.ts';
import { ADAPTIVE, type AdaptiveName, type Tableau } from '../sampling/solvers/tableaux.ts';
import { type Case, type Measured, scalarError, TOLERANCES, worst } from './case.ts';

/** The equations, by name. */
export const TOYS: Readonly<Record<'decay' | 'rotation' | 'van_der_pol' | 'pulse', { field: Field; start: number[] }>> =
  {
    decay: { field: (_, y) => y.map((value) => -2 * value), start: [1, -0.5, 3] },
    rotation: { field: (_, [a, b]) => [-12 * b!, 12 * a!], start: [1, 0.25] },
    van_der_pol: { field: (_, [a, b]) => [8 * b!, 8 * (3 * (1 - a! ** 2) * b! - a!)], start: [2, 0] },
    pulse: { field: (t, y) => y.map((value) => -value + 20 * Math.exp(-400 * (t - 0.6) ** 2)), start: [0.5, 1] },
  };

const toySolve = v.looseObject({
  y0: v.array(v.number()),
  num_accepted_steps: v.number(),
  num_rejected_steps: v.number(),
  accepted_times: v.array(v.number()),
  y_at_accepted: v.array(v.array(v.number())),
});
/** solver_toy.json, by "equation/solver/tolTOLERANCE". */
export const toySchema = v.record(v.string(), toySolve);
type ToySolve = v.InferOutput<typeof toySolve>;

const NAME = /^(\w+)\/(dopri5|tsit5)\/tol([\d.e-]+)$/;

/** The largest difference of times and states, by the recorded ones; NaN where the numbers of steps differ. */
export async function toyError(name: string, want: ToySolve, other?: Tableau): Promise<Measured> {
  const [, equation, solver, tolerance] = NAME.exec(name) ?? [];
  const toy = TOYS[equation as keyof typeof TOYS];
  if (!toy) throw new DataError(`solver_toy.json: ${name} is no equation that odelt knows`);
  const tableau = other ?? ADAPTIVE[solver as AdaptiveName];
  const machine = plainMachine(toy.field, tableau, want.y0, Number(tolerance));
  const { accepted, rejected } = await integrate(machine, {
    ...{ controller: 'integral', order: tableau.order, ulp: 2 ** -52, firstStep: 0.01, maxSteps: 4096 },
    tolerance: Number(tolerance),
  });
  if (accepted.length !== want.accepted_times.length || rejected !== want.num_rejected_steps) {
    const detail = `${accepted.length} accepted and ${rejected} rejected steps; recorded: ${want.num_accepted_steps} and ${want.num_rejected_steps}`;
    return { error: Number.POSITIVE_INFINITY, detail };
  }
  return worst([
    ...accepted.map((t, i) => [`time ${i}`, scalarError(t, want.accepted_times[i]!)] as const),
    ...machine.states.flatMap((y, i) => {
      const recorded = want.y_at_accepted[i]!;
      const size = Math.max(...recorded.map(Math.abs));
      return y.map((value, e) => [`state ${i}`, Math.abs(value - recorded[e]!) / size] as const);
    }),
  ]);
}

/** One case for each recorded solve. @throws DataError for a file of another form. */
export function toyCases(raw: unknown): Case[] {
  const parsed = v.safeParse(toySchema, raw);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new DataError(`solver_toy.json: ${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`);
  }
  return Object.entries(parsed.output).map(([name, want]) => ({
    kind: 'solver',
    name,
    tolerance: TOLERANCES.solver,
    run: () => toyError(name, want),
  }));
}
