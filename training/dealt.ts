/** A batch of which this process has some rows (training/deal.ts): assembled from the draws of the whole batch, its losses gathered. */
import type { Communicator } from '../cluster/communicator.ts';
import type { ModelConfig } from '../model/config.ts';
import { assembleBatch, type Batch, type Draws, sortedPlaces } from './batch.ts';
import { type Deal, dealDraws } from './deal.ts';

/** The rows of this process, and the whole batch. */
export interface DealtBatch {
  readonly batch: Batch;
  /** The place of each row, as they are run, in the whole batch. */
  readonly places: Uint32Array;
  /** Of labels that are nobody's where other processes have rows. */
  readonly whole: Batch;
}

/** `labels` are those of this process' rows, `draws` of all. */
export function assembleDealt(model: ModelConfig, deal: Deal, labels: Uint32Array, draws: Draws): DealtBatch {
  const batch = assembleBatch(model, deal.train, labels, dealDraws(draws, deal), deal.shares);
  const inWhole = sortedPlaces(draws.lengths);
  const places = new Uint32Array(deal.rows.length);
  deal.rows.forEach((row, r) => {
    places[batch.position[r]!] = inWhole[row]!;
  });
  if (deal.rows.length === deal.whole) return { batch, places, whole: batch };
  const all = { ...deal.train, batch: deal.whole };
  return { batch, places, whole: assembleBatch(model, all, new Uint32Array(deal.whole), draws) };
}

/**
 * The losses of all rows, of those of this process' rows, and whether a process is to stop. Each row is added to zeros: the same bits whoever has it.
 * @throws ClusterError
 */
export async function gathered(
  communicator: Communicator,
  deal: Deal,
  perSample: Float32Array,
  stop: boolean,
): Promise<{ readonly perSample: Float32Array; readonly loss: number; readonly stop: boolean }> {
  const values = new Float32Array(deal.whole + 1);
  deal.rows.forEach((row, r) => {
    values[row] = perSample[r]!;
  });
  values[deal.whole] = Number(stop);
  await communicator.allReduce(values);
  const all = values.subarray(0, deal.whole);
  return { perSample: all, loss: all.reduce((s, x) => s + x, 0) / all.length, stop: values[deal.whole]! > 0 };
}
