/** All that a run is told, in sections, as layers of which later ones win: defaults, a recipe, a file, single values, flags. */
import { ConfigError } from '../engine/errors.ts';
import {
  choice,
  integer,
  knownNames,
  type Option,
  type OptionSet,
  parseOptions,
  real,
  toggle,
  type ValuesOf,
} from '../formats/options.ts';
import { parseYaml, type Yaml, yamlText } from '../formats/yaml.ts';
import { type ModelConfig, PRESETS, type PresetName } from '../model/config.ts';
import { TRAIN_DEFAULTS, TRAIN_OPTIONS, type TrainConfig } from './config.ts';
import { modelAsAsked } from './model-as-trained.ts';

/** An option that may be left out, as its value follows from something else. */
const optional = <T>(option: Option<T>): Option<T | undefined> => ({
  ...option,
  default: undefined,
  accepts: (x) => x === undefined || option.accepts(x),
});

const text = (help: string, flag?: false): Option<string | undefined> => ({
  default: undefined,
  rule: 'text that is not empty',
  accepts: (x) => x === undefined || (typeof x === 'string' && x !== ''),
  text: { kind: 'text' },
  help,
  flag,
});

const size = (help: string, max: number) =>
  optional(integer(1, { min: 1, max, rule: `an integer from 1 to ${max}`, help }));

/** The model: a preset, and fields instead of its own. What they must be to each other is checked by `parseModelConfig`. */
export const MODEL_OPTIONS = {
  preset: text('tiny, dit-s/2, dit-b/2, dit-b/4, dit-l/2 or dit-xl/2: takes the place of all fields before it', false),
  imageSize: size('side of the pictures or latents; follows the data', 4096),
  channels: { ...size('of the pictures or latents; follows the data', 1024), flag: false },
  patch: size('side of a patch', 4096),
  width: optional(
    integer(64, {
      min: 4,
      max: 65536,
      rule: 'an integer from 4 to 65536',
      help: "features per token, instead of the preset's",
    }),
  ),
  heads: size('attention heads', 65536),
  depth: size('blocks', 4096),
  mlpRatio: optional(
    real(4, { above: 0, max: 64, rule: 'positive, at most 64', help: "hidden features of a block's MLP, in widths" }),
  ),
  classes: size('labels; as many as the data has, or more', 10_000_000),
  dropout: optional(
    real(0, { min: 0, below: 1, rule: 'in [0, 1)', value: 'share', help: 'share of MLP activations dropped' }),
  ),
  lengths: {
    default: undefined,
    rule: 'null or { min, group }',
    accepts: (x: unknown) => typeof x === 'object' || x === undefined,
    text: { kind: 'fields' },
    help: 'blocks that may run: `min`, `min + group`, ...; null: always all',
    flag: false,
  } as Option<ModelConfig['lengths'] | undefined>,
  ignoreDt: { ...optional(toggle(false, 'the step embedding gets 0, whatever the step')), flag: false as const },
  predicts: optional(
    choice('velocity', ['velocity', 'data'], {
      help: "the network's output: the velocity, or the picture, from which the velocity is made",
    }),
  ),
} as const satisfies OptionSet;

/** Updates, pictures or samples: at least one. */
const every = (byDefault: number, help: string) => integer(byDefault, { min: 1, rule: 'a positive integer', help });

const isList = (x: unknown) => typeof x === 'string' && /^[1-9]\d{0,4}(,[1-9]\d{0,4})*$/.test(x);

/** Positive integers, separated by commas. */
const list = (help: string): Option<string | undefined> => ({
  ...text(help),
  rule: 'positive integers separated by commas',
  accepts: (x) => x === undefined || isList(x),
  value: 'n,...',
});

/** Where the pictures are. */
export const DATA_OPTIONS = {
  path: text("folder of the data, or 'bundled'; from the current folder", false),
  validation: {
    ...text(
      "pictures that are not trained on, whose loss is told now and then: a share of the data such as 0.1, 'test' for the test part beside them, or a path like that of --data",
    ),
    value: 'share|test|path',
  } as Option<string | undefined>,
} as const satisfies OptionSet;

/** What is kept of a run, and where. */
export const OUT_OPTIONS = {
  folder: text('run folder', false),
  saveEvery: integer(250, { min: 1, rule: 'a positive integer', help: 'updates between checkpoints' }),
  keep: integer(2, { min: 1, rule: 'a positive integer', help: 'newest checkpoints that are kept' }),
  keepEvery: integer(0, {
    min: 0,
    rule: '0 or a positive integer',
    help: 'besides, the checkpoint of every n-th update is kept for good, such as for FID over the run; 0: none',
  }),
  maxTime: {
    ...text(
      'time from the start of the command after which the run ends in order, with a checkpoint to go on from: 90s, 30m, 2h or 1d',
    ),
    rule: 'a time such as 90s, 30m, 2h or 1d',
    accepts: (x) => x === undefined || seconds(x) !== null,
    value: 'time',
  } as Option<string | undefined>,
  tensorboard: toggle(false, "write TensorBoard's event files into the run folder"),
  logEvery: every(10, 'TensorBoard: updates between norms and bytes; losses are written after each'),
  histogramEvery: every(100, 'TensorBoard: updates between histograms of parameters and losses'),
  validateEvery: every(250, 'updates between validations'),
  validationPictures: every(256, 'held-out pictures of one validation, rounded down to whole batches'),
  sampleEvery: integer(0, {
    min: 0,
    rule: '0 or a positive integer',
    help: 'updates between sheets of samples in samples/ of the run folder; 0: none',
  }),
  sampleSteps: list(
    'numbers of time steps T of the samples, one column each; 1,4,16, or its finest in the place of more',
  ),
  sampleBlocks: list('numbers of blocks L of the samples, one row each; up to four of those that may run'),
  sampleCount: every(8, 'samples in each cell of a sheet'),
  decode: {
    ...text(
      "autoencoder that makes pictures of a model's latents, for sheets of samples: a file, or diffusers' folder",
    ),
    value: 'file',
  } as Option<string | undefined>,
  sampleGuidance: optional(
    real(1, {
      rule: 'a number',
      value: 'weight',
      help: 'guidance weight of the samples; 1, or 0 of a model that is trained without labels',
    }),
  ),
} as const satisfies OptionSet;

/** Seconds of a time such as 30m; null where it is none. */
export function seconds(time: unknown): number | null {
  const [, amount, unit] = (typeof time === 'string' && /^(\d{1,9}(?:\.\d{1,9})?)([smhd])$/.exec(time)) || [];
  const value = Number(amount) * { s: 1, m: 60, h: 3600, d: 86400 }[unit as 's' | 'm' | 'h' | 'd'];
  return value > 0 ? value : null;
}

/** Every section with its options. */
export const SECTIONS = { model: MODEL_OPTIONS, train: TRAIN_OPTIONS, data: DATA_OPTIONS, out: OUT_OPTIONS } as const;

/** A part of the settings. Values of files are not checked yet. */
export type Layer = {
  readonly [S in keyof typeof SECTIONS]?: Partial<ValuesOf<(typeof SECTIONS)[S]>>;
};

/** What all layers together say. */
export interface Settings {
  readonly preset: string | undefined;
  readonly model: Partial<ModelConfig>;
  readonly train: Partial<TrainConfig>;
  readonly data: ValuesOf<typeof DATA_OPTIONS>;
  readonly out: ValuesOf<typeof OUT_OPTIONS>;
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (x: unknown): x is Fields => typeof x === 'object' && x !== null && !Array.isArray(x);

function merged(a: unknown, b: unknown): unknown {
  if (!isFields(a) || !isFields(b)) return b;
  const both = Object.keys(b).map((key) => [key, Object.hasOwn(a, key) ? merged(a[key], b[key]) : b[key]]);
  return Object.fromEntries([...Object.entries(a), ...both]);
}

/**
 * The settings of layers, later ones over earlier. A preset takes the place of the model before it; objects such as
 * `train.guidance` are merged by their fields. @throws ConfigError for a value that breaks its option's rule.
 */
export function settingsOf(layers: readonly Layer[]): Settings {
  let all: Layer = {};
  for (const layer of layers) {
    const base = layer.model?.preset === undefined ? all : { ...all, model: {} };
    all = merged(base, layer) as Layer;
  }
  const { preset, ...model } = parseOptions(MODEL_OPTIONS, all.model ?? {}, { section: 'model', noun: 'model' });
  const wiring = PRESETS[preset as PresetName]?.lengths;
  const lengths = isFields(model.lengths) ? { ...wiring, ...model.lengths } : model.lengths;
  const given = Object.fromEntries(Object.entries({ ...model, lengths }).filter(([, value]) => value !== undefined));
  const train = { ...all.train };
  if (isFields(train.guidance)) train.guidance = { ...TRAIN_DEFAULTS.guidance, ...train.guidance };
  return {
    preset,
    model: given,
    train,
    data: parseOptions(DATA_OPTIONS, all.data ?? {}, { section: 'data', noun: 'data' }),
    out: parseOptions(OUT_OPTIONS, all.out ?? {}, { section: 'out', noun: 'output' }),
  };
}

/** The settings in a YAML document, whose keys all are known, with the line of each. @throws ConfigError naming file, line and key. */
export function layerOfYaml(source: string, name: string): { readonly layer: Layer; readonly lines: Yaml['lines'] } {
  const { value, lines } = parseYaml(source, name);
  const where = (path: string) => `${name} line ${lines.get(path) ?? 1}`;
  if (value !== null && !isFields(value)) {
    throw new ConfigError(`${name} is no map of sections`, { hint: `sections: ${Object.keys(SECTIONS).join(', ')}` });
  }
  for (const [section, fields] of Object.entries(value ?? {})) {
    checkName(section, where(section));
    if (!isFields(fields)) {
      throw new ConfigError(`${where(section)}: ${section} is ${JSON.stringify(fields)}; it must be a map of options`);
    }
    for (const key of Object.keys(fields)) checkName(`${section}.${key}`, where(`${section}.${key}`));
  }
  return { layer: (value ?? {}) as Layer, lines };
}

/** What `train.lr=1e-4` sets; the value is read as YAML. @throws ConfigError. */
export function layerOfSetting(setting: string): { readonly layer: Layer; readonly path: string } {
  const at = setting.indexOf('=');
  const names = setting.slice(0, Math.max(0, at)).split('.');
  if (at < 0 || names.length < 2 || names.includes('')) {
    throw new ConfigError(`--set is '${setting}'; it must be an option and its value, such as train.lr=1e-4`);
  }
  const path = names.slice(0, 2).join('.');
  checkName(path, '--set');
  const { value } = parseYaml(setting.slice(at + 1), `--set ${path}`);
  const layer = names.reduceRight<unknown>((inner, name) => Object.fromEntries([[name, inner]]), value);
  return { layer: layer as Layer, path };
}

/** @throws ConfigError unless `section` or `section.option` exists. */
function checkName(path: string, where: string): void {
  const [section = '', ...rest] = path.split('.');
  if (!Object.hasOwn(SECTIONS, section)) {
    throw new ConfigError(`${where}: unknown section '${section}'`, {
      hint: knownNames(section, Object.keys(SECTIONS)),
    });
  }
  if (rest.length === 0) return;
  const options: OptionSet = SECTIONS[section as keyof typeof SECTIONS];
  const key = rest.join('.');
  if (Object.hasOwn(options, key)) return;
  throw new ConfigError(`${where}: unknown option '${path}'`, { hint: knownNames(key, Object.keys(options)) });
}

/** A run's configuration as a document that begins the same run again. */
export function settingsText({
  model,
  train,
  data: path,
  validation,
}: {
  model: ModelConfig;
  train: TrainConfig;
  data: string;
  validation?: string;
}): string {
  const data = { path, ...(validation === undefined ? {} : { validation }) };
  return `# Everything that this run is; begins the same run again with --config.\n${yamlText({ model: modelAsAsked(model), train, data })}`;
}
