/**
 * Checkpoints on disk: `step-N/{model,ema,optim}.safetensors` (and `teacher` of an objective that has one), `state.json` and their
 * checksums, written under a temporary name
 * and renamed, and renamed again before they are removed, so that a folder called step-N is always whole. Everything random
 * is a function of seed and step, so nothing else is needed to go on bit for bit.
 */
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';
import { failAs, OWN_NAME, readRegular, syncFolder } from '../formats/files.node.ts';
import { readTensors } from '../formats/safetensors.node.ts';
import { safetensorsChunks } from '../formats/safetensors.ts';
import { type LatentsOrigin, originMetadata } from '../model/autoencoder/origin.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { type ParamLayout, type ParamSet, paramsFrom, type TensorSource } from '../model/params.ts';
import { modelContents, modelMetadata, modelTensors } from '../model/weights/model-file.ts';
import { clearPlace, listCheckpoints, moveAside, removeStep, TEACHER_FILE } from './checkpoint-folders.node.ts';
import { checkSum, readSums, summedFolder } from './checksums.node.ts';
import type { TrainSets } from './state.ts';

/** What is saved beside the tensors. */
export interface SavedState {
  /** Updates done. */
  readonly step: number;
  readonly model: ModelConfig;
  /** Of the data; kept in the metadata of the weights where there is one per class of the model. */
  readonly classNames?: readonly string[];
  /** Of a model of latents: the autoencoder that they come from; kept in the metadata of the weights. */
  readonly latents?: LatentsOrigin;
}

/** What a checkpoint's folder held. */
export interface Checkpoint {
  readonly state: SavedState;
  readonly sets: TrainSets;
  /** Whether its files had checksums, all of which were right. Checkpoints of earlier versions have none. */
  readonly checked: boolean;
}

/** Told what was found in a folder and left alone or moved, one sentence each. */
export type OnNotice = (text: string) => void;

/** Checkpoints that a folder keeps where nobody says. */
export const KEPT = 2;

/** Which checkpoints stay: the newest `keep` (default 2), and for good those whose step is a multiple of `keepEvery` (default 0: none). */
export interface Keep {
  readonly keep?: number;
  readonly keepEvery?: number;
}

/**
 * Writes a checkpoint and removes those that are not to be kept. Something else that is called step-N is moved aside, which `onNotice`
 * is told. Returns the checkpoint's folder.
 * @throws CheckpointError; the earlier checkpoints are then untouched, and nothing is left of this one.
 */
export async function saveCheckpoint(
  folder: string,
  state: SavedState,
  sets: TrainSets,
  onNotice: OnNotice = () => {},
  { keep = KEPT, keepEvery = 0 }: Keep = {},
): Promise<string> {
  const final = join(folder, `step-${state.step}`);
  const temporary = `${final}.${OWN_NAME}.tmp`;
  let replaced: string | null = null;
  try {
    await makeFolder(temporary);
    const files = summedFolder(temporary);
    const { classNames, latents } = state;
    const extra = { 'odelt.step': String(state.step), ...originMetadata(latents) };
    const models: [string, ParamSet][] = [
      ['model.safetensors', sets.params],
      ['ema.safetensors', sets.ema],
      ...(sets.teacher ? ([[TEACHER_FILE, sets.teacher]] as [string, ParamSet][]) : []),
    ];
    for (const [name, params] of models) {
      const { tensors, metadata } = await modelContents(state.model, params, { extra, classNames });
      await files.write(name, safetensorsChunks(tensors, metadata));
    }
    const moments = (['m', 'v'] as const).flatMap((part) =>
      modelTensors(sets[part]).map((t) => ({ ...t, name: `${part}/${t.name}` })),
    );
    const described = modelMetadata(state.model, extra, classNames);
    await files.write('optim.safetensors', safetensorsChunks(moments, described));
    await files.write('state.json', [new TextEncoder().encode(`${JSON.stringify(state, null, 2)}\n`)]);
    await files.finish();
    replaced = await clearPlace(folder, state.step, onNotice);
    await rename(temporary, final);
  } catch (cause) {
    if (replaced) await rename(replaced, final).catch(() => undefined);
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw new CheckpointError(`the checkpoint ${final} could not be written`, {
      cause,
      hint: 'free disk space or check permissions; the previous checkpoint is still whole',
    });
  }
  // The new one must be there for good before an old one goes.
  await syncFolder(folder);
  if (replaced) await rm(replaced, { recursive: true, force: true }).catch(() => undefined);
  const { steps } = await listCheckpoints(folder);
  // What cannot be removed now is removed after the next save.
  for (const step of steps.slice(0, -keep)) {
    if (keepEvery === 0 || step % keepEvery !== 0) await removeStep(folder, step).catch(() => undefined);
  }
  return final;
}

/** Steps that have a checkpoint, ascending: folders step-N that hold all of its files. @throws CheckpointError for a folder that cannot be read. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  return (await listCheckpoints(folder)).steps;
}

/** Moves the checkpoints after `step` aside: a run that goes on from there makes its own. */
export async function abandonAfter(folder: string, step: number, onNotice: OnNotice): Promise<void> {
  for (const later of (await listCheckpoints(folder)).steps.filter((s) => s > step)) {
    onNotice(`step-${later} is after step-${step}: moved to ${await moveAside(folder, `step-${later}`)}`);
  }
}

/**
 * Reads the newest checkpoint of a folder, or that of `step`, and checks its files against their sums.
 * @throws CheckpointError when there is none, it is damaged (naming the file, and the checkpoint before it as the remedy), or it
 * does not fit.
 */
export async function loadCheckpoint(
  folder: string,
  layout: ParamLayout,
  options: { readonly step?: number } = {},
): Promise<Checkpoint> {
  const { step, steps } = await chooseStep(folder, options.step);
  const at = join(folder, `step-${step}`);
  const { state, tensors, checked } = await readStep(at, step).catch((error: unknown) => {
    const earlier = steps.filter((s) => s < step).at(-1);
    throw new CheckpointError(error instanceof Error ? error.message : String(error), {
      cause: error instanceof CheckpointError ? error.cause : error,
      hint:
        earlier === undefined
          ? 'there is no checkpoint before it: start the run anew in another --out, or bring the file back from a copy'
          : `go on from the checkpoint before it with --resume step-${earlier}`,
    });
  });
  const { model, ema, optim, teacher } = tensors;
  const part = (name: 'm' | 'v'): TensorSource => ({
    has: (leaf) => optim.has(`${name}/${leaf}`),
    shape: (leaf) => optim.shape(`${name}/${leaf}`),
    floats: (leaf) => optim.floats(`${name}/${leaf}`),
  });
  const sets = {
    params: paramsFrom(layout, model, at),
    ema: paramsFrom(layout, ema, at),
    m: paramsFrom(layout, part('m'), at),
    v: paramsFrom(layout, part('v'), at),
    ...(teacher ? { teacher: paramsFrom(layout, teacher, at) } : {}),
  };
  return { state, sets, checked };
}

/** The step asked for, or the newest, and all that there are. @throws CheckpointError where it is not there. */
async function chooseStep(folder: string, asked?: number): Promise<{ step: number; steps: readonly number[] }> {
  const { steps, skipped } = await listCheckpoints(folder);
  const step = asked ?? steps.at(-1);
  if (step !== undefined && steps.includes(step)) return { step, steps };
  const why = skipped.find(({ name }) => step === undefined || name === `step-${step}`);
  const found = why ? `: ${why.name} ${why.reason}` : '';
  throw new CheckpointError(
    `there is no checkpoint ${step === undefined ? '' : `of step ${step} `}in ${folder}${found}`,
    {
      hint: steps.length > 0 ? `there are: ${steps.join(', ')}` : 'train without --resume to start a run',
    },
  );
}

/** The model of the newest checkpoint of a folder, or of that of `step`, without its weights. @throws as loadCheckpoint; ConfigError for no model. */
export async function checkpointModel(folder: string, asked?: number): Promise<ModelConfig> {
  const { step } = await chooseStep(folder, asked);
  return parseModelConfig((await readState(join(folder, `step-${step}`, 'state.json'), step)).model);
}

/** All that a checkpoint's files hold, compared with their sums. */
async function readStep(at: string, step: number) {
  const sums = await readSums(at);
  const read = async (name: string): Promise<TensorSource> => {
    if (sums) await checkSum(at, name, sums);
    return readTensors(join(at, name));
  };
  const tensors = {
    model: await read('model.safetensors'),
    ema: await read('ema.safetensors'),
    optim: await read('optim.safetensors'),
  };
  // Only checkpoints with sums are of a version that knows teachers: one that is named there must be there.
  const teacher = sums?.has(TEACHER_FILE) ? await read(TEACHER_FILE) : null;
  if (sums) await checkSum(at, 'state.json', sums);
  const state = await readState(join(at, 'state.json'), step);
  return { state, tensors: { ...tensors, teacher }, checked: sums !== null };
}

async function readState(path: string, step: number): Promise<SavedState> {
  const bytes = await readRegular(path, { most: 1 << 20, fail: failAs(CheckpointError, path) });
  let state: SavedState | null;
  try {
    state = JSON.parse(new TextDecoder().decode(bytes)) as SavedState | null;
  } catch (cause) {
    throw new CheckpointError(`${path} cannot be read`, { cause });
  }
  if (state?.step !== step) throw new CheckpointError(`${path} is of step ${state?.step}, not ${step}`);
  return state;
}
