/** Which cells an evaluation has: all combinations of solvers with steps or tolerances, blocks and guidance weights. */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { type BlocksFrom, describeBlocks, mostBlocks, type Refresh } from '../sampling/blocks.ts';
import { usualLabels } from '../sampling/classes.ts';
import { checkBlocks, checkOneOf, checkRequest, isAdaptive, SOLVERS, type Solver } from '../sampling/request.ts';
import { FEWEST } from './real.ts';
import type { CellKey } from './results.ts';

/** Which cells are drawn: all combinations. */
export interface EvaluationGrid {
  /** Of solvers of fixed steps. */
  readonly steps: readonly number[];
  /** Of adaptive solvers. */
  readonly tolerances?: readonly number[];
  readonly blocks: readonly number[];
  /** Numbers of blocks by time, beside those that stay. */
  readonly schedules?: readonly (readonly BlocksFrom[])[];
  /** Of euler: late blocks that some steps refresh, beside every smaller number of `blocks`, with two steps or more. */
  readonly refreshes?: readonly Refresh[];
  readonly guidance: readonly number[];
  readonly solver: Solver | readonly Solver[];
  /** Step levels that the network is told, each of them with every other choice. Default: what the solver tells. */
  readonly levels?: readonly number[];
}

/** How a cell is drawn, as a request says it. */
export const requestOf = ({ steps, tolerance, blocks, along, refresh, guidance, solver, level }: CellKey) => ({
  ...{ blocks: along ?? blocks, refresh, guidance, solver: solver as Solver, level },
  ...(steps === null ? { tolerance } : { steps }),
});

const solversOf = ({ solver }: EvaluationGrid): readonly Solver[] => (typeof solver === 'string' ? [solver] : solver);

/** The cells of a grid, in the order of drawing: by weight, then blocks, so that each number of blocks is compiled once. */
export function cellsOf(grid: EvaluationGrid): CellKey[] {
  const { steps, tolerances = [], blocks, schedules = [], refreshes = [], guidance, levels = [] } = grid;
  const solvers = solversOf(grid);
  type Way = Omit<CellKey, 'blocks' | 'guidance'>;
  const told = (ways: readonly Way[]): readonly Way[] =>
    levels.length === 0 ? ways : ways.flatMap((way) => levels.map((level) => ({ ...way, level })));
  const solved = solvers.flatMap((solver): Way[] =>
    isAdaptive(solver)
      ? tolerances.map((tolerance) => ({ steps: null, tolerance, solver }))
      : steps.map((T) => ({ steps: T, solver })),
  );
  const refreshed = (L: number): Way[] =>
    (solvers.includes('euler') ? refreshes : [])
      .filter((refresh) => refresh.blocks > L)
      .flatMap((refresh) => steps.filter((T) => T > 1).map((T) => ({ steps: T, solver: 'euler', refresh })));
  const ways = told(solved);
  return guidance.flatMap((w) => [
    ...blocks.flatMap((L) => [...ways, ...told(refreshed(L))].map((way) => ({ ...way, blocks: L, guidance: w }))),
    ...schedules.flatMap((along) => ways.map((way) => ({ ...way, blocks: mostBlocks(along), along, guidance: w }))),
  ]);
}

/** @throws ConfigError for steps without a solver of fixed steps, tolerances without an adaptive one, and refreshing that makes no cell */
function checkWays(
  { steps, tolerances = [], refreshes = [], blocks }: EvaluationGrid,
  solvers: readonly Solver[],
): void {
  const named = solvers.join(' and ');
  if (solvers.every(isAdaptive) && steps.length > 0) {
    throw new ConfigError(`${named} chooses its own steps; ${steps.join()} were asked for`, {
      hint: 'give tolerances, or compare numbers of steps with a solver of fixed steps',
    });
  }
  if (!solvers.some(isAdaptive) && tolerances.length > 0) {
    throw new ConfigError(`tolerances are for adaptive solvers; ${named} takes fixed steps`, {
      hint: 'give steps, or use tsit5 or dopri5',
    });
  }
  for (const refresh of refreshes) {
    const what = `refresh ${refresh.blocks}:${refresh.every}`;
    if (!solvers.includes('euler')) throw new ConfigError(`${what} is for the solver euler, not ${named}`);
    if (blocks.some((L) => L < refresh.blocks) && steps.some((T) => T > 1)) continue;
    throw new ConfigError(`${what} makes no cell: it takes two steps, and fewer blocks in those between`, {
      hint: `blocks are ${blocks.join()}, steps ${steps.join()}`,
    });
  }
}

/**
 * Checks a grid and a number of samples against a model, before anything is read or drawn.
 * @throws ConfigError; LimitError for more steps than there may be
 */
export function checkGrid(grid: EvaluationGrid, samples: number, config: ModelConfig): void {
  const { steps, tolerances = [], blocks, schedules = [], refreshes = [], guidance, levels = [] } = grid;
  const solvers = solversOf(grid);
  for (const solver of solvers) checkOneOf('the solver', solver, SOLVERS);
  checkWays(grid, solvers);
  const lists = {
    solver: solvers,
    ...(solvers.some(isAdaptive) ? { tolerances } : {}),
    ...(solvers.every(isAdaptive) ? {} : { steps }),
    ...(schedules.length > 0 ? {} : { blocks }),
    guidance,
  };
  for (const [name, values] of Object.entries(lists)) {
    if (values.length === 0) throw new ConfigError(`${name} has no value`);
  }
  const shown = {
    ...lists,
    blocks,
    schedules: schedules.map(describeBlocks),
    refreshes: refreshes.map(describeRefresh),
    levels,
  };
  for (const [name, values] of Object.entries(shown)) {
    if (new Set<unknown>(values).size < values.length)
      throw new ConfigError(`${name} has a value twice: ${values.join(', ')}`);
  }
  if (!(Number.isInteger(samples) && samples >= FEWEST))
    throw new ConfigError(`${samples} samples cannot be judged; it takes ${FEWEST}, and thousands make sense`);
  for (const along of schedules) checkBlocks(along, config);
  for (const cell of cellsOf(grid)) checkRequest({ ...requestOf(cell), labels: usualLabels(config, 1) }, config);
}

const describeRefresh = ({ blocks, every }: Refresh): string => `${blocks}:${every}`;
