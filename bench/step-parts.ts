/** The parts of a training step from what `odelt bench model` saved: for the model that it measured, or scaled by arithmetic to another. */
import { ConfigError } from '../engine/errors.ts';
import { type ModelConfig, parseModelConfig, tokenCount } from '../model/config.ts';
import { paramLayout } from '../model/params.ts';
import type { StepParts } from './step-time.ts';

/** Of a saved report, what is read here. */
interface Saved {
  readonly model: string;
  readonly config: ModelConfig;
  readonly adapter: { readonly name: string; readonly kind: string };
  readonly results: readonly {
    readonly what: string;
    readonly batch: number;
    readonly seconds: { readonly median: number };
  }[];
  readonly training: readonly SavedTraining[];
}

interface SavedTraining {
  readonly batch: number;
  readonly ragged: { readonly median: number };
  readonly parts: readonly { readonly name: string; readonly ragged: { readonly seconds: number } }[];
}

/** Where parts come from, in words. */
export interface MeasuredParts {
  readonly parts: Omit<StepParts, 'transfer'>;
  readonly from: string;
}

/** Multiplications and additions of the blocks' forward pass of one sample: products and attention. */
export function blockWork(config: ModelConfig): number {
  const { width, depth, mlpRatio } = config;
  const tokens = tokenCount(config);
  return depth * (2 * tokens * width ** 2 * (4 + 2 * mlpRatio) + 4 * tokens ** 2 * width);
}

/** @throws ConfigError for what `odelt bench model --save` did not write, or wrote without training */
export function readSaved(text: string, name: string): Saved {
  const refuse = (why: string): never => {
    throw new ConfigError(`${name} ${why}`, {
      hint: 'odelt bench model --save writes such files; train batches must be among what it measures',
    });
  };
  let json: Partial<Saved> | null;
  try {
    json = JSON.parse(text) as Partial<Saved> | null;
  } catch {
    return refuse('is no JSON');
  }
  const { config, training, results, adapter } = json ?? {};
  const timed = (t: Partial<SavedTraining>) =>
    Number.isInteger(t?.batch) && Number(t?.ragged?.median) > 0 && Array.isArray(t?.parts);
  if (!config || !Array.isArray(training) || !Array.isArray(results) || !adapter)
    return refuse('holds no measured model');
  if (training.length === 0 || !training.every(timed)) return refuse('has no training steps');
  return { ...(json as Saved), config: parseModelConfig(config) };
}

/**
 * Parts of a step of `config`, as the report's adapter computes them. Time by rows needs two batches; of one, the share that does not grow
 * is that of "block and backward". Another model's: what grows by its arithmetic, the rest by its blocks.
 * @throws ConfigError for a report that does not say
 */
export function partsOf(saved: Saved, config: ModelConfig): MeasuredParts {
  const { training, config: own, adapter } = saved;
  const last = training.reduce((most, t) => (t.batch > most.batch ? t : most));
  const { fixed, perRow, how } = byRows(saved);
  const total = last.parts.reduce((sum, { ragged }) => sum + ragged.seconds, 0);
  const share = (part: string) =>
    last.parts.filter(({ name }) => name.startsWith(`${part}:`)).reduce((sum, { ragged }) => sum + ragged.seconds, 0) /
    total;
  const [work, blocks] = [blockWork(config) / blockWork(own), config.depth / own.depth];
  const same = work === 1 && blocks === 1;
  return {
    parts: {
      ...{ fixed: fixed * blocks, perRow: perRow * work },
      ...{ backward: share('backward'), update: share('update') },
      bytes: 4 * paramLayout(config).count,
      overlap: adapter.kind === 'gpu',
    },
    from: `${saved.model} on ${adapter.name}, ${how}${same ? '' : `; time of a row times ${work.toFixed(2)} (arithmetic of the blocks), the rest times ${blocks.toFixed(2)} (blocks)`}`,
  };
}

function byRows({ training, results }: Saved): { fixed: number; perRow: number; how: string } {
  const points = training.map(({ batch, ragged }) => ({ batch, seconds: ragged.median }));
  if (points.length > 1) {
    const line = through(points);
    return { ...line, how: `measured with ${points.map(({ batch }) => batch).join(', ')} rows` };
  }
  const [{ batch, seconds }] = points as [(typeof points)[number]];
  const blocks = results
    .filter(({ what }) => what === 'block and backward')
    .map((r) => ({ batch: r.batch, seconds: r.seconds.median }));
  if (blocks.length < 2)
    throw new ConfigError('one batch does not say what time does not grow with it', {
      hint: 'measure two: odelt bench model --train-batch 4,16 --save ...',
    });
  const line = through(blocks);
  const grows = (line.perRow * batch) / (line.fixed + line.perRow * batch);
  return {
    ...{ fixed: seconds * (1 - grows), perRow: (seconds * grows) / batch },
    how: `measured with ${batch} rows, of which ${Math.round(100 * (1 - grows))} % do not grow with them as "block and backward" has it`,
  };
}

/** The straight line nearest to points; nothing below 0. */
function through(points: readonly { readonly batch: number; readonly seconds: number }[]) {
  const mean = (of: (p: (typeof points)[number]) => number) =>
    points.reduce((sum, p) => sum + of(p), 0) / points.length;
  const [x, y] = [mean(({ batch }) => batch), mean(({ seconds }) => seconds)];
  const slope = mean((p) => (p.batch - x) * (p.seconds - y)) / mean((p) => (p.batch - x) ** 2);
  const perRow = Math.max(0, Math.min(slope, y / x));
  return { fixed: Math.max(0, y - perRow * x), perRow };
}
