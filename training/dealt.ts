/**
 * A batch of which this process has some rows (training/deal.ts): read by all processes or by none, assembled from the draws of the whole
 * batch, its losses gathered.
 */
import type { Communicator } from '../cluster/communicator.ts';
import { DataError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { assembleBatch, type Batch, type Draws, sortedPlaces } from './batch.ts';
import { type BatchOptions, type BatchReader, readBatches } from './batches.ts';
import { isStreamed, type TrainingData } from './data/dataset.ts';
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

/** What to do about a picture that ended a run. */
const SKIP = 'bring it back as it was, or go on without it: --resume --bad-pictures skip';

/**
 * Batches of this process' pictures. Where one process cannot read its part of a batch, `next` fails on all of them, with that process'
 * own DataError there, so that all stop at the same place, with the same state.
 * @throws as readBatches; `next` throws ClusterError, too
 */
export function readDealt(
  communicator: Communicator,
  data: TrainingData,
  { whole, pictures }: Deal,
  options: Omit<BatchOptions, 'part'>,
): BatchReader {
  const batches = readBatches(data, { ...options, part: { of: whole, pictures } });
  if (!isStreamed(data)) return batches; // what is in memory can be read
  return {
    ...batches,
    async next(images, labels, noise) {
      const failed = new Float32Array(communicator.size);
      let failure: DataError | undefined;
      try {
        await batches.next(images, labels, noise);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        failure = options.onBadPicture ? error : new DataError(error.message, { cause: error, hint: SKIP });
        failed[communicator.rank] = 1;
      }
      await communicator.allReduce(failed);
      if (failure) throw failure;
      const rank = failed.findIndex((n) => n > 0);
      if (rank < 0) return;
      throw new DataError(`rank ${rank} could not read its pictures of this batch`, {
        hint: `what rank ${rank} says names the picture`,
      });
    },
  };
}
