/** The fields that verify reads from the JSON files of golden data; others are let through. */
import * as v from 'valibot';
import { DataError } from '../engine/errors.ts';
import type { GoldenModel } from './golden.ts';

const flag = v.picklist([0, 1]);
const seed = v.pipe(v.number(), v.integer(), v.minValue(0));

/** float_noise.json: the reference's float32 results against float64, by "file:tensor". */
export const noiseSchema = v.record(
  v.string(),
  v.union([
    v.pipe(
      v.string(),
      v.transform(() => undefined),
    ),
    v.looseObject({
      rms: v.optional(v.number()),
      rms_of_output: v.optional(v.number()),
      worst_relative_to_leaf_max: v.optional(v.number()),
    }),
  ]),
);

/** grads.json, by case. */
export const gradsSchema = v.record(
  v.string(),
  v.looseObject({
    loss: v.number(),
    grad_norm: v.optional(v.number()),
    zero_grad_leaves: v.optional(v.array(v.string())),
  }),
);

/** zero_grad_leaves of a config.json, if it has any. */
export function zeroLeavesOf(config: unknown): string[] {
  const parsed = v.safeParse(v.looseObject({ zero_grad_leaves: v.array(v.string()) }), config);
  return parsed.success ? parsed.output.zero_grad_leaves : [];
}

/** formula_leaf_stats of a config.json, if it has any: [sum, sum of squares] of each parameter by formula. */
export function leafStatisticsOf(config: unknown): Record<string, [number, number]> {
  const schema = v.looseObject({ formula_leaf_stats: v.record(v.string(), v.tuple([v.number(), v.number()])) });
  const parsed = v.safeParse(schema, config);
  return parsed.success ? parsed.output.formula_leaf_stats : {};
}

/** How the reference was asked to train; its defaults where a recording does not say. */
const trainFlags = {
  depth_wise: v.number(),
  bootstrap_cfg: flag,
  bootstrap_ema: flag,
  cfg_scale: v.number(),
  class_dropout_prob: v.number(),
  bootstrap_every: v.optional(v.number(), 8),
  depth_bootstrap: v.optional(v.number(), 8),
  denoise_timesteps: v.optional(v.number(), 128),
  t_sampling: v.optional(v.picklist(['discrete', 'continuous']), 'discrete'),
};
export type TrainFlags = v.InferOutput<v.ObjectSchema<typeof trainFlags, undefined>>;

const variant = v.looseObject({
  flags: v.looseObject(trainFlags),
  max_steps: v.optional(v.number()),
  sigma: v.optional(v.number()),
  ignore_dt: v.optional(v.boolean(), false),
  /** Number of the update, from 1. */
  train_state_step: v.optional(v.number(), 1),
  /** Of recordings of whole updates. */
  info_of_update: v.optional(v.record(v.string(), v.number())),
});
export type RecordedVariant = v.InferOutput<typeof variant>;

/** targets.json: variants by the reference's name of the objective, `length` being whole updates; a note in place of a variant is a string. */
export const targetsSchema = v.looseObject({
  formula_seeds: v.looseObject({
    params: seed,
    params_ema: seed,
    teacher_params: v.optional(seed),
    teacher_params_ema: v.optional(seed),
  }),
  types: v.record(v.string(), v.record(v.string(), v.union([v.string(), variant]))),
});

/** train_trajectory.json. */
export const trajectorySchema = v.looseObject({
  flags: v.looseObject({
    batch_size: v.number(),
    max_steps: v.number(),
    model: v.looseObject({
      ...trainFlags,
      lr: v.number(),
      beta1: v.number(),
      beta2: v.number(),
      warmup: v.number(),
      weight_decay: v.number(),
      target_update_rate: v.number(),
      dropout: v.number(),
      train_type: v.string(),
    }),
  }),
  steps: v.array(v.record(v.string(), v.number())),
});

/** sampling.json. */
export const samplingSchema = v.looseObject({
  formula_seeds: v.looseObject({ params_ema: seed }),
  adaptive: v.optional(
    v.record(v.string(), v.looseObject({ step_sequence_set_by_float32_rounding: v.optional(v.boolean()) })),
    {},
  ),
});

/** A golden model's JSON file, checked; undefined without one. @throws DataError naming the file and the field. */
export async function readJson<T extends v.GenericSchema>(
  golden: GoldenModel,
  stem: string,
  schema: T,
): Promise<v.InferOutput<T> | undefined> {
  const raw = await golden.json(stem);
  if (raw === undefined) return undefined;
  const parsed = v.safeParse(schema, raw);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new DataError(`${golden.name}/${stem}.json: ${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`);
}

/** As readJson, for a file that another one cannot be replayed without. */
export async function requireJson<T extends v.GenericSchema>(
  golden: GoldenModel,
  stem: string,
  schema: T,
): Promise<v.InferOutput<T>> {
  const found = await readJson(golden, stem, schema);
  if (found === undefined) throw new DataError(`${golden.name}/${stem}.json is missing`);
  return found;
}
