/**
 * Which problems a model has: its programs are recorded on a device that only counts, with a tuning that notes what it is asked for.
 * So the list comes from the code that runs, and no list of shapes is kept anywhere.
 */
import { casesOf, SQUARE_SIDE } from '../bench/cases.ts';
import { throwIfAborted } from '../engine/abort.ts';
import { dryEngine } from '../engine/dry-device.ts';
import type { Engine } from '../engine/engine.ts';
import { LimitError } from '../engine/errors.ts';
import { record } from '../engine/program.ts';
import { type ShapeClass, shapeKey } from '../engine/tuning.ts';
import { contracts } from '../kernels/registry.ts';
import { Autoencoder } from '../model/autoencoder/autoencoder.ts';
import { type AutoencoderNetwork, HALVES } from '../model/autoencoder/network.ts';
import { allowedLengths, type ModelConfig, tokenCount } from '../model/config.ts';
import { paramLayout, zeroParams } from '../model/params.ts';
import { ResidentModel, type Storing } from '../model/weights/residency.ts';
import { usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { parseTrainConfig, TRAIN_DEFAULTS } from '../training/config.ts';
import { createState } from '../training/state.ts';
import { TrainStep } from '../training/step.ts';
import { runTrial } from './fingerprint.ts';
import type { TuningProblem } from './problem.ts';

/** What a model is used for. */
export interface ProblemOptions extends Storing {
  /** Default: both. */
  readonly sampling?: boolean;
  readonly training?: boolean;
  readonly signal?: AbortSignal;
}

/** The smallest in which something learns time consistency and something length consistency: shapes hold no number of samples. */
const SMALLEST_BATCH = TRAIN_DEFAULTS.timeEvery;

/**
 * The problems of a model: of sampling at every allowed number of blocks, guided and not, with modulations ahead and without, with the
 * weights and activations stored as asked; and of a training step, where the adapter's limits allow one. Needs no weights and allocates nothing on the GPU.
 * @throws ConfigError for activations that the model cannot have; InterruptedError.
 */
export async function problemsOf(
  engine: Engine,
  config: ModelConfig,
  { precision, activations, sampling = true, training = true, signal }: ProblemOptions = {},
): Promise<TuningProblem[]> {
  const { dry, found } = noting(engine, tokenCount(config));
  const layout = paramLayout(config);
  if (sampling) {
    const source = { layout, bytesOf: () => 0, read: async () => new Float32Array(0) };
    for (const ahead of [false, true]) {
      const model = new ResidentModel(dry, config, source, { precision, activations, dry: true });
      const sampler = new Sampler(dry, model, { batch: 1, ahead });
      for (const blocks of allowedLengths(config)) {
        // A model without classes is never guided.
        for (const guidance of config.unconditional ? [0] : [1, 2]) {
          throwIfAborted(signal, 'recording the model was interrupted');
          await sampler.sample({ labels: usualLabels(config, 1), steps: 1, blocks, guidance });
        }
      }
      sampler.dispose();
    }
  }
  throwIfAborted(signal, 'recording the model was interrupted');
  if (training) {
    try {
      const state = createState(dry, { params: zeroParams(layout) });
      (await TrainStep.create(dry, config, parseTrainConfig({ batch: SMALLEST_BATCH }), state)).dispose();
    } catch (error) {
      // What this adapter cannot train needs no tuning for that.
      if (!(error instanceof LimitError)) throw error;
    }
  }
  dry.dispose();
  return [...found.values()];
}

/** Latents of this side, on which an autoencoder is recorded; pictures of as many pixels are timed. */
const SIDE = 32;

/**
 * The problems of an autoencoder: of its halves, with the weights stored as asked. Needs no weights and allocates nothing on the GPU.
 * @throws InterruptedError; LimitError where the adapter can bind no picture of that size.
 */
export async function autoencoderProblems(
  engine: Engine,
  network: AutoencoderNetwork,
  { precision = 'f32', signal }: { precision?: 'f32' | 'f16' | undefined; signal?: AbortSignal | undefined } = {},
): Promise<TuningProblem[]> {
  const { dry, found } = noting(engine, SIDE ** 2);
  for (const half of HALVES) {
    if (!network[half]) continue;
    throwIfAborted(signal, 'recording the autoencoder was interrupted');
    const [side, channels] =
      half === 'encoder' ? [SIDE * network.factor, network.pictureChannels] : [SIDE, network.latentChannels];
    const made = new Autoencoder(dry, network, null, { precision, halves: [half] });
    await made.raw(half, { values: new Float32Array(side ** 2 * channels), shape: [1, side, side, channels] });
    made.dispose();
  }
  dry.dispose();
  return [...found.values()];
}

/**
 * The problems of the large products that GPUs are compared by (bench/cases.ts, `square`): of halves first, as matrix units are used only
 * where tuning has found them.
 */
export async function squareProblems(engine: Engine): Promise<TuningProblem[]> {
  const { dry, found } = noting(engine, SQUARE_SIDE);
  for (const c of contracts) {
    for (const k of casesOf(c, { shapes: ['square'] }))
      record(dry, c.name, (ctx) => runTrial(ctx, { contract: c, case: k }));
  }
  dry.dispose();
  const isHalf = ({ shape }: TuningProblem) => shape.weights === 'f16';
  return [...found.values()].map((problem) => ({ ...problem, uses: isHalf(problem) ? 4 : 1 }));
}

/** A device that only counts, and what kernels that are recorded on it ask tuning for. */
function noting(engine: Engine, tokens: number) {
  const found = new Map<string, TuningProblem>();
  const dry = dryEngine(engine);
  dry.tuning = {
    variant(_, family: string, shape: ShapeClass) {
      const key = shapeKey(family, shape);
      found.set(key, { family, shape, tokens, uses: (found.get(key)?.uses ?? 0) + 1 });
      return undefined;
    },
  };
  return { dry, found };
}
