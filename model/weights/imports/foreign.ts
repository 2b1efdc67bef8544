/** Tensors of somebody else's checkpoint by name, what the user adds to them, and how our parameters are filled from them. */
import { CheckpointError, ConfigError } from '../../../engine/errors.ts';
import { floatsOf, type StoredTensor } from '../../../formats/stored-tensor.ts';
import { type LengthConfig, type ModelConfig, PRESETS } from '../../config.ts';
import { type ParamSet, paramEntries, paramLayout, zeroParams } from '../../params.ts';

/** The tensors of one set of weights. */
export interface ForeignWeights {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Bytes of all the files they are in: no set of tensors takes more. */
  readonly bytes: number;
  /** The file's name for messages. */
  readonly file: string;
}

/** What the user says of a model where its file does not. */
export interface ModelHints {
  /** Heads of attention: every head size gives the same shapes. */
  readonly heads?: number;
  /** Side of the pictures or latents in pixels. */
  readonly imageSize?: number;
  /** How many blocks the model may run. */
  readonly lengths?: LengthConfig;
  /** True for a model that was trained without step sizes. */
  readonly ignoreDt?: boolean;
  /** True for a model that was trained without labels. */
  readonly unconditional?: boolean;
  /** Time steps of the finest grid that it was trained for. Default 128. */
  readonly finest?: number;
  /** Which of the programs that write PyTorch names the file is from. */
  readonly program?: 'dit' | 'sit';
}

/** How one of our parameters is made: its values, row-major. */
export type Maker = () => Promise<Float32Array>;

/** @throws CheckpointError that names the file. */
export function refuse(file: string, problem: string, hint?: string): never {
  throw new CheckpointError(`${file}: ${problem}`, { hint });
}

/** @throws ConfigError that says what the file does not, and which flag would. */
export function ask(file: string, what: string, hint: string): never {
  throw new ConfigError(`${file} does not say ${what}`, { hint });
}

/** The preset that has these sizes, as an example for a hint; '' without one. */
export function likePreset(
  { width, depth }: { width: number; depth: number },
  say: (name: string, config: ModelConfig) => string,
): string {
  const found = Object.entries(PRESETS).find(([, config]) => config.width === width && config.depth === depth);
  return found ? ` (${say(found[0], found[1])})` : '';
}

/** The heads that the user gave. @throws ConfigError without them. */
export function headsOf(file: string, sizes: { width: number; depth: number }, hints: ModelHints): number {
  const example = likePreset(sizes, (name, { heads }) => `${name}, of the same sizes, has ${heads}`);
  return hints.heads ?? ask(file, 'how many heads its attention has', `give --heads N${example}`);
}

/** A tensor by name, which must have so many axes. @throws CheckpointError. */
export function tensorOf({ tensors, file }: ForeignWeights, name: string, rank?: number): StoredTensor {
  const found = tensors.get(name) ?? refuse(file, `there is no tensor ${name}`, 'the file is of another kind of model');
  if (rank !== undefined && found.shape.length !== rank) {
    refuse(
      file,
      `${name} has shape [${found.shape}]; ${rank} axes are expected`,
      'the file is of another kind of model',
    );
  }
  return found;
}

/** Reads a tensor that must have this shape, which is checked at once. @throws CheckpointError. */
export function floats(weights: ForeignWeights, name: string, shape: readonly number[]): Maker {
  const tensor = tensorOf(weights, name);
  if (`${tensor.shape}` !== `${shape}`) {
    refuse(weights.file, `${name} has shape [${tensor.shape}], the model needs [${shape}]`);
  }
  return () => floatsOf(tensor, `${weights.file}: ${name}`);
}

/** How many blocks there are: one more than the highest number that `pattern` finds in a name. @throws CheckpointError for gaps. */
export function blockCount({ tensors, file }: ForeignWeights, pattern: RegExp): number {
  const found = new Set<number>();
  for (const name of tensors.keys()) {
    const match = pattern.exec(name);
    if (match) found.add(Number(match[1]));
  }
  const missing = Array.from({ length: found.size }, (_, i) => i).find((i) => !found.has(i));
  if (found.size === 0) refuse(file, 'it holds no block of a transformer');
  if (missing !== undefined) refuse(file, `block ${missing} is missing; there are ${found.size}`);
  return found.size;
}

/** @throws CheckpointError for a tensor that no parameter comes from: the network would not be the file's. */
export function checkStrangers({ tensors, file }: ForeignWeights, used: ReadonlySet<string>): void {
  const strangers = [...tensors.keys()].filter((name) => !used.has(name));
  if (strangers.length === 0) return;
  const shown = strangers.slice(0, 3).join(', ');
  const more = strangers.length > 3 ? ` and ${strangers.length - 3} more` : '';
  refuse(file, `nothing here has a use for ${shown}${more}`, 'the file is of another kind of model than it seems');
}

/**
 * Parameters of a model, each by its maker; those without one are zero.
 * @throws CheckpointError for tensors that together take more than their file, which would have to share bytes.
 */
export async function filled(
  weights: ForeignWeights,
  config: ModelConfig,
  makers: ReadonlyMap<string, Maker>,
): Promise<ParamSet> {
  const used = [...weights.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  if (used > weights.bytes) refuse(weights.file, `its tensors take ${used} bytes, the file has ${weights.bytes}`);
  const set = zeroParams(paramLayout(config));
  for (const { spec, values } of paramEntries(set)) {
    const made = await makers.get(spec.name)?.();
    if (made) values.set(made);
  }
  return set;
}
