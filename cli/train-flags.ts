/** What `odelt train` is told in flags and files: where the data are, layers of settings, and the library's errors in the user's words. */
import { resolve } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { TRAIN_OPTIONS } from '../training/config.ts';
import type { TrainingData } from '../training/data/dataset.ts';
import { type OpenOptions, openTrainingData } from '../training/data/open.ts';
import { recipe } from '../training/recipes.ts';
import {
  DATA_OPTIONS,
  type Layer,
  layerOfSetting,
  layerOfYaml,
  MODEL_OPTIONS,
  OUT_OPTIONS,
  SECTIONS,
} from '../training/settings.ts';
import { flagNames, givenFlags } from './option-flags.ts';

/** Flags that are no options of their own; the rest is read by the options' names. */
export interface TrainFlags {
  teacher?: string;
  init?: string;
  data?: string;
  preset?: string;
  out?: string;
  recipe?: string;
  config?: string;
  set?: string[];
  /** A step, or true for the newest checkpoint; 'auto': the newest if there is one, else a new run. */
  resume?: number | true | 'auto';
  adapter?: string;
  adapterIndex?: number;
  tuning?: string;
  json?: boolean;
  channels?: 1 | 3;
  unconditional?: boolean;
  distillGuidance?: number;
}

/** What a run's configuration calls the pictures that come with the package, wherever that lies. */
const BUNDLED = 'bundled';

/** What is kept of --data: a path that holds from any folder, or 'bundled' (also for no --data). @throws ConfigError for ''. */
export function dataPlace(flag: string | undefined): string {
  // An unset variable of a script must not mean the current folder.
  if (flag === '') throw new ConfigError('--data is empty', { hint: `give the path of a folder, or '${BUNDLED}'` });
  return flag === undefined || flag === BUNDLED ? BUNDLED : resolve(flag);
}

/** The path of the data set that a run's configuration names. */
export const placeOf = (place: string): string => (place === BUNDLED ? shippedData() : place);

/** Opens it. @throws what openTrainingData throws. */
export const openPlace = (place: string, options: OpenOptions): Promise<TrainingData> =>
  openTrainingData(placeOf(place), options);

/** Flags that do not follow from their options' names. */
const OWN_FLAGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  model: { preset: '--preset', channels: '--channels' },
  train: { guidance: '--distill-guidance' },
  data: { path: '--data' },
  out: { folder: '--out' },
};

/** Channels that encoded pictures are brought to for a model of so many; undefined where they have no such form: latents. */
export const encodedChannels = (ofModel: number | undefined): 1 | 3 | undefined =>
  ofModel === 1 || ofModel === 3 ? ofModel : undefined;

/** --channels. @throws ConfigError. */
export function channels(text: string): 1 | 3 {
  if (text !== '1' && text !== '3') throw new ConfigError(`--channels is '${text}'; it must be 1 (grey) or 3 (colour)`);
  return text === '1' ? 1 : 3;
}

/** Options by what messages call them (`training.lr`): the path that files and --set take, and the flag, if there is one. */
const NAMES: ReadonlyMap<string, { readonly path: string; readonly flag: string | undefined }> = new Map(
  Object.entries(SECTIONS).flatMap(([section, options]) => {
    const flags = { ...flagNames(options), ...OWN_FLAGS[section] };
    const spoken = section === 'train' ? 'training' : section;
    return Object.keys(options).map((name) => [`${spoken}.${name}`, { path: `${section}.${name}`, flag: flags[name] }]);
  }),
);

/** Where values come from that no flag gave, by path: `run.yaml line 3`, or `--set`. */
export type Origins = ReadonlyMap<string, string>;

/** Throws the error, with fields in its message and hint written as what set them: a flag, a line of a file, or --set. */
export function inFlags(error: unknown, origins: Origins): never {
  if (!(error instanceof ConfigError)) throw error;
  const named = (text: string, word: (known: { path: string; flag: string | undefined }) => string) =>
    text.replace(/\b(?:model|training|data|out)\.\w+/g, (field) => {
      const known = NAMES.get(field);
      return known ? word(known) : field;
    });
  const message = named(error.message, ({ path, flag }) => {
    const origin = origins.get(path);
    return origin === undefined ? (flag ?? path) : `${path} (${origin})`;
  });
  const hint = error.hint && named(error.hint, ({ path, flag }) => (origins.has(path) ? path : (flag ?? path)));
  throw new ConfigError(message, { cause: error.cause, hint });
}

/** The layers that --recipe, --config and --set make, in order, and where their values come from. @throws ConfigError. */
export async function layersBeforeFlags(flags: {
  readonly recipe?: string;
  readonly config?: string;
  readonly set?: readonly string[];
}): Promise<{ readonly layers: Layer[]; readonly origins: Origins }> {
  const layers: Layer[] = [];
  const origins = new Map<string, string>();
  if (flags.recipe !== undefined) {
    const { settings } = recipe(flags.recipe);
    layers.push(settings);
    for (const [section, fields] of Object.entries(settings)) {
      for (const name of Object.keys(fields)) origins.set(`${section}.${name}`, `--recipe ${flags.recipe}`);
    }
  }
  if (flags.config !== undefined) {
    const fail = failAs(ConfigError, flags.config, 'give --config a YAML file, such as config.yaml of a run folder');
    const bytes = await readRegular(flags.config, { most: 1 << 20, fail });
    const { layer, lines } = layerOfYaml(new TextDecoder().decode(bytes), flags.config);
    layers.push(layer);
    for (const [path, line] of lines) origins.set(path, `${flags.config} line ${line}`);
  }
  for (const setting of flags.set ?? []) {
    const { layer, path } = layerOfSetting(setting);
    layers.push(layer);
    origins.set(path, '--set');
  }
  return { layers, origins };
}

/** What flags give: a preset and its fields, training, the rest; then those that stand for several options. */
export function layersOfFlags(flags: TrainFlags): Layer[] {
  const { preset, channels, data } = flags;
  const own = { ...(preset === undefined ? {} : { preset }), ...(channels === undefined ? {} : { channels }) };
  const labels: Layer[] = flags.unconditional
    ? [{ train: { guidance: null, classDropout: 1 } }]
    : flags.distillGuidance === undefined
      ? []
      : [{ train: { guidance: { weight: flags.distillGuidance, distill: true } } }];
  const given: Layer = {
    model: { ...own, ...givenFlags(MODEL_OPTIONS, flags) },
    train: givenFlags(TRAIN_OPTIONS, flags),
    data: { ...givenFlags(DATA_OPTIONS, flags), ...(data === undefined ? {} : { path: dataPlace(data) }) },
    out: givenFlags(OUT_OPTIONS, flags),
  };
  return [given, ...labels];
}
