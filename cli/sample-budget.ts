/** `odelt sample --budget`: which flags it leaves no room for, and the steps and blocks that it buys, with a line that says why. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import {
  type Bought,
  type Budget,
  chooseCell,
  describeBought,
  describePace,
  fewestBlocks,
  secondsOfCells,
} from '../evaluation/afford.ts';
import { bytesOfCells, type Drawing, measurePace } from '../evaluation/prices.ts';
import { describeEvaluation, evaluationOf } from '../evaluation/stored.ts';
import type { ModelConfig } from '../model/config.ts';
import type { GroupSource, ModelSource } from '../model/weights/source.ts';
import type { Settings } from '../sampling/budget.ts';
import type { SampleRequest, Solver } from '../sampling/request.ts';
import { log, type ProgressLine } from './output.node.ts';
import { limitMemory } from './session.node.ts';

/** Flags that `--budget` decides, or that an evaluation says nothing of. */
interface Excluded {
  readonly budget?: Budget;
  readonly steps?: number;
  readonly blocks?: string;
  readonly maxMemory?: number;
  readonly refresh?: object;
  readonly guidanceInterval?: readonly number[];
  readonly level?: number;
  readonly shard?: object;
  readonly decode?: string;
}

/** @throws ConfigError for `--budget` with a flag that it leaves no room for */
export function checkBudgetFlags({
  budget,
  shard,
  steps,
  blocks,
  maxMemory,
  refresh,
  guidanceInterval,
  level,
  decode,
}: Excluded): void {
  if (!budget) return;
  if (shard) {
    throw new ConfigError('--budget and --shard exclude each other: a budget is measured anew for every part', {
      hint: 'give all parts the same --steps and --blocks',
    });
  }
  if (decode !== undefined) {
    throw new ConfigError(
      '--budget and --decode exclude each other: a budget knows what sampling takes, not what decoding does',
      {
        hint: 'give --max-memory, --steps and --blocks in its place',
      },
    );
  }
  const chosen = { '--steps': steps, '--blocks': blocks };
  const how = { '--refresh': refresh, '--guidance-interval': guidanceInterval, '--level': level };
  const others = { '--max-memory': maxMemory, ...how };
  for (const [flag, value] of Object.entries({ ...chosen, ...others })) {
    if (value === undefined) continue;
    const why =
      flag in chosen
        ? '--budget chooses steps and blocks'
        : flag === '--max-memory'
          ? 'a budget is either of memory, like 60MB, or of time, like 50ms'
          : "the model's evaluation does not say how good samples drawn so are";
    throw new ConfigError(`--budget and ${flag} exclude each other: ${why}`, { hint: 'leave out one of them' });
  }
}

/** What a purchase needs to know, beside the evaluation. */
interface Buying {
  readonly engine: Engine;
  readonly config: ModelConfig;
  readonly source: GroupSource;
  readonly request: SampleRequest;
  readonly settings: Settings;
  readonly line: ProgressLine;
  readonly signal: AbortSignal;
}

/**
 * A budget for a model: how its evaluation samples, with its cheapest cell in place of the choice, and the choice itself.
 * @throws ConfigError for a model without an evaluation, and for a solver or a guidance weight that it is not of; CheckpointError
 */
export function openBudget(
  budget: Budget,
  flags: { readonly solver?: Solver; readonly guidance?: number },
  file: ModelSource & { readonly path: string },
) {
  const evaluation = evaluationOf(file, file.path);
  if (!evaluation) {
    throw new ConfigError(`--budget chooses by the model's evaluation, and ${file.path} carries none`, {
      hint: 'make one with `odelt eval MODEL --out FOLDER` and put it in with `odelt convert MODEL --evaluation FOLDER/results.json --out FILE`',
    });
  }
  const { solver, guidance } = evaluation;
  for (const [flag, wanted, has] of [
    ['--solver', flags.solver, solver],
    ['--guidance', flags.guidance, guidance],
  ]) {
    if (wanted === undefined || wanted === has) continue;
    throw new ConfigError(`--budget chooses by the model's evaluation, which is of ${flag} ${has}, not ${wanted}`, {
      hint: `leave out ${flag}, or choose --steps and --blocks yourself`,
    });
  }
  const blocks = fewestBlocks(evaluation);
  const steps = Math.min(...evaluation.cells.filter((cell) => cell.blocks === blocks).map((cell) => cell.steps));
  const price = async (source: GroupSource, drawing: Drawing, line: ProgressLine) => {
    if (budget.of === 'bytes') return bytesOfCells(evaluation, drawing);
    line.update(`timing L=${blocks}`);
    const pace = await measurePace(evaluation, source, drawing).finally(() => line.end());
    log(describePace(pace));
    return secondsOfCells(evaluation, pace);
  };
  return {
    cheapest: { steps, blocks: String(blocks), solver, guidance },
    /** Prices the cells, chooses one and says why; memory beyond a budget of bytes is refused. */
    async buy({ engine, config, source, request, settings, line, signal }: Buying) {
      log(`evaluation: ${describeEvaluation(evaluation)}`);
      if (budget.of === 'bytes') limitMemory(engine, budget.most);
      const priced = await price(source, { engine, config, settings, labels: request.labels, signal }, line);
      const bought: Bought = chooseCell(priced, budget);
      log(describeBought(bought, budget));
      engine.memory.resetPeak();
      const { steps, blocks } = bought.chosen.cell;
      return { bought, request: { ...request, steps }, settings: { ...settings, blocks } };
    },
  };
}
