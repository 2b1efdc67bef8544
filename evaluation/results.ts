/** What an evaluation gives, as plain data: cells, the floor, nearest pictures, provenance; read again, compared, and as tables. */
import { ConfigError } from '../engine/errors.ts';
import { type BlocksFrom, describeBlocks, type Refresh } from '../sampling/blocks.ts';
import type { KernelDistance } from './kernel-distance.ts';
import type { Manifold } from './manifold.ts';
import type { Figure, Measured, Share } from './measured.ts';

/** How samples were drawn. */
export interface CellKey {
  /** null: an adaptive solver's, which chooses its own. */
  readonly steps: number | null;
  /** Of an adaptive solver. */
  readonly tolerance?: number;
  /** The largest number where it changes along the way, that of the steps between where others refresh it. */
  readonly blocks: number;
  /** Numbers of blocks by time, where they change. */
  readonly along?: readonly BlocksFrom[];
  /** More blocks in some steps, whose further ones the others reuse. */
  readonly refresh?: Refresh;
  readonly guidance: number;
  readonly solver: string;
  /** Step level that the network was told, where it was not the solver's own. */
  readonly level?: number;
}

type OrNull<T> = { readonly [Key in keyof T]: T[Key] | null };

/** How far a set of pictures is from the reference; null where there are no real pictures, but only their statistics. */
export interface Distances extends OrNull<Manifold> {
  /** Fréchet distance; its interval is null where no sets were resampled. */
  readonly fd: Figure;
  /** Kernel distance. */
  readonly kid: KernelDistance | null;
}

/** Quality and cost of one way to draw. */
export interface Cell extends CellKey, Distances {
  /** Fréchet distances of resampled sets, in which sample n is as often as in those of the other cells: differences of cells are made of them. */
  readonly resampled?: readonly number[];
  /** Share of samples that their nearest real pictures take for the class asked for; null where none was asked for. */
  readonly agreement: Share | null;
  /** Without compiling and without the time of the figures. */
  readonly secondsPerSample: number;
  /** Most bytes of GPU buffers at a time. */
  readonly peakBytes: number;
  /** Bytes of the weights that these blocks need, as the file holds them. */
  readonly bytesRead: number;
  /** Evaluations of the network for a sample. */
  readonly evaluations: number;
  /** Of an adaptive solver: steps for a sample, on average. */
  readonly accepted?: number;
  readonly rejected?: number;
}

/** Real pictures in the samples' place: what no model gets below. */
export interface Floor extends Distances {
  readonly how: string;
  /** Pictures that stand for samples, and those that they are compared with. */
  readonly count: number;
  readonly of: number;
  /** Present where `fd` is the mean over so many choices of these pictures, and its interval the middle 95 % of them. */
  readonly splits?: number;
  /** Share of these pictures that the network takes for the class that they have, where it judges. */
  readonly agreement?: Share;
}

/** How far a cell's samples are from the nearest real pictures. */
export interface NearestCell extends CellKey {
  /** Distances at the quantiles. */
  readonly distances: readonly number[];
  /** Probability of being nearer than a held-out picture. */
  readonly nearer: Measured;
}

/** Distances to the nearest real picture, of held-out pictures and of samples. */
export interface Nearest {
  readonly quantiles: readonly number[];
  readonly heldOut: readonly number[];
  readonly cells: readonly NearestCell[];
}

/** What pictures were compared by. */
export interface FeatureRecord {
  readonly name: string;
  readonly width: number;
  /** SHA-256 of what they are: of a network its file's, else of name, width, shape of the pictures, and what they were made of. */
  readonly digest: string;
  /** What Fréchet distances of them are called, where it is not FD. */
  readonly distance?: 'FID';
  /** Present where class agreement is the network's judgement, not that of the nearest real pictures. */
  readonly judges?: true;
}

/** What was evaluated, and how: results of other settings are not comparable. */
export interface Provenance {
  /** SHA-256 of the weights. */
  readonly model: string;
  /** Of a model of latents: SHA-256 of the decoder's parameters. */
  readonly decoder?: string;
  /** 'ema' or 'raw'. */
  readonly weights: string;
  readonly seed: number;
  /** Samples of each cell. */
  readonly samples: number;
  /** Samples computed at once. */
  readonly batch: number;
  readonly features: FeatureRecord;
  /** Real pictures: their name, and SHA-256 of pixels and labels of each part. */
  readonly data: { readonly name: string; readonly digests: readonly string[] };
  readonly adapter: string;
  /** Version of odelt. */
  readonly odelt: string;
  /** Who did the linear algebra: recorded, not compared. */
  readonly linearAlgebra: string;
  /** Shards that the samples were drawn in: recorded, not compared. */
  readonly shards?: number;
  /** Of the runtime: recorded, not compared. */
  readonly versions: Readonly<Record<string, string>>;
}

/** All that an evaluation gives. */
export interface EvaluationResults {
  readonly cells: readonly Cell[];
  /** When the last cell was made, ISO 8601 in UTC; absent in results of earlier versions, as is the next. */
  readonly date?: string;
  /** The cells that none is better and cheaper than. */
  readonly pareto?: Pareto;
  /** How far the cells are behind the best one; absent where none has resampled sets. */
  readonly behind?: BehindBest;
  readonly floor: Floor | null;
  readonly nearest: Nearest | null;
  /** Figures that are null throughout, as there were no real pictures, but only their statistics. */
  readonly notComputed?: readonly string[];
  readonly provenance: Provenance;
}

/** A cell of a front: what it costs, and how good it is. */
export interface ParetoPoint extends CellKey {
  readonly cost: number;
  readonly fd: Figure;
  /** By how much its distance is below that of the point before, samples being paired. */
  readonly gain?: Measured;
}

/** For every cost the best that it buys, ascending, from the cheapest cell to the best one. */
export interface Pareto {
  /** By seconds for a sample. */
  readonly seconds: readonly ParetoPoint[];
  /** By the peak of GPU bytes. */
  readonly bytes: readonly ParetoPoint[];
}

/** By how much a cell's Fréchet distance is above that of the best, with the interval of the difference, samples being paired. */
export interface BehindCell extends CellKey {
  readonly behind: Measured;
}

/** All cells beside the one of the lowest distance. */
export interface BehindBest {
  readonly best: CellKey;
  readonly cells: readonly BehindCell[];
}

/** How a cell was drawn, without its figures. */
export const keyOf = ({ steps, tolerance, blocks, along, refresh, guidance, solver, level }: CellKey): CellKey => ({
  ...{ steps, ...(tolerance === undefined ? {} : { tolerance }), blocks },
  ...{ ...(along ? { along } : {}), ...(refresh ? { refresh } : {}), guidance, solver },
  ...(level === undefined ? {} : { level }),
});

/** Two cells are the same way to draw. */
export const sameCell = (a: CellKey, b: CellKey): boolean =>
  a.steps === b.steps &&
  a.tolerance === b.tolerance &&
  a.blocks === b.blocks &&
  a.guidance === b.guidance &&
  a.solver === b.solver &&
  sameWay(a, b);

const way = ({ along, refresh, level }: CellKey): string =>
  `${along ? describeBlocks(along) : ''} ${refresh ? `${refresh.blocks}:${refresh.every}` : ''} ${level ?? ''}`;
const sameWay = (a: CellKey, b: CellKey): boolean => way(a) === way(b);

/** "8", "4@0,12@0.5", or "4 refresh 12:2": how many blocks a cell runs. */
export const describeDepth = ({ blocks, along, refresh }: Pick<CellKey, 'blocks' | 'along' | 'refresh'>): string =>
  `${describeBlocks(along ?? blocks)}${refresh ? ` refresh ${refresh.blocks}:${refresh.every}` : ''}`;

/** " level 0" where the network was told a level that is not the solver's own, else nothing. */
export const describeLevel = ({ level }: Pick<CellKey, 'level'>): string =>
  level === undefined ? '' : ` level ${level}`;

/** The order of a table: by weight, then blocks, then from coarse to fine. */
export const compareCells = (a: CellKey, b: CellKey): number =>
  a.guidance - b.guidance ||
  a.blocks - b.blocks ||
  (a.steps ?? 0) - (b.steps ?? 0) ||
  (b.tolerance ?? 0) - (a.tolerance ?? 0) ||
  way(a).localeCompare(way(b), 'en', { numeric: true });

/** In words, as progress and plots name it. */
export const describeCell = (key: CellKey): string => {
  const { steps, tolerance, guidance, solver } = key;
  return `${steps === null ? `tol=${tolerance}` : `T=${steps}`} L=${describeDepth(key)} w=${guidance}${solver === 'euler' ? '' : ` ${solver}`}${describeLevel(key)}`;
};

/** Results that were written as JSON. @throws ConfigError for what are none; `name` is the file, and `hint` the remedy, for the message. */
export function parseResults(
  text: string,
  name: string,
  hint = 'give another folder, or move that file away',
): EvaluationResults {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${name} is no JSON`, { cause, hint });
  }
  const { cells, floor, nearest, provenance } = (json ?? {}) as Partial<Record<keyof EvaluationResults, unknown>>;
  const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
  const isCell = (value: unknown) =>
    isObject(value) &&
    ['steps', 'blocks', 'guidance', 'solver', 'fd', 'secondsPerSample'].every((key) => key in value) &&
    (!('resampled' in value) || (Array.isArray(value.resampled) && value.resampled.every(Number.isFinite)));
  const whole =
    Array.isArray(cells) &&
    cells.every(isCell) &&
    [floor, nearest].every((value) => value === null || isObject(value)) &&
    isObject(provenance) &&
    (nearest === null || Array.isArray((nearest as Partial<Nearest>).cells));
  if (!whole) throw new ConfigError(`${name} does not hold the results of an evaluation`, { hint });
  return json as EvaluationResults;
}

/** What must be the same for cells to stand in one table, and how an error calls it. */
const COMPARED: Readonly<Partial<Record<keyof Provenance, string>>> = {
  model: 'the model',
  decoder: '--decode',
  weights: '--weights',
  seed: '--seed',
  samples: '--count',
  batch: '--batch',
  features: '--features',
  data: '--data',
  adapter: 'the adapter',
  odelt: 'the version of odelt',
};

/**
 * `others` says whose settings `now` are, if they are not those of this run.
 * @throws ConfigError, naming all that differs, unless results in the file `name` were made with these settings
 */
export function checkSameSettings(before: Provenance, now: Provenance, name: string, others?: string): void {
  const between = others === undefined ? 'now ' : '';
  const short = (value: unknown) => {
    const text = typeof value === 'object' && value !== null ? (value as { name?: string }).name : value;
    return typeof text === 'string' && /^[0-9a-f]{64}$/.test(text) ? `${text.slice(0, 12)}...` : String(text);
  };
  const different = Object.entries(COMPARED).flatMap(([key, called]) => {
    const [a, b] = [before, now].map((provenance) => provenance[key as keyof Provenance]);
    if (JSON.stringify(a) === JSON.stringify(b)) return [];
    return [short(a) === short(b) ? `${called}: other contents` : `${called}: ${short(a)}, ${between}${short(b)}`];
  });
  if (different.length === 0) return;
  throw new ConfigError(
    `${name} has results of other settings${others === undefined ? '' : ` than ${others}`}: ${different.join('; ')}`,
    {
      hint: 'give another folder for other settings; steps, blocks, guidance, solver and level may be added to one',
    },
  );
}

const COUNTED = ['precision', 'recall', 'density', 'coverage'] as const;

/** Every figure and bound of every cell, a line each, with a head; the floor is the last line. */
export function resultsCsv({ cells, floor, nearest, behind }: EvaluationResults): string {
  const measured = ['fd', 'kid', ...COUNTED, 'agreement', 'nearer', 'behind'];
  const head = [
    ...['steps', 'tolerance', 'blocks', 'guidance', 'solver'],
    ...measured.flatMap((name) => [name, `${name}_low`, `${name}_high`]),
    ...['secondsPerSample', 'peakBytes', 'bytesRead', 'evaluations', 'accepted', 'rejected'],
    ...['along', 'refresh', 'level'],
  ];
  const three = (m: Figure | null | undefined): (number | string)[] =>
    m ? [m.value, m.low ?? '', m.high ?? ''] : ['', '', ''];
  const figures = (d: Distances) => [d.fd, d.kid, ...COUNTED.map((name) => d[name])].flatMap(three);
  const lines = cells.map((cell) => [
    ...[cell.steps ?? '', cell.tolerance ?? '', cell.blocks, cell.guidance, cell.solver],
    ...figures(cell),
    ...three(cell.agreement),
    ...three(nearest?.cells.find((other) => sameCell(other, cell))?.nearer),
    ...three(behind?.cells.find((other) => sameCell(other, cell))?.behind),
    ...[cell.secondsPerSample, cell.peakBytes, cell.bytesRead, cell.evaluations],
    ...[cell.accepted ?? '', cell.rejected ?? ''],
    // Lists have no commas of their own in this table.
    ...[cell.along ? describeBlocks(cell.along).replaceAll(',', ' ') : ''],
    ...[cell.refresh ? `${cell.refresh.blocks}:${cell.refresh.every}` : '', cell.level ?? ''],
  ]);
  const last = floor
    ? [[...['', '', '', '', 'real pictures'], ...figures(floor), ...three(floor.agreement), ...Array(15).fill('')]]
    : [];
  return `${[head, ...lines, ...last].map((line) => line.join(',')).join('\n')}\n`;
}

/** Three digits, or what is right of the point where there are more. */
const digits = (value: number): string =>
  Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) < 0.001 ? value.toFixed(4) : value.toPrecision(3);

/** `4.93 (4.61 to 5.27)`; without an interval `4.93`. */
export const describeMeasured = ({ value, low, high }: Figure): string =>
  low === null || high === null ? digits(value) : `${digits(value)} (${digits(low)} to ${digits(high)})`;

/** The results as cells of a table, with a head. */
export function resultRows({ cells, floor, nearest, behind, provenance }: EvaluationResults): string[][] {
  const distance = provenance.features.distance ?? 'FD';
  const costs = ['s/sample', 'peak MB', 'read MB'];
  const head = ['L', 'T', 'w', distance, 'behind the best', 'KID', ...COUNTED, 'agreement', 'nearer', ...costs];
  const said = (m: Figure | null | undefined) => (m ? describeMeasured(m) : '');
  const howFar = (cell: Cell) =>
    behind && sameCell(cell, behind.best) ? 'best' : said(behind?.cells.find((other) => sameCell(other, cell))?.behind);
  const figures = (d: Distances) => [d.kid, ...COUNTED.map((name) => d[name])].map(said);
  const several = new Set(cells.map(({ solver }) => solver)).size > 1;
  const steps = (cell: Cell) =>
    cell.steps === null
      ? `${cell.accepted?.toFixed(1)} at ${cell.tolerance} (${cell.evaluations.toFixed(1)} evaluations)`
      : String(cell.steps);
  const rows = cells.map((cell) => [
    describeDepth(cell),
    `${steps(cell)}${several ? ` ${cell.solver}` : ''}${describeLevel(cell)}`,
    String(cell.guidance),
    ...[said(cell.fd), howFar(cell)],
    ...figures(cell),
    said(cell.agreement),
    said(nearest?.cells.find((other) => sameCell(other, cell))?.nearer),
    digits(cell.secondsPerSample),
    (cell.peakBytes / 1e6).toFixed(1),
    (cell.bytesRead / 1e6).toFixed(2),
  ]);
  return [
    head,
    ...rows,
    ...(floor ? [['real', '', '', said(floor.fd), '', ...figures(floor), said(floor.agreement), '', '', '', '']] : []),
  ];
}
