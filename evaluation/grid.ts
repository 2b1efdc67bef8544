/** Which cells an evaluation has: all combinations of steps or tolerances, blocks and guidance weights, of one solver. */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { checkRequest, isAdaptive, type Solver } from '../sampling/request.ts';
import { FEWEST } from './real.ts';
import type { CellKey } from './results.ts';

/** Which cells are drawn: all combinations. */
export interface EvaluationGrid {
  /** Of a solver of fixed steps. */
  readonly steps: readonly number[];
  /** Of an adaptive solver. */
  readonly tolerances?: readonly number[];
  readonly blocks: readonly number[];
  readonly guidance: readonly number[];
  readonly solver: Solver;
}

/** How a cell is drawn, as a request says it. */
export const requestOf = ({ steps, tolerance, blocks, guidance, solver }: CellKey) => ({
  ...{ blocks, guidance, solver: solver as Solver },
  ...(steps === null ? { tolerance } : { steps }),
});

/** The cells of a grid, in the order of drawing: by weight, then blocks, so that each number of blocks is compiled once. */
export function cellsOf({ steps, tolerances = [], blocks, guidance, solver }: EvaluationGrid): CellKey[] {
  const ways = isAdaptive(solver)
    ? tolerances.map((tolerance) => ({ steps: null, tolerance }))
    : steps.map((T) => ({ steps: T }));
  return guidance.flatMap((w) =>
    blocks.flatMap((L) => ways.map((way) => ({ ...way, blocks: L, guidance: w, solver }))),
  );
}

/**
 * Checks a grid and a number of samples against a model, before anything is read or drawn.
 * @throws ConfigError; LimitError for more steps than there may be
 */
export function checkGrid(grid: EvaluationGrid, samples: number, config: ModelConfig): void {
  const { steps, tolerances = [], blocks, guidance, solver } = grid;
  const how = isAdaptive(solver) ? { tolerances } : { steps };
  if (isAdaptive(solver) && steps.length > 0) {
    throw new ConfigError(`${solver} chooses its own steps; ${steps.join()} were asked for`, {
      hint: 'give tolerances, or compare numbers of steps with a solver of fixed steps',
    });
  }
  if (!isAdaptive(solver) && tolerances.length > 0) {
    throw new ConfigError(`tolerances are for adaptive solvers; ${solver} takes fixed steps`, {
      hint: 'give steps, or use tsit5 or dopri5',
    });
  }
  for (const [name, values] of Object.entries({ ...how, blocks, guidance })) {
    if (values.length === 0) throw new ConfigError(`${name} has no value`);
    if (new Set(values).size < values.length) throw new ConfigError(`${name} has a value twice: ${values.join(', ')}`);
  }
  if (!(Number.isInteger(samples) && samples >= FEWEST))
    throw new ConfigError(`${samples} samples cannot be judged; it takes ${FEWEST}, and thousands make sense`);
  for (const cell of cellsOf(grid)) checkRequest({ ...requestOf(cell), labels: [0] }, config);
}
