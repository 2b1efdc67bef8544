/** Finds and opens the model that a command is to use: a file, a checkpoint, the newest of a run folder, or a URL. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelFile } from '../model/weights/model-file.ts';
import { openModelSource } from '../model/weights/source.node.ts';
import { type ModelSource, readParams } from '../model/weights/source.ts';
import { openModelUrl } from '../model/weights/source-url.ts';
import { checkpointSteps } from '../training/checkpoint.node.ts';

export type WhichWeights = 'ema' | 'raw';

/**
 * Reads a model from a .safetensors file, a checkpoint folder (step-N) or a run folder (its newest checkpoint). Folders
 * hold two sets of weights: the moving average (`ema`) and the raw ones.
 */
export async function readModel(path: string, which: WhichWeights = 'ema'): Promise<ModelFile & { path: string }> {
  const found = await modelPath(path, which);
  const { config, metadata, source, close } = await openModelSource(found);
  try {
    return { config, metadata, params: await readParams(source), path: found };
  } finally {
    await close();
  }
}

/**
 * Opens a model of which only the groups in use are to be read: at the paths that `readModel` takes, or at a URL. `path` of
 * the result is the file that was found; `signal` stops the opening.
 * @throws CheckpointError, and for URLs UnsupportedError and InterruptedError.
 */
export async function openModel(
  path: string,
  which: WhichWeights = 'ema',
  signal?: AbortSignal,
): Promise<ModelSource & { path: string }> {
  if (/^https?:\/\//i.test(path)) return { ...(await openModelUrl(path, { signal })), path };
  const found = await modelPath(path, which);
  return { ...(await openModelSource(found)), path: found };
}

async function modelPath(path: string, which: WhichWeights): Promise<string> {
  const info = await stat(path).catch(() => null);
  if (!info?.isDirectory()) return path;
  const name = which === 'ema' ? 'ema.safetensors' : 'model.safetensors';
  const steps = await checkpointSteps(join(path, 'checkpoints'));
  if (steps.length > 0) return join(path, 'checkpoints', `step-${steps.at(-1)}`, name);
  return join(path, name);
}
