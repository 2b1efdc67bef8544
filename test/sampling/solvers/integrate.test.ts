/** Tableaux, controller and loop in double precision: against recorded solves, orders of convergence, mutations and refusals. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { ConvergenceError, NonFiniteError } from '../../../engine/errors.ts';
import { type IntegrateOptions, integrate } from '../../../sampling/solvers/integrate.ts';
import { type Field, plainMachine, solveFixed } from '../../../sampling/solvers/plain.ts';
import { ADAPTIVE, FIXED, type Tableau } from '../../../sampling/solvers/tableaux.ts';
import { TOYS, toyError, toySchema } from '../../../verify/solver-toy.ts';
import { FIXTURES } from '../../support/golden.ts';

const recorded = v.parse(toySchema, JSON.parse(readFileSync(join(FIXTURES, 'solver_toy.json'), 'utf8')));
const names = Object.keys(recorded);

const rules = (tolerance: number, more: Partial<IntegrateOptions> = {}): IntegrateOptions => ({
  controller: 'integral',
  order: 5,
  ulp: 2 ** -52,
  firstStep: 0.01,
  maxSteps: 4096,
  tolerance,
  ...more,
});

describe('the recorded solves in double precision', () => {
  it('agree: accepted times and states, and how many steps were rejected', async () => {
    for (const name of names) {
      // Of the pulse, the second step's error is nearly rounding, and the third step follows from it.
      const bound = name.startsWith('pulse/') ? 3e-8 : 2e-9;
      expect((await toyError(name, recorded[name]!)).error, name).toBeLessThan(bound);
    }
    const rejections = names.map((name) => recorded[name]!.num_rejected_steps);
    expect(rejections.reduce((a, b) => a + b)).toBeGreaterThan(50);
  });

  // A wrong entry anywhere shows in some of them.
  const changed = (tableau: Tableau, part: 'stages' | 'weights' | 'error', i: number, j: number): Tableau => {
    const wrong = (row: readonly number[], at: number) => row.map((a, e) => (e === at ? a + 1e-6 : a));
    if (part === 'stages')
      return { ...tableau, stages: tableau.stages.map((row, r) => (r === i ? wrong(row, j) : row)) };
    return { ...tableau, [part]: wrong(tableau[part]!, j) };
  };
  for (const solver of ['dopri5', 'tsit5'] as const) {
    it(`do not agree with any entry of ${solver} off by a millionth`, async () => {
      const tableau = ADAPTIVE[solver];
      const name = `van_der_pol/${solver}/tol0.001`;
      const mutants = [
        ...tableau.stages.flatMap((row, i) => row.map((_, j) => changed(tableau, 'stages', i, j))),
        ...tableau.weights.slice(0, -1).map((_, j) => changed(tableau, 'weights', 0, j)),
        ...tableau.error.map((_, j) => changed(tableau, 'error', 0, j)),
      ];
      expect(mutants).toHaveLength(21 + 6 + 7);
      for (const mutant of mutants) {
        expect((await toyError(name, recorded[name]!, mutant)).error, JSON.stringify(mutant)).toBeGreaterThan(1e-7);
      }
    });
  }
});

describe('every tableau', () => {
  const all: [string, Tableau][] = Object.entries({ ...FIXED, ...ADAPTIVE });
  it.each(all)(
    '%s: rows sum to their nodes, weights to one, errors to zero',
    (_, { nodes, stages, weights, error }) => {
      const sum = (row: readonly number[]) => row.reduce((a, b) => a + b, 0);
      expect(stages.map((row) => row.length)).toEqual(nodes.map((_, i) => i));
      for (const [i, row] of stages.entries()) expect(sum(row)).toBeCloseTo(nodes[i]!, 13);
      expect(sum(weights)).toBeCloseTo(1, 13);
      if (error) expect(sum(error)).toBeCloseTo(0, 13);
    },
  );

  // y' = y cos(3 t) - y^2 / 4: not linear, not autonomous.
  const field: Field = (t, y) => y.map((value) => value * Math.cos(3 * t) - value ** 2 / 4);
  const exact = solveFixed(field, ADAPTIVE.dopri5, [1, 0.3], 2000);
  const errorOf = (tableau: Tableau, steps: number) =>
    Math.max(...solveFixed(field, tableau, [1, 0.3], steps).map((value, e) => Math.abs(value - exact[e]!)));
  it.each(all)('%s: half the step divides the error by 2^order', (_, tableau) => {
    for (const steps of [16, 32]) {
      const order = Math.log2(errorOf(tableau, steps) / errorOf(tableau, 2 * steps));
      expect(order).toBeGreaterThan(tableau.order - 0.35);
      // Of this equation some are better than they must be.
      expect(order).toBeLessThan(tableau.order + 1.2);
    }
  });
});

describe('the loop', () => {
  const { field, start } = TOYS.van_der_pol;
  const machine = (tolerance: number, f: Field = field) => plainMachine(f, ADAPTIVE.tsit5, start, tolerance);
  const truth = solveFixed(field, ADAPTIVE.dopri5, start, 100_000);
  const errorAt = async (tolerance: number, more: Partial<IntegrateOptions>) => {
    const one = machine(tolerance);
    const { accepted, rejected } = await integrate(one, rules(tolerance, more));
    expect(accepted.at(-1)).toBe(1);
    const error = Math.max(...one.states.at(-1)!.map((value, e) => Math.abs(value - truth[e]!)));
    return { error, steps: accepted.length + rejected };
  };

  it.each([{}, { controller: 'pi' }, { firstStep: 'auto' }] as const)(
    'is as exact as it is asked to be: %o',
    async (more) => {
      for (const tolerance of [1e-4, 1e-6, 1e-8]) {
        const { error, steps } = await errorAt(tolerance, more);
        expect(error).toBeLessThan(100 * tolerance);
        expect(steps).toBeLessThan(300);
      }
    },
  );

  it('rejects less with the proportional-integral controller where the field is rough', async () => {
    const rejected = async (controller: 'integral' | 'pi') =>
      (await integrate(machine(1e-4), rules(1e-4, { controller }))).rejected;
    expect(await rejected('pi')).toBeLessThan(await rejected('integral'));
  });

  it('finds a first step for itself, short where the field is steep', async () => {
    const first = async (steepness: number) => {
      const steep = plainMachine((_, y) => y.map((x) => -steepness * x), ADAPTIVE.tsit5, [1], 1e-6);
      const solve = await integrate(steep, rules(1e-6, { firstStep: 'auto' }));
      return solve.accepted[0]!;
    };
    const [gentle, steep] = [await first(1), await first(1000)];
    expect(gentle / steep).toBeGreaterThan(100);
    expect(gentle).toBeLessThan(0.3);
  });

  it('tells each step, and stops at the limit, saying how far it came', async () => {
    const seen: number[] = [];
    const solving = integrate(machine(1e-4), rules(1e-4, { maxSteps: 5, onStep: ({ from }) => seen.push(from) }));
    const error = (await solving.catch((e: unknown) => e)) as ConvergenceError;
    expect(error).toBeInstanceOf(ConvergenceError);
    expect(seen).toHaveLength(5);
    expect(error).toMatchObject({ code: 'convergence', t: seen.at(-1), accepted: 5, rejected: 0, tolerance: 1e-4 });
    expect(error.message).toMatch(
      /reached t = 0\.0811\d+ of 1 in 5 accepted and 0 rejected steps at tolerance 0\.0001; 5 are the most/,
    );
    expect(error.hint).toBe('allow more steps, or use a larger tolerance');
  });

  it('stops where steps become too short to tell apart', async () => {
    // A jump that no step crosses with an error below the tolerance.
    const jump: Field = (t, y) => y.map(() => (t > 0.5 ? 1e30 : 0));
    const error = (await integrate(machine(1e-4, jump), rules(1e-4)).catch((e: unknown) => e)) as ConvergenceError;
    expect(error).toBeInstanceOf(ConvergenceError);
    expect(error.t).toBeCloseTo(0.5, 12);
    expect(error.message).toContain('is too short to tell');
    expect(error.hint).toBe('use a larger tolerance');
  });

  it('stops at the first number that is not finite, saying where', async () => {
    const broken: Field = (t, y) => y.map(() => (t > 0.3 ? Number.NaN : 0));
    const error = (await integrate(machine(1e-4, broken), rules(1e-4)).catch((e: unknown) => e)) as NonFiniteError;
    expect(error).toBeInstanceOf(NonFiniteError);
    expect(error.message).toBe(
      'the step from t = 0.11 to 1 is not finite, after 2 accepted and 0 rejected steps at tolerance 0.0001',
    );
  });
});
