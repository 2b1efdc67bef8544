/** What a diffusion transformer is: its sizes, its lengths, the presets, and the checks that a description makes sense. */
import { ConfigError } from '../engine/errors.ts';
import { MAX_HEAD_SIZE } from '../kernels/attention/head-size.ts';

/** Length wiring: a model may run `min`, `min + group`, ... blocks, and every `group` blocks end one residual step. */
export interface LengthConfig {
  readonly min: number;
  readonly group: number;
}

/** What a network's output may be read as; `ModelConfig` says what each is. */
export type Predicts = 'velocity' | 'data' | 'noise';
const PREDICTS: readonly Predicts[] = ['velocity', 'data', 'noise'];

/** A model's description; plain data, so that JSON.stringify writes it and `parseModelConfig` reads it back. */
export interface ModelConfig {
  /** Height and width of the (square) images or latents, in pixels. */
  readonly imageSize: number;
  readonly channels: number;
  /** Side of a patch in pixels; imageSize / patch squared is the number of tokens. */
  readonly patch: number;
  /** Features per token (D). */
  readonly width: number;
  readonly heads: number;
  /** Number of blocks (N). */
  readonly depth: number;
  /** Hidden features of a block's MLP are mlpRatio * width. */
  readonly mlpRatio: number;
  /** Number of labels; the label table has one row more, for "no class". */
  readonly classes: number;
  /** Share of MLP activations dropped in training. */
  readonly dropout: number;
  /** null: the conventional transformer, which always runs all its blocks. */
  readonly lengths: LengthConfig | null;
  /** True feeds 0 to the step embedding, whatever the step (objectives without step sizes). */
  readonly ignoreDt: boolean;
  /** What the time is multiplied by before it is embedded; 1 where it is absent. Models of other programs may have another one. */
  readonly timeScale?: number;
  /**
   * What the network's output is. `velocity`: that; a parsed description leaves it out. `data`: the picture at time 1, from which
   * the velocity toward it is made (model/dit.ts, `decode`; JiT, arXiv 2511.13720). `noise`: the noise in the input at step
   * timeScale * t of a diffusion with timeScale discrete steps, of which 0 is data (DiT, model/diffusion.ts); not to be trained.
   */
  readonly predicts?: Predicts;
  /**
   * True where training gave every sample "no class", so that rows of other labels were never trained: sampling then takes no label and no
   * guidance. Training sets it (training/model-as-trained.ts); a parsed description leaves false out.
   */
  readonly unconditional?: boolean;
  /**
   * Time steps of the finest grid that the model was trained for, a power of two; 128 where it is absent. One that knows step sizes takes no
   * more, and this level is what it learned the flow at. Training sets it (training/model-as-trained.ts).
   */
  readonly finest?: number;
}

/** Steps of the finest grid where a description does not say. */
const FINEST = 128;

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));

/** Time steps of the finest grid that a model was trained for. */
export const finestSteps = ({ finest = FINEST }: Pick<ModelConfig, 'finest'>): number => finest;

/**
 * The numbers of steps, powers of two, that are taken where nobody says: those that are wanted, or the model's finest in the place of more, each
 * once. One that knows no step sizes takes any.
 */
export const usualSteps = (config: Pick<ModelConfig, 'ignoreDt' | 'finest'>, wanted: readonly number[]): number[] => [
  ...new Set(config.ignoreDt ? wanted : wanted.map((T) => Math.min(T, finestSteps(config)))),
];

/** Values of the fields that a description may leave out. */
const DEFAULTS = { mlpRatio: 4, dropout: 0, lengths: null, ignoreDt: false } as const;

const latent = { imageSize: 32, channels: 4, classes: 1000, ...DEFAULTS };
const small = { ...latent, width: 384, heads: 6, depth: 12, lengths: { min: 4, group: 4 } };
const base = { ...latent, width: 768, heads: 12, depth: 12, lengths: { min: 4, group: 4 } };
const large = { ...latent, width: 1024, heads: 16, depth: 24, lengths: { min: 8, group: 8 } };
const extraLarge = { ...latent, width: 1152, heads: 16, depth: 28, lengths: { min: 12, group: 8 } };

/**
 * Sizes from "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), table 1, on 32x32x4 latents; lengths from
 * the recipes of ODE_t(ODE_l) (arXiv 2506.21714) for B and XL, chosen alike for S and L. `tiny` is for 28x28 grey pictures.
 */
export const PRESETS = {
  tiny: {
    ...DEFAULTS,
    imageSize: 28,
    channels: 1,
    patch: 4,
    width: 64,
    heads: 4,
    depth: 12,
    classes: 10,
    lengths: { min: 4, group: 4 },
  },
  'dit-s/2': { ...small, patch: 2 },
  'dit-b/2': { ...base, patch: 2 },
  'dit-b/4': { ...base, patch: 4 },
  'dit-l/2': { ...large, patch: 2 },
  'dit-xl/2': { ...extraLarge, patch: 2 },
} as const satisfies Record<string, ModelConfig>;

/** Name of a preset. */
export type PresetName = keyof typeof PRESETS;

/** The preset of that name with some fields replaced. Throws ConfigError for an unknown name or a bad combination. */
export function preset(name: string, overrides: Partial<ModelConfig> = {}): ModelConfig {
  if (!Object.hasOwn(PRESETS, name)) {
    throw new ConfigError(`there is no model preset "${name}"`, {
      hint: `presets: ${Object.keys(PRESETS).join(', ')}`,
    });
  }
  const { lengths }: ModelConfig = PRESETS[name as PresetName];
  const { depth } = overrides;
  if (lengths && depth !== undefined && depth < lengths.min && overrides.lengths === undefined) {
    throw new ConfigError(`model.depth is ${depth}; the preset ${name} runs at least ${lengths.min} blocks`, {
      hint: `give a model.depth of ${lengths.min} or more`,
    });
  }
  return parseModelConfig({ ...PRESETS[name as PresetName], ...overrides });
}

function show(value: unknown): string {
  return value === undefined ? 'missing' : (JSON.stringify(value) ?? String(value));
}

function reject(field: string, value: unknown, expected: string, hint: string): never {
  throw new ConfigError(`model.${field} must be ${expected}; found ${show(value)}`, { hint });
}

function record(field: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`${field} must be an object; found ${show(value)}`);
  }
  return value as Record<string, unknown>;
}

function integer(fields: Record<string, unknown>, name: string, max: number, path = name): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max) {
    reject(path, value, `an integer from 1 to ${max}`, `set model.${path} to a value in that range`);
  }
  return value;
}

function knownFields(fields: Record<string, unknown>, known: readonly string[], prefix: string): void {
  const stranger = Object.keys(fields).find((name) => !known.includes(name));
  if (stranger !== undefined) {
    throw new ConfigError(`${prefix}${stranger} is no field of a model's description`, {
      hint: `fields: ${known.join(', ')}`,
    });
  }
}

const FIELDS = [
  ...Object.keys(PRESETS.tiny),
  'timeScale',
  'predicts',
  'unconditional',
  'finest',
] as (keyof ModelConfig)[];

function parseLengths(value: unknown, depth: number): LengthConfig | null {
  if (value === null) return null;
  const fields = record('model.lengths', value);
  knownFields(fields, ['min', 'group'], 'model.lengths.');
  const min = integer(fields, 'min', depth, 'lengths.min');
  const group = integer(fields, 'group', depth, 'lengths.group');
  if (min < group) {
    reject(
      'lengths.min',
      min,
      `at least lengths.group (${group})`,
      'with fewer blocks no group ends and the output is void',
    );
  }
  return { min, group };
}

/**
 * Checks a description (parsed JSON or a literal) and fills in what may be left out (mlpRatio 4, dropout 0, lengths null,
 * ignoreDt false, timeScale 1, predicts the velocity, unconditional false,
 * finest 128). Throws ConfigError naming the field, its value and the remedy.
 */
export function parseModelConfig(json: unknown): ModelConfig {
  const given = record('a model description', json);
  knownFields(given, FIELDS, 'model.');
  const fields: Record<string, unknown> = { ...DEFAULTS, ...given };
  const imageSize = integer(fields, 'imageSize', 4096);
  const channels = integer(fields, 'channels', 1024);
  const patch = integer(fields, 'patch', imageSize);
  if (imageSize % patch !== 0) {
    reject(
      'patch',
      patch,
      `a divisor of model.imageSize (${imageSize})`,
      'choose another model.patch or model.imageSize',
    );
  }
  const width = integer(fields, 'width', 65536);
  if (width % 4 !== 0) {
    reject('width', width, 'a multiple of 4', 'the position embedding splits it into four parts');
  }
  const heads = integer(fields, 'heads', width);
  if (width % heads !== 0) {
    reject('heads', heads, `a divisor of width (${width})`, 'every head takes width / heads features');
  }
  if (width / heads > MAX_HEAD_SIZE) {
    let fitting = Math.ceil(width / MAX_HEAD_SIZE);
    while (width % fitting !== 0) fitting++;
    throw new ConfigError(
      `model.width ${width} in model.heads ${heads} gives heads of ${width / heads} features; at most ${MAX_HEAD_SIZE} are supported`,
      { hint: `set heads to ${fitting} or another divisor of width above it, or choose a smaller width` },
    );
  }
  const depth = integer(fields, 'depth', 4096);
  const classes = integer(fields, 'classes', 10_000_000);
  const { mlpRatio, dropout, ignoreDt } = fields;
  if (typeof mlpRatio !== 'number' || !(mlpRatio > 0 && mlpRatio <= 64) || !Number.isInteger(mlpRatio * width)) {
    reject('mlpRatio', mlpRatio, `positive, at most 64, and mlpRatio * width (${width}) whole`, 'the usual value is 4');
  }
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1)) {
    reject('dropout', dropout, 'in [0, 1)', 'use 0 for none');
  }
  if (typeof ignoreDt !== 'boolean') reject('ignoreDt', ignoreDt, 'true or false', 'shortcut models need false');
  const lengths = parseLengths(fields.lengths, depth);
  return {
    ...{ imageSize, channels, patch, width, heads, depth, mlpRatio, classes, dropout, lengths, ignoreDt },
    ...parseConventions(fields),
  };
}

/** What few models have, left out where it is as usual. */
function parseConventions({
  timeScale,
  predicts,
  unconditional,
  finest,
}: Record<string, unknown>): Partial<ModelConfig> {
  if (timeScale !== undefined && !(typeof timeScale === 'number' && timeScale > 0 && timeScale <= 1e6)) {
    reject('timeScale', timeScale, 'positive and at most 1000000', 'leave it out for 1');
  }
  const known = PREDICTS.find((name) => name === predicts);
  if (predicts !== undefined && known === undefined) {
    reject('predicts', predicts, '"velocity", "data" or "noise"', 'leave it out for the velocity');
  }
  if (unconditional !== undefined && typeof unconditional !== 'boolean') {
    reject('unconditional', unconditional, 'true or false', 'leave it out for a model that was trained with labels');
  }
  if (finest !== undefined && !(Number.isSafeInteger(finest) && Number(finest) >= 2 && isPowerOfTwo(Number(finest)))) {
    reject('finest', finest, 'a power of two, 2 or more', `leave it out for ${FINEST}`);
  }
  return {
    ...(timeScale === undefined || timeScale === 1 ? {} : { timeScale }),
    ...(known === undefined || known === 'velocity' ? {} : { predicts: known }),
    ...(unconditional === true ? { unconditional } : {}),
    ...(finest === undefined || finest === FINEST ? {} : { finest: finest as number }),
  };
}

/** The description with what a parsed one leaves out, so that two can be compared field by field. */
export const spelledOut = (config: ModelConfig): Required<ModelConfig> => ({
  timeScale: 1,
  predicts: 'velocity',
  unconditional: false,
  finest: FINEST,
  ...config,
});

/**
 * The description in a config.json of the reference's golden data, whose fields are named as in the reference's flags.
 * Fields that do not describe the network (seeds, parameter layouts, notes) are not looked at. Throws ConfigError.
 */
export function fromGolden(json: unknown): ModelConfig {
  const golden = record('a golden config.json', json);
  return parseModelConfig({
    imageSize: golden.image_size,
    channels: golden.channels,
    patch: golden.patch_size,
    width: golden.hidden_size,
    heads: golden.num_heads,
    depth: golden.depth,
    mlpRatio: golden.mlp_ratio,
    classes: golden.num_classes,
    lengths: { min: golden.depth_min, group: golden.depth_group },
  });
}

/** Tokens per image. */
export function tokenCount(config: ModelConfig): number {
  return (config.imageSize / config.patch) ** 2;
}

/** Values of one patch, over all its pixels and channels. */
export function patchSize(config: ModelConfig): number {
  return config.patch ** 2 * config.channels;
}

/** Numbers of blocks one may ask for, ascending: {min, min + group, ...} up to depth; only depth without length wiring. */
export function allowedLengths(config: ModelConfig): number[] {
  if (config.lengths === null) return [config.depth];
  const { min, group } = config.lengths;
  return Array.from({ length: Math.floor((config.depth - min) / group) + 1 }, (_, i) => min + i * group);
}

/** The most blocks that one may ask for: less than `depth` where that is no allowed length. */
export const fullLength = (config: ModelConfig): number => Math.max(...allowedLengths(config));

/** Throws ConfigError, naming the allowed ones, unless `length` is an allowed number of blocks. */
export function checkLength(config: ModelConfig, length: number): void {
  const allowed = allowedLengths(config);
  if (!allowed.includes(length)) {
    throw new ConfigError(`this model cannot run ${length} of its ${config.depth} blocks`, {
      hint: `allowed lengths: ${allowed.join(', ')}`,
    });
  }
}

/**
 * How many blocks, counted from the first, change the output at this length: those up to the last group end at or below
 * it. Later ones need be neither run nor loaded. Throws ConfigError if the length is not allowed.
 */
export function blocksThatRun(config: ModelConfig, length: number): number {
  checkLength(config, length);
  return config.lengths === null ? config.depth : length - (length % config.lengths.group);
}
