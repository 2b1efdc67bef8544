/** What an ablation compares: variants of a model and of its training, and what they give, as plain data, tables and a plot. */
import { ConfigError } from '../engine/errors.ts';
import { knownNames } from '../formats/options.ts';
import { allowedLengths, fullLength, type ModelConfig, parseModelConfig } from '../model/config.ts';
import { linePlot, type Series } from '../pictures/line-plot.ts';
import { batchShares, type TrainConfig } from '../training/config.ts';
import { barOf, type Figure } from './measured.ts';
import { type Cell, describeMeasured, type Floor, type Provenance } from './results.ts';

/** Numbers of blocks that a variant is judged at. */
export interface VariantPart {
  readonly blocks: readonly number[];
  /** Of a conventional transformer that is cut: only its first blocks are run, as many. */
  readonly first?: number;
}

/** One way to have a model of fewer blocks. */
export interface Variant {
  readonly name: string;
  /** What is other than in the method, in words. */
  readonly what: string;
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  readonly parts: readonly VariantPart[];
}

/** The method that variants are made of: a model with length wiring, and its training. */
export interface Method {
  readonly model: ModelConfig;
  readonly train: TrainConfig;
}

/** The names of all variants that make sense for a model, in the order of a table. */
export function variantNames({ model }: Method): string[] {
  const lengths = allowedLengths(model);
  const groups = [1, 2, 4].filter((group) => group !== model.lengths?.group && fits(model, group));
  return [
    ...['method', 'no-length', 'full-target', 'cut'],
    ...lengths.slice(0, -1).map((blocks) => `small-${blocks}`),
    ...groups.map((group) => `groups-${group}`),
  ];
}

/** Whether a model may run the same numbers of blocks, among others, with groups of another size. */
function fits({ lengths, depth }: ModelConfig, group: number): boolean {
  return lengths !== null && [lengths.min, lengths.group, depth].every((blocks) => blocks % group === 0);
}

/** The variant of that name. @throws ConfigError for a name that is none for this model, and for what is the method itself */
export function variantOf(name: string, method: Method): Variant {
  const { model, train } = method;
  const { lengths, depth } = model;
  const all = allowedLengths(model);
  if (!lengths || all.length < 2) {
    throw new ConfigError(`the model runs ${all.join()} blocks and no other number: there is nothing to compare`, {
      hint: 'give model.lengths, such as --set model.lengths.min=4, and a model.depth above it',
    });
  }
  const whole: VariantPart[] = [{ blocks: all }];
  const unwired = (blocks: number) => parseModelConfig({ ...model, depth: blocks, lengths: null });
  const [, kind, number] = /^(small|groups)-([1-9]\d{0,3})$/.exec(name) ?? [];
  const n = Number(number);
  const made = (what: string, parts: readonly VariantPart[], changed: Partial<Method>): Variant => {
    const variant = { name, what, ...method, ...changed, parts };
    const same = JSON.stringify([variant.model, variant.train]) === JSON.stringify([model, train]);
    if (name === 'method' || !same) return variant;
    throw new ConfigError(`the variant ${name} is the method itself with these settings`, { hint: 'leave it out' });
  };
  if (name === 'method') return made('length wiring, trained with length consistency at drawn targets', whole, {});
  if (name === 'no-length')
    return made('no row learns length consistency; numbers of blocks are drawn all the same', whole, {
      train: { ...train, lengthEvery: 0 },
    });
  if (name === 'full-target')
    return made('length targets are of all blocks', whole, { train: { ...train, lengthTarget: 'full' } });
  if (name === 'cut') {
    const shorter = all.slice(0, -1).map((blocks) => ({ blocks: [blocks], first: blocks }));
    return made(
      `a conventional transformer of ${depth} blocks, of which sampling leaves out the last`,
      [...shorter, { blocks: [depth] }],
      {
        model: unwired(depth),
      },
    );
  }
  if (kind === 'small' && all.slice(0, -1).includes(n))
    return made(`a conventional transformer of ${n} blocks, trained by itself`, [{ blocks: [n] }], {
      model: unwired(n),
    });
  if (kind === 'groups' && fits(model, n))
    return made(`groups of ${n}`, whole, { model: { ...model, lengths: { ...lengths, group: n } } });
  throw new ConfigError(`there is no variant '${name}' of this model`, {
    hint: knownNames(name, variantNames(method)),
  });
}

/** Forward passes of one block that a sample of training is worth: what the time left is estimated by. */
export function workOfSample({ model, train }: Method): number {
  const lengths = allowedLengths(model);
  const mean = lengths.reduce((sum, blocks) => sum + blocks, 0) / lengths.length;
  const { timePairs, lengthRows } = batchShares(train, model);
  // Backward is worth two forward passes; time targets are two, of all blocks.
  return 3 * mean + (2 * timePairs * fullLength(model) + lengthRows * mean) / train.batch;
}

/** What an ablation is, apart from its variants and seeds: results of other settings are not comparable. */
export interface AblationSettings extends Omit<Provenance, 'model' | 'linearAlgebra' | 'versions' | 'shards'> {
  readonly method: { readonly model: ModelConfig; readonly train: Omit<TrainConfig, 'seed'> };
  /** SHA-256 of the pictures that are trained on, and of their labels. */
  readonly trainedOn: { readonly pixels: string; readonly labels: string };
  /** T of sampling. */
  readonly steps: number;
  readonly guidance: number;
}

/** A figure of a run at one number of blocks. */
export type AblationCell = Pick<Cell, 'blocks' | 'fd' | 'secondsPerSample' | 'peakBytes' | 'bytesRead'>;

/** One variant, trained with one seed. */
export interface AblationRun {
  readonly variant: string;
  readonly seed: number;
  /** Of the run, within the folder of the ablation. */
  readonly folder: string;
  readonly parameters: number;
  /** Of all updates, as they were measured. */
  readonly trainingSeconds: number;
  readonly cells: readonly AblationCell[];
}

/** The mean over seeds at one number of blocks. */
export interface AblationMean {
  readonly variant: string;
  readonly blocks: number;
  readonly fd: number;
  /** Fréchet distance of each seed, in the order of seeds. */
  readonly seeds: readonly { readonly seed: number; readonly fd: Figure }[];
}

/** All that an ablation gives. */
export interface AblationResults {
  readonly settings: AblationSettings;
  readonly variants: readonly Pick<Variant, 'name' | 'what'>[];
  /** Runs that are done. */
  readonly runs: readonly AblationRun[];
  readonly means: readonly AblationMean[];
  readonly floor: Floor | null;
}

/** Means over the seeds of each variant at each number of blocks. */
export function ablationMeans(
  variants: readonly { readonly name: string }[],
  runs: readonly AblationRun[],
): AblationMean[] {
  return variants.flatMap(({ name }) => {
    const own = runs.filter(({ variant }) => variant === name).sort((a, b) => a.seed - b.seed);
    const blocks = [...new Set(own.flatMap(({ cells }) => cells.map((cell) => cell.blocks)))].sort((a, b) => a - b);
    return blocks.map((L) => {
      const seeds = own.flatMap(({ seed, cells }) =>
        cells.filter((cell) => cell.blocks === L).map(({ fd }) => ({ seed, fd })),
      );
      return { variant: name, blocks: L, fd: seeds.reduce((sum, { fd }) => sum + fd.value, 0) / seeds.length, seeds };
    });
  });
}

const columnsOf = ({ means }: AblationResults): number[] =>
  [...new Set(means.map(({ blocks }) => blocks))].sort((a, b) => a - b);

/** A line for each variant, seed and number of blocks, with a head; the floor is the last line. */
export function ablationCsv({ runs, floor }: AblationResults): string {
  const head = 'variant,seed,blocks,fd,fd_low,fd_high,secondsPerSample,peakBytes,bytesRead,parameters,trainingSeconds';
  const lines = runs.flatMap(({ variant, seed, cells, parameters, trainingSeconds }) =>
    cells.map(({ blocks, fd, secondsPerSample, peakBytes, bytesRead }) =>
      [
        ...[variant, seed, blocks, fd.value, fd.low ?? '', fd.high ?? '', secondsPerSample, peakBytes, bytesRead],
        ...[parameters, trainingSeconds],
      ].join(','),
    ),
  );
  const last = floor ? [`real pictures,,,${floor.fd.value},${floor.fd.low ?? ''},${floor.fd.high ?? ''},,,,,`] : [];
  return `${[head, ...lines, ...last].join('\n')}\n`;
}

const short = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** A table with a head: for each variant and number of blocks the mean over seeds, and in brackets that of each seed. */
export function ablationRows(results: AblationResults): string[][] {
  const columns = columnsOf(results);
  const rows = results.variants
    .filter(({ name }) => results.means.some(({ variant }) => variant === name))
    .map(({ name }) => [
      name,
      ...columns.map((L) => {
        const mean = results.means.find(({ variant, blocks }) => variant === name && blocks === L);
        if (!mean) return '';
        const { fd, seeds } = mean;
        return seeds.length > 1 ? `${short(fd)} (${seeds.map((each) => short(each.fd.value)).join(', ')})` : short(fd);
      }),
    ]);
  return [['variant', ...columns.map((L) => `L=${L}`)], ...rows];
}

/** The same for each run by itself, with intervals. */
export function ablationRunRows(results: AblationResults): string[][] {
  const columns = columnsOf(results);
  return [
    ['variant', 'seed', 'parameters', 'training', ...columns.map((L) => `L=${L}`)],
    ...results.runs.map(({ variant, seed, parameters, trainingSeconds, cells }) => [
      variant,
      String(seed),
      parameters.toLocaleString('en'),
      `${trainingSeconds.toFixed(0)} s`,
      ...columns.map((L) => {
        const cell = cells.find(({ blocks }) => blocks === L);
        return cell ? describeMeasured(cell.fd) : '';
      }),
    ]),
  ];
}

/** Fréchet distance against blocks as SVG: a line for each variant, separate models in one, with each seed's interval beside it. */
export function ablationPlot({ variants, means, floor, settings }: AblationResults): string {
  const lines = new Map<string, AblationMean[]>();
  for (const { name } of variants) {
    const line = name.startsWith('small-') ? 'small (separate models)' : name;
    const own = means.filter(({ variant }) => variant === name);
    if (own.length > 0) lines.set(line, [...(lines.get(line) ?? []), ...own]);
  }
  const columns = [...new Set(means.map(({ blocks }) => blocks))].sort((a, b) => a - b);
  const gap = columns.length > 1 ? Math.min(...columns.slice(1).map((L, i) => L - columns[i]!)) : 1;
  // Side by side, so that bars do not hide each other.
  const aside = (index: number, seed: number) => (0.06 * (index - (lines.size - 1) / 2) + 0.015 * (seed + 1)) * gap;
  const series: Series[] = [...lines].map(([name, points], index) => ({
    name,
    x: points.map(({ blocks }) => blocks + aside(index, -1)),
    y: points.map(({ fd }) => fd),
    whiskers: points.flatMap(({ blocks, seeds }) =>
      seeds.map(({ fd }, s) => ({ x: blocks + aside(index, s), ...barOf(fd) })),
    ),
  }));
  const ends = [columns[0]! - 0.3 * gap, columns.at(-1)! + 0.3 * gap];
  const real = floor ? [{ name: 'real pictures', x: ends, y: [floor.fd.value, floor.fd.value] }] : [];
  return linePlot({
    title: `Fréchet distance of variants at T=${settings.steps}`,
    x: { label: 'blocks L' },
    y: { label: `Fréchet distance, ${settings.features.name}`, log: true },
    series: [...series, ...real],
  });
}

/** How an error calls settings, where not by their names. */
const CALLED: Readonly<Record<string, string>> = {
  samples: '--count',
  features: '--features',
  data: '--data',
  trainedOn: 'pictures to train on',
};

/** @throws ConfigError, naming all that differs, unless results in the file `name` were made with these settings */
export function checkSameAblation(before: AblationSettings, now: AblationSettings, name: string): void {
  const spread = ({ method, ...rest }: AblationSettings): Record<string, unknown> => ({
    ...Object.fromEntries(Object.entries(method.model).map(([key, value]) => [`model.${key}`, value])),
    ...Object.fromEntries(Object.entries(method.train).map(([key, value]) => [`training.${key}`, value])),
    ...rest,
  });
  const [a, b] = [spread(before), spread(now)];
  const text = (value: unknown) =>
    typeof value === 'object' && value !== null && 'name' in value ? String(value.name) : JSON.stringify(value);
  const different = [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => {
    if (JSON.stringify(a[key]) === JSON.stringify(b[key])) return [];
    const called = CALLED[key] ?? key;
    const [x, y] = [text(a[key]), text(b[key])];
    return [x === y || key === 'trainedOn' ? `${called}: other contents` : `${called}: ${x}, now ${y}`];
  });
  if (different.length === 0) return;
  throw new ConfigError(`${name} has an ablation of other settings: ${different.join('; ')}`, {
    hint: 'give another folder for other settings; variants and seeds may be added to one',
  });
}
