/** What the cells of a model's evaluation cost on this adapter: time measured once and scaled, memory estimated to the byte. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { type ModelConfig, usualSteps } from '../model/config.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { estimateSampling, type Settings } from '../sampling/budget.ts';
import { isGuided, type SampleRequest } from '../sampling/request.ts';
import { Sampler } from '../sampling/sampler.ts';
import { fewestBlocks, type Pace, type Priced } from './afford.ts';
import { quantile } from './measured.ts';
import type { StoredEvaluation } from './stored.ts';

/** How pictures are to be drawn, steps and blocks apart. */
export interface Drawing {
  readonly engine: Engine;
  readonly config: ModelConfig;
  readonly settings: Omit<Settings, 'blocks'>;
  /** Of all pictures. */
  readonly labels: SampleRequest['labels'];
  readonly signal?: AbortSignal;
}

/** Steps that are timed, as far as the model knows them: their difference is what steps take, whatever is done once. */
const [FEW, MANY] = [1, 4];
/** Rounds are repeated for so many seconds, and so often at most. */
const SECONDS = 0.3;
const MOST_ROUNDS = 9;

const median = (values: readonly number[]): number => quantile(Float64Array.from(values).sort(), 0.5);

/**
 * Bytes of GPU buffers that every cell takes at most: what `estimateSampling` says of it.
 * @throws what `estimateSampling` throws; InterruptedError
 */
export async function bytesOfCells(
  { cells, solver, guidance }: StoredEvaluation,
  { engine, config, settings, labels, signal }: Drawing,
): Promise<Priced[]> {
  const priced: Priced[] = [];
  for (const cell of cells) {
    throwIfAborted(signal, 'choosing steps and blocks was interrupted');
    const { steps, blocks } = cell;
    const { peak } = await estimateSampling(
      engine,
      config,
      { ...settings, blocks },
      { labels, steps, solver, guidance },
    );
    priced.push({ cell, cost: peak });
  }
  return priced;
}

/**
 * Times sampling at the fewest blocks of the evaluation, for a batch as it will be drawn: a few steps, after as many that compile
 * and load. All that it makes on the GPU is freed.
 * @throws what sampling throws
 */
export async function measurePace(
  evaluation: StoredEvaluation,
  source: GroupSource,
  { engine, config, settings, labels, signal }: Drawing,
): Promise<Pace> {
  const blocks = fewestBlocks(evaluation);
  const { solver, guidance } = evaluation;
  const model = new ResidentModel(engine, config, source, settings);
  const sampler = new Sampler(engine, model, settings);
  try {
    const batch = Math.min(sampler.batchFor(isGuided(guidance)), labels.length);
    const draw = async (steps: number) => {
      const started = performance.now();
      await sampler.sample({ labels: labels.slice(0, batch), steps, blocks, solver, guidance, signal });
      return (performance.now() - started) / 1000 / batch;
    };
    const [most] = usualSteps(config, [MANY]) as [number];
    for (const steps of [FEW, most]) await draw(steps);
    const taken: { few: number; many: number }[] = [];
    const began = performance.now();
    do {
      taken.push({ few: await draw(FEW), many: await draw(most) });
    } while (taken.length < MOST_ROUNDS && performance.now() - began < 1000 * SECONDS);
    const [few, many] = [median(taken.map((round) => round.few)), median(taken.map((round) => round.many))];
    // Where the clock is too coarse, or the machine too busy, to tell one step from four, all of it is put down to steps.
    const step = many > few ? (many - few) / (most - FEW) : many / most;
    return { blocks, step, once: Math.max(0, few - FEW * step), batch };
  } finally {
    sampler.dispose();
    model.dispose();
  }
}
