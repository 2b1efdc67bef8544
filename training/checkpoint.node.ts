/**
 * Checkpoints on disk: `step-N/{model,ema,optim}.safetensors` and `state.json`, written under a temporary name and renamed, so
 * that a folder called step-N is always whole. Everything random is a function of seed and step, so nothing else is needed
 * to go on bit for bit.
 */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
import { writeAtomically } from '../formats/files.node.ts';
import { writeSafetensors } from '../formats/safetensors.node.ts';
import { parseSafetensors } from '../formats/safetensors.ts';
import type { ModelConfig } from '../model/config.ts';
import { type ParamLayout, type ParamSet, paramsFrom } from '../model/params.ts';
import { modelContents, modelMetadata, modelTensors } from '../model/weights/model-file.ts';

export interface TrainSets {
  readonly params: ParamSet;
  readonly ema: ParamSet;
  readonly m: ParamSet;
  readonly v: ParamSet;
}

/** What is saved beside the tensors. */
export interface SavedState {
  /** Updates done. */
  readonly step: number;
  readonly model: ModelConfig;
  /** Of the data; kept in the metadata of the weights where there is one per class of the model. */
  readonly classNames?: readonly string[];
}

const KEPT = 2;
const NAME = /^step-(\d+)$/;

/** Writes a checkpoint and removes all but the newest two. Returns its folder. @throws CheckpointError. */
export async function saveCheckpoint(folder: string, state: SavedState, sets: TrainSets): Promise<string> {
  const final = join(folder, `step-${state.step}`);
  const temporary = `${final}.${process.pid}.tmp`;
  try {
    await mkdir(temporary, { recursive: true });
    const { classNames } = state;
    const extra = { 'odelt.step': String(state.step) };
    for (const [name, params] of [
      ['model', sets.params],
      ['ema', sets.ema],
    ] as const) {
      const { tensors, metadata } = await modelContents(state.model, params, { extra, classNames });
      await writeSafetensors(join(temporary, `${name}.safetensors`), tensors, metadata);
    }
    const moments = (['m', 'v'] as const).flatMap((part) =>
      modelTensors(sets[part]).map((t) => ({ ...t, name: `${part}/${t.name}` })),
    );
    await writeSafetensors(
      join(temporary, 'optim.safetensors'),
      moments,
      modelMetadata(state.model, extra, classNames),
    );
    await writeAtomically(join(temporary, 'state.json'), [
      new TextEncoder().encode(`${JSON.stringify(state, null, 2)}\n`),
    ]);
    await rm(final, { recursive: true, force: true });
    await rename(temporary, final);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw new CheckpointError(`the checkpoint ${final} could not be written`, {
      cause,
      hint: 'free disk space or check permissions; the previous checkpoint is still whole',
    });
  }
  const steps = await checkpointSteps(folder);
  for (const step of steps.slice(0, -KEPT)) {
    // What cannot be removed now is removed after the next save.
    await rm(join(folder, `step-${step}`), { recursive: true, force: true }).catch(() => undefined);
  }
  return final;
}

/** Steps that have a checkpoint, ascending. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => []);
  return names
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** Reads the newest checkpoint of a folder. @throws CheckpointError when there is none or it does not fit. */
export async function loadCheckpoint(
  folder: string,
  layout: ParamLayout,
): Promise<{ state: SavedState; sets: TrainSets }> {
  const newest = (await checkpointSteps(folder)).at(-1);
  if (newest === undefined) {
    throw new CheckpointError(`there is no checkpoint in ${folder}`, { hint: 'train without --resume to start a run' });
  }
  const at = join(folder, `step-${newest}`);
  const read = async (name: string) => {
    const path = join(at, name);
    const bytes = await readFile(path).catch((cause: unknown) => {
      throw new CheckpointError(`${path} cannot be read`, { cause });
    });
    return parseSafetensors(bytes, path);
  };
  const optim = await read('optim.safetensors');
  const part = (name: 'm' | 'v') => ({
    has: (leaf: string) => optim.has(`${name}/${leaf}`),
    shape: (leaf: string) => optim.shape(`${name}/${leaf}`),
    floats: (leaf: string) => optim.floats(`${name}/${leaf}`),
  });
  const sets = {
    params: paramsFrom(layout, await read('model.safetensors'), at),
    ema: paramsFrom(layout, await read('ema.safetensors'), at),
    m: paramsFrom(layout, part('m'), at),
    v: paramsFrom(layout, part('v'), at),
  };
  let state: SavedState;
  try {
    state = JSON.parse(await readFile(join(at, 'state.json'), 'utf8')) as SavedState;
  } catch (cause) {
    throw new CheckpointError(`${at}/state.json cannot be read`, { cause });
  }
  if (state?.step !== newest) throw new CheckpointError(`${at}/state.json is of step ${state?.step}, not ${newest}`);
  return { state, sets };
}
