/** Finds and reads the model that a command is to use: a file, a checkpoint, or the newest of a run folder. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
import { type ModelFile, parseModelFile } from '../model/model-file.ts';
import { checkpointSteps } from '../training/checkpoint.node.ts';

export type WhichWeights = 'ema' | 'raw';

/**
 * Reads a model from a .safetensors file, a checkpoint folder (step-N) or a run folder (its newest checkpoint). Folders
 * hold two sets of weights: the moving average (`ema`) and the raw ones.
 */
export async function readModel(path: string, which: WhichWeights = 'ema'): Promise<ModelFile & { path: string }> {
  const found = await modelPath(path, which);
  const bytes = await readFile(found).catch((cause: unknown) => {
    throw new CheckpointError(`${found} cannot be read`, { cause, hint: 'give --model a .safetensors file or a run folder' });
  });
  return { ...parseModelFile(bytes, found), path: found };
}

async function modelPath(path: string, which: WhichWeights): Promise<string> {
  const info = await stat(path).catch(() => null);
  if (!info?.isDirectory()) return path;
  const name = which === 'ema' ? 'ema.safetensors' : 'model.safetensors';
  const steps = await checkpointSteps(join(path, 'checkpoints'));
  if (steps.length > 0) return join(path, 'checkpoints', `step-${steps.at(-1)}`, name);
  return join(path, name);
}
