/** A checkpoint of another program as a model of ours: which of its weights, whose names they have, and what it does not say. */
import { ConfigError } from '../../../engine/errors.ts';
import type { ModelConfig } from '../../config.ts';
import type { ParamSet } from '../../params.ts';
import { ditConfig, ditParams, isDit } from './dit.ts';
import { flaxConfig, flaxParams, isFlax } from './flax.ts';
import { type ForeignWeights, type ModelHints, refuse } from './foreign.ts';
import type { Checkpointed } from './open.ts';

/** A set of weights that was imported. */
export interface ImportedModel {
  readonly config: ModelConfig;
  readonly params: ParamSet;
  /** Whose names the tensors had. */
  readonly names: 'flax' | 'torch';
  /** Which set it is: `only` where the file holds one, whatever was asked for. */
  readonly weights: 'ema' | 'raw' | 'only';
}

const namesOf = ({ tensors, file }: ForeignWeights): 'flax' | 'torch' => {
  if (isFlax(tensors)) return 'flax';
  if (isDit(tensors)) return 'torch';
  const shown = [...tensors.keys()].slice(0, 3).join(', ');
  return refuse(
    file,
    `its tensors have names of neither the Flax reference nor DiT: ${shown}`,
    'weights with names such as DiTBlock_0/Dense_0/kernel or blocks.0.attn.qkv.weight can be imported',
  );
};

/**
 * Reads one set of a checkpoint's weights: the moving average (`ema`) or the raw ones; a file that holds one set gives that.
 * @throws ConfigError for what `hints` must say; CheckpointError for tensors that do not fit; what reading them throws.
 */
export async function importWeights(
  checkpoint: Checkpointed,
  which: 'ema' | 'raw',
  hints: ModelHints = {},
): Promise<ImportedModel> {
  const weights = checkpoint[which] ?? checkpoint.raw ?? checkpoint.ema!;
  const names = namesOf(weights);
  const config = names === 'flax' ? flaxConfig(weights, hints) : ditConfig(weights, hints);
  const params = names === 'flax' ? await flaxParams(weights, config) : await ditParams(weights, config);
  return { config, params, names, weights: checkpoint.raw && checkpoint.ema ? which : 'only' };
}

/** All that training goes on from: both sets of weights, and Adam's moments. */
export interface ImportedState {
  readonly config: ModelConfig;
  readonly step: number;
  readonly sets: { readonly params: ParamSet; readonly ema: ParamSet; readonly m: ParamSet; readonly v: ParamSet };
}

/** Reads a pickle of a training with its optimiser. @throws as `importWeights`; ConfigError for a file without moments or step. */
export async function importState(checkpoint: Checkpointed, hints: ModelHints = {}): Promise<ImportedState> {
  const { raw, ema, moments, step } = checkpoint;
  if (!raw || !ema || !moments || step === undefined || !Number.isSafeInteger(step) || step < 0) {
    throw new ConfigError('the checkpoint does not hold all of params, params_ema, opt_state with Adam and step', {
      hint: 'leave --optimizer out to take its weights',
    });
  }
  const config = flaxConfig(raw, hints);
  const read = (weights: ForeignWeights) => flaxParams(weights, config);
  const sets = { params: await read(raw), ema: await read(ema), m: await read(moments.m), v: await read(moments.v) };
  return { config, step, sets };
}
