/** A model's evaluation as its file carries it: the few figures that a choice of steps and blocks is made by, in the metadata. */
import { CheckpointError, ConfigError, OdeltError } from '../engine/errors.ts';
import { checkLength, type ModelConfig } from '../model/config.ts';
import { checkSolver, isAdaptive, SOLVERS, type Solver } from '../sampling/request.ts';
import type { Measured } from './measured.ts';
import type { EvaluationResults } from './results.ts';

/** Key of the evaluation in a file's metadata: a `StoredEvaluation` as JSON. */
export const EVALUATION_KEY = 'odelt.evaluation';

/** Far more than `odelt eval` has cells, and text of as many. */
const MOST_CELLS = 4096;
const MOST_TEXT = 2 ** 20;
/** Longest name of features or of an adapter, in UTF-16 units. */
const LONGEST_NAME = 200;
/** Significant digits of figures: more than their intervals bear. */
const DIGITS = 4;

/** Quality and cost of one number of steps and blocks. */
export interface StoredCell {
  readonly steps: number;
  readonly blocks: number;
  /** Fréchet distance, with its interval of 95 %. */
  readonly fd: Measured;
  /** Of the adapter that the evaluation ran on: only ratios of cells hold elsewhere. */
  readonly secondsPerSample: number;
  /** Most bytes of GPU buffers at a time, at the evaluation's batch. */
  readonly peakBytes: number;
  /** Bytes of the weights that these blocks need, as the evaluated file held them. */
  readonly bytesRead: number;
}

/** An evaluation of one solver of fixed steps at one guidance weight. */
export interface StoredEvaluation {
  /** Name of the features that pictures were compared by: distances of others cannot be compared. */
  readonly features: string;
  /** Samples of each cell; distances of other numbers cannot be compared. */
  readonly count: number;
  readonly solver: Solver;
  readonly guidance: number;
  readonly adapter: string;
  /** Day, YYYY-MM-DD. */
  readonly date: string;
  /** Fréchet distance of real pictures in the samples' place; null where there were only statistics of real pictures. */
  readonly floor: Measured | null;
  /** At least one, none twice. */
  readonly cells: readonly StoredCell[];
}

/** Told what is wrong, as what follows "the evaluation"; throws. */
type Refuse = (problem: string, cause?: unknown) => never;

const shown = (value: unknown): string =>
  typeof value === 'string' ? `'${value.slice(0, 40)}'` : typeof value === 'object' ? 'no number' : String(value);

/** Whatever `value` is, as a checked evaluation of this model; keys that are not known are left out. */
function checked(value: unknown, config: ModelConfig, refuse: Refuse): StoredEvaluation {
  const fieldsOf = (of: unknown, what: string): Readonly<Record<string, unknown>> =>
    typeof of === 'object' && of !== null && !Array.isArray(of)
      ? (of as Record<string, unknown>)
      : refuse(`has ${what} that is no object`);
  const name = (of: unknown, what: string): string =>
    typeof of === 'string' && of.length > 0 && of.length <= LONGEST_NAME
      ? of
      : refuse(`has ${what} that is no text of 1 to ${LONGEST_NAME} characters`);
  const finite = (of: unknown, what: string): number =>
    typeof of === 'number' && Number.isFinite(of)
      ? of
      : refuse(`has ${what} of ${shown(of)}, which is no finite number`);
  const positive = (of: unknown, what: string): number =>
    finite(of, what) > 0 ? (of as number) : refuse(`has ${what} of ${shown(of)}, which is not above 0`);
  const count = (of: unknown, what: string): number =>
    Number.isSafeInteger(of) && (of as number) > 0
      ? (of as number)
      : refuse(`has ${what} of ${shown(of)}, which is no positive integer`);
  const measured = (of: unknown, what: string): Measured => {
    const { value, low, high } = fieldsOf(of, what);
    const found = { value: finite(value, what), low: finite(low, what), high: finite(high, what) };
    if (found.low > found.high) refuse(`has ${what} from ${found.low} to ${found.high}`);
    return found;
  };

  const found = fieldsOf(value, 'JSON');
  const solver = SOLVERS.find((one) => one === found.solver);
  if (solver === undefined || isAdaptive(solver))
    return refuse(`has a solver ${shown(found.solver)}, which is none of fixed steps`);
  const cellOf = (of: unknown, index: number): StoredCell => {
    const what = `cell ${index}`;
    const fields = fieldsOf(of, what);
    const steps = count(fields.steps, `${what}: a number of steps`);
    const blocks = count(fields.blocks, `${what}: a number of blocks`);
    try {
      checkSolver({ solver, steps }, config);
      checkLength(config, blocks);
    } catch (cause) {
      refuse(`has ${what} of another model${cause instanceof OdeltError ? `: ${cause.message}` : ''}`, cause);
    }
    return {
      ...{ steps, blocks, fd: measured(fields.fd, `${what}: a distance`) },
      secondsPerSample: positive(fields.secondsPerSample, `${what}: seconds`),
      peakBytes: count(fields.peakBytes, `${what}: peak bytes`),
      bytesRead: count(fields.bytesRead, `${what}: bytes to read`),
    };
  };
  const { cells, date } = found;
  if (!Array.isArray(cells) || cells.length === 0) return refuse('has no list of cells');
  if (cells.length > MOST_CELLS) refuse(`has ${cells.length} cells; ${MOST_CELLS} are allowed`);
  if (typeof date !== 'string' || !/^\d{4}-\d\d-\d\d$/.test(date) || Number.isNaN(Date.parse(date)))
    return refuse(`has a date ${shown(date)}, which is none like 2026-01-31`);
  const evaluation = {
    features: name(found.features, 'a name of features'),
    count: count(found.count, 'a count'),
    ...{ solver, guidance: finite(found.guidance, 'a guidance') },
    adapter: name(found.adapter, "an adapter's name"),
    date,
    floor: found.floor === null ? null : measured(found.floor, 'a floor'),
    cells: cells.map(cellOf),
  };
  const keys = evaluation.cells.map(({ steps, blocks }) => `T=${steps} L=${blocks}`);
  const twice = keys.find((key, i) => keys.indexOf(key) < i);
  if (twice !== undefined) refuse(`has ${twice} twice`);
  return evaluation;
}

const rounded = (value: number): number => Number(value.toPrecision(DIGITS));
const roundedMeasured = ({ value, low, high }: Measured): Measured => ({
  value: rounded(value),
  low: rounded(low),
  high: rounded(high),
});

/**
 * What a model's file keeps of its evaluation, figures rounded to four digits. Of several guidance weights and solvers of fixed
 * steps it keeps the one that has the lowest distance: a file's choices are for one way to sample. `date` is the day, YYYY-MM-DD;
 * `name` what the results are called in messages.
 * @throws ConfigError for results without cells of fixed steps, or that are not this model's by their steps, blocks or form
 */
export function storedEvaluation(
  { cells, floor, provenance }: EvaluationResults,
  config: ModelConfig,
  date: string,
  name = 'the results',
): StoredEvaluation {
  const refuse: Refuse = (problem, cause) => {
    throw new ConfigError(`${name} cannot be kept in a model's file: the evaluation ${problem}`, {
      cause,
      hint: 'give results.json as `odelt eval` of this model wrote it',
    });
  };
  // What a step of them costs here follows from no other cell's; and sampling tells the solver's own level.
  const fixed = cells.filter(
    ({ steps, along, refresh, level }) => steps !== null && !along && !refresh && level === undefined,
  );
  if (fixed.length === 0) refuse("has no cells of fixed steps and blocks at the solver's own level");
  const malformed = [...fixed, ...(floor ? [floor] : [])].find(({ fd }) => typeof fd?.value !== 'number');
  if (malformed) refuse('has a cell or a floor without a distance');
  if (fixed.some(({ fd }) => fd.low === null))
    refuse('has distances without intervals: evaluate with --replicates of 2 or more');
  const best = fixed.reduce((a, b) => (b.fd.value < a.fd.value ? b : a));
  const kept = fixed.filter(({ solver, guidance }) => solver === best.solver && guidance === best.guidance);
  const { features, samples, adapter } = provenance;
  const raw = {
    ...{ features: features?.name, count: samples, solver: best.solver, guidance: best.guidance },
    ...{ adapter: typeof adapter === 'string' ? adapter.slice(0, LONGEST_NAME) : adapter, date },
    floor: floor ? floor.fd : null,
    cells: kept,
  };
  const evaluation = checked(raw, config, refuse);
  return {
    ...evaluation,
    floor: evaluation.floor && roundedMeasured(evaluation.floor),
    cells: evaluation.cells.map(({ steps, blocks, fd, secondsPerSample, peakBytes, bytesRead }) => ({
      ...{ steps, blocks, fd: roundedMeasured(fd), secondsPerSample: rounded(secondsPerSample) },
      ...{ peakBytes: rounded(peakBytes), bytesRead: rounded(bytesRead) },
    })),
  };
}

/** The metadata that keep an evaluation; `modelContents` takes them as `extra`. */
export const evaluationMetadata = (evaluation: StoredEvaluation): Record<string, string> => ({
  [EVALUATION_KEY]: JSON.stringify(evaluation),
});

/**
 * The evaluation that a model's file carries; undefined where there is none. Keys that are not known are ignored; names are as the
 * file has them: escape them before they are shown.
 * @throws CheckpointError for anything but a whole evaluation whose cells the model can run
 */
export function evaluationOf(
  { metadata, config }: { readonly metadata: ReadonlyMap<string, string>; readonly config: ModelConfig },
  file: string,
): StoredEvaluation | undefined {
  const text = metadata.get(EVALUATION_KEY);
  if (text === undefined) return undefined;
  const refuse: Refuse = (problem, cause) => {
    throw new CheckpointError(`${file}: its evaluation (metadata '${EVALUATION_KEY}') ${problem}`, {
      cause,
      hint: 'the file is damaged, or was written by something else: fetch or write it again',
    });
  };
  if (text.length > MOST_TEXT) refuse(`has ${text.length} characters; ${MOST_TEXT} are allowed`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return refuse('is no JSON', cause);
  }
  return checked(json, config, refuse);
}

/** "24 cells, FD of 5,000 samples by classifier features, euler, w=1, 2026-01-31". */
export const describeEvaluation = ({ cells, count, features, solver, guidance, date }: StoredEvaluation): string =>
  `${cells.length} cells, FD of ${count.toLocaleString('en')} samples by ${features} features, ${solver}, w=${guidance}, ${date}`;
