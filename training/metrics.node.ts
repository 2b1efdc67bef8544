/** metrics.jsonl on disk: cut back to the update that a run goes on from, and made to survive a power cut at every checkpoint. */
import { appendFile, lstat, open, truncate } from 'node:fs/promises';
import { CheckpointError } from '../engine/errors.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { type Metrics, parseMetrics } from './metrics.ts';
import type { TrainEvent } from './trainer.ts';

/** Reads a metrics.jsonl; null where there is none. @throws CheckpointError when it is no regular file or cannot be read. */
export async function readMetrics(path: string): Promise<(Metrics & { readonly size: number }) | null> {
  const info = await lstat(path).catch(() => null);
  if (!info) return null;
  const bytes = await readRegular(path, { fail: failAs(CheckpointError, path) });
  return { ...parseMetrics(bytes), size: bytes.length };
}

/**
 * Cuts the lines after that of update `step`, which is done again, and a torn one. Returns whether there was a torn one, and of how
 * many updates lines are left.
 */
export async function dropLinesAfter(path: string, step: number): Promise<{ torn: boolean; kept: number }> {
  const metrics = await readMetrics(path);
  if (!metrics) return { torn: false, kept: 0 };
  const last = metrics.events.findLastIndex((event) => event.step <= step);
  const keep = last < 0 ? 0 : metrics.ends[last]!;
  if (keep < metrics.size) await truncate(path, keep);
  return { torn: metrics.torn, kept: last + 1 };
}

export async function appendEvent(path: string, event: TrainEvent): Promise<void> {
  await appendFile(path, `${JSON.stringify(event)}\n`);
}

/** Returns once all lines are on the disk. */
export async function syncMetrics(path: string): Promise<void> {
  const handle = await open(path, 'a');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
