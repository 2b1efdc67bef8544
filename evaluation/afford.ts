/** What a budget buys: of the cells of a model's evaluation, the best that costs no more. Pure: prices are in evaluation/prices.ts. */
import { ConfigError, LimitError, UsageError } from '../engine/errors.ts';
import { parseBytes } from '../sampling/budget.ts';
import { describeMeasured } from './results.ts';
import type { StoredCell, StoredEvaluation } from './stored.ts';

/** The most that may be spent: seconds for a picture, or bytes of GPU buffers at a time. */
export interface Budget {
  readonly of: 'seconds' | 'bytes';
  /** Above 0. */
  readonly most: number;
}

/** A cell and what it costs here, in the budget's unit. */
export interface Priced {
  readonly cell: StoredCell;
  readonly cost: number;
}

/** What a budget buys. */
export interface Bought {
  readonly chosen: Priced;
  /** The cheapest of the cells that are better than the chosen one; null where none is. */
  readonly better: Priced | null;
  /** Cells within the budget, and cells in all. */
  readonly within: number;
  readonly cells: number;
}

/** How long sampling takes here, for a picture, at the fewest blocks of an evaluation. */
export interface Pace {
  readonly blocks: number;
  /** Seconds of a step. */
  readonly step: number;
  /** Seconds of what is done once: noise, tables, reading back. */
  readonly once: number;
  /** Pictures computed at once. */
  readonly batch: number;
}

/** 50ms, 2s, 60MB: powers of ten. `option` is what the user calls it. @throws ConfigError for what is none, or 0. */
export function parseBudget(text: string, option = 'budget'): Budget {
  const time = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)\s*$/i.exec(text);
  if (!time && !/\d\s*[kmg]?b\s*$/i.test(text)) {
    throw new ConfigError(`${option} is '${text}', which is neither a time nor a size`, {
      hint: 'write a time for each picture like 50ms or 2s, or a peak of GPU memory like 60MB or 1.5GB',
    });
  }
  const budget: Budget = time
    ? { of: 'seconds', most: Number(time[1]) * (time[2]!.toLowerCase() === 'ms' ? 1e-3 : 1) }
    : { of: 'bytes', most: parseBytes(text, option) };
  if (!(budget.most > 0 && Number.isFinite(budget.most)))
    throw new ConfigError(`${option} is '${text}'; it must be above 0`);
  return budget;
}

/** A cost in words: "43 ms", "2.1 s", "60.2 MB". Bytes are rounded up, so that a budget of what is said is enough. */
export function describeCost(cost: number, of: Budget['of']): string {
  if (of === 'bytes') {
    const [unit, size] = cost < 1e5 ? ['kB', 1e3] : ['MB', 1e6];
    return `${(Math.ceil((100 * cost) / size) / 100).toFixed(2)} ${unit}`;
  }
  if (cost >= 0.9995) return `${cost >= 100 ? cost.toFixed(0) : cost.toPrecision(3)} s`;
  return `${cost >= 0.1 ? (cost * 1000).toFixed(0) : (cost * 1000).toPrecision(3)} ms`;
}

const better = (a: Priced, b: Priced): number => a.cell.fd.value - b.cell.fd.value || a.cost - b.cost;

/**
 * The cell of the lowest distance that costs at most `budget.most`; of equals, the cheaper.
 * @throws LimitError, with what the cheapest cell costs, where the budget buys none; UsageError for no cells
 */
export function chooseCell(priced: readonly Priced[], { of, most }: Budget): Bought {
  if (priced.length === 0) throw new UsageError('there are no cells to choose from');
  const within = priced.filter(({ cost }) => cost <= most);
  const [chosen] = [...within].sort(better);
  if (!chosen) {
    const [cheapest] = [...priced].sort((a, b) => a.cost - b.cost);
    const { cell, cost } = cheapest!;
    const each = of === 'seconds' ? ' a picture' : '';
    throw new LimitError(
      `${describeCost(most, of)}${each} buys none of the ${priced.length} cells of the model's evaluation: T=${cell.steps}, L=${cell.blocks}, the cheapest, takes ${describeCost(cost, of)}`,
      { asked: cost, available: most },
      {
        hint:
          of === 'seconds'
            ? 'allow more, or compute more pictures at once'
            : 'allow more, compute fewer pictures at once, or store weights and activations as f16',
      },
    );
  }
  const [next = null] = priced
    .filter((one) => one.cell.fd.value < chosen.cell.fd.value)
    .sort((a, b) => a.cost - b.cost || better(a, b));
  return { chosen, better: next, within: within.length, cells: priced.length };
}

/** One sentence for the user: what was chosen, how good it is, and what the next better one would cost. */
export function describeBought({ chosen, better: next, within, cells: all }: Bought, { of, most }: Budget): string {
  const about = of === 'seconds' ? 'about ' : '';
  const each = of === 'seconds' ? ' a picture' : '';
  const named = ({ steps, blocks }: StoredCell) => `T=${steps}, L=${blocks}`;
  const more = next
    ? `the next better, ${named(next.cell)} with FD ${describeMeasured(next.cell.fd).replace(/ \(.*/, '')}, takes ${about}${describeCost(next.cost, of)}`
    : 'no cell is better';
  return `${describeCost(most, of)}${each} buys ${named(chosen.cell)}: FD ${describeMeasured(chosen.cell.fd)} for ${about}${describeCost(chosen.cost, of)}${each}, the best of ${within} of ${all} cells; ${more}`;
}

/**
 * Seconds for a picture of every cell here: a step at the fewest blocks as measured, times the steps, times what a step of more
 * blocks took in the evaluation for one of the fewest. The latter is compared at the most steps that both have, where what is done
 * once counts least, and held to what can be: no less than one, and no more than as many times the blocks. An evaluation whose
 * machine was busy says otherwise.
 */
export function secondsOfCells({ cells }: StoredEvaluation, { blocks: fewest, step, once }: Pace): Priced[] {
  const of = (blocks: number) => cells.filter((cell) => cell.blocks === blocks);
  const base = of(fewest);
  const perStep = (list: readonly StoredCell[]) => {
    const most = list.reduce((a, b) => (b.steps > a.steps ? b : a));
    return most.secondsPerSample / most.steps;
  };
  const ratio = (blocks: number): number => {
    const list = of(blocks);
    const both = list.filter(({ steps }) => base.some((cell) => cell.steps === steps));
    if (both.length === 0) return perStep(list) / perStep(base);
    return perStep(both) / perStep(base.filter(({ steps }) => both.some((cell) => cell.steps === steps)));
  };
  const likely = (blocks: number): number => Math.min(Math.max(ratio(blocks), 1), blocks / fewest);
  const ratios = new Map([...new Set(cells.map(({ blocks }) => blocks))].map((blocks) => [blocks, likely(blocks)]));
  return cells.map((cell) => ({ cell, cost: once + cell.steps * step * ratios.get(cell.blocks)! }));
}

/** The fewest blocks of an evaluation's cells: what is measured. */
export const fewestBlocks = ({ cells }: StoredEvaluation): number => Math.min(...cells.map(({ blocks }) => blocks));

/** What was measured, in words. */
export const describePace = ({ blocks, step, once, batch }: Pace): string =>
  `measured here: ${describeCost(step, 'seconds')} a step and picture at L=${blocks}, ${describeCost(once, 'seconds')} a picture besides, ${batch} at once`;
