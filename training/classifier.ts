/**
 * Trains a classifier (model/classifier.ts): cross-entropy, AdamW, a moving average of the weights, which is what is kept. One recorded
 * program is one update. Knows nothing of files: who drives it saves what `snapshot` gives.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, NonFiniteError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import { map, scalarInput } from '../engine/scalar.ts';
import { integer, parseOptions, real, toggle, type ValuesOf } from '../formats/options.ts';
import { adamw } from '../kernels/adamw.ts';
import { checkLabels, crossEntropy } from '../kernels/cross-entropy.ts';
import { createTape } from '../kernels/derivatives.ts';
import { type ClassifierConfig, classifierFeatures, classifierScores, initClassifier } from '../model/classifier.ts';
import { type Classifier, uploadClassifier } from '../model/classify.ts';
import { allSpecs, type ParamSet } from '../model/params.ts';
import { Weights } from '../model/weights/weights.ts';
import { readBatches } from './batches.ts';
import { isStreamed, type TrainingData } from './data/dataset.ts';
import { checkFits } from './model-for-data.ts';
import { oneLoop } from './one-loop.ts';
import { learningRate, warmDecay } from './schedule.ts';
import { createState } from './state.ts';

const STEPS = 'an integer, 1 or more';

/** How a classifier is trained. */
export const CLASSIFIER_OPTIONS = {
  steps: integer(3000, { min: 1, rule: STEPS, help: 'updates' }),
  batch: integer(128, { min: 1, rule: STEPS, help: 'pictures of an update' }),
  lr: real(2e-3, { above: 0, rule: 'positive', help: 'learning rate; it falls over the last tenth of the updates' }),
  warmup: integer(200, { min: 0, rule: 'an integer, 0 or more', help: 'updates over which the rate rises' }),
  weightDecay: real(0.05, { min: 0, rule: '0 or more', help: 'decoupled weight decay' }),
  emaDecay: real(0.998, {
    min: 0,
    below: 1,
    rule: 'in [0, 1)',
    help: 'what the moving average of the weights keeps of itself in an update',
  }),
  flip: toggle(false, 'mirror half of the pictures, drawn anew each time: for things that may face either way'),
  seed: integer(0, { min: 0, max: 2 ** 32 - 1, rule: 'an integer in [0, 2^32)', help: 'of initial weights and order' }),
} as const;

/** Values of `CLASSIFIER_OPTIONS`. */
export type ClassifierTraining = ValuesOf<typeof CLASSIFIER_OPTIONS>;

/** The options with defaults filled in. @throws ConfigError naming the option, its value and its rule */
export const parseClassifierTraining = (given: Partial<ClassifierTraining>): ClassifierTraining =>
  parseOptions(CLASSIFIER_OPTIONS, given, { section: 'classifier', noun: 'classifier' });

/** One update, as it went. */
export interface ClassifierEvent {
  /** Updates done, this one included. */
  readonly step: number;
  /** Mean cross-entropy of the update's pictures, before it. */
  readonly loss: number;
  readonly lr: number;
}

/** A classifier in training. */
export interface ClassifierTrainer {
  /**
   * Runs the remaining updates, one event each. @throws NonFiniteError, InterruptedError (after a whole update), what reading throws;
   * UsageError while another run has not ended.
   */
  run(): AsyncGenerator<ClassifierEvent>;
  /** The moving average of the weights as it is now. */
  snapshot(): Promise<ParamSet>;
  /** Frees everything on the GPU. */
  dispose(): void;
}

/**
 * A trainer of a new classifier; compiles its update.
 * @throws ConfigError for options that make no sense and data that do not fit, before anything is allocated; as Program.compile
 */
export async function createClassifierTrainer(
  engine: Engine,
  {
    config,
    data,
    ...given
  }: { config: ClassifierConfig; data: TrainingData; training?: Partial<ClassifierTraining>; signal?: AbortSignal },
): Promise<ClassifierTrainer> {
  const { signal } = given;
  const training = parseClassifierTraining(given.training ?? {});
  const { steps, batch, seed, flip } = training;
  checkFits(config, data);
  if (isStreamed(data) && data.elements === 'numbers') {
    throw new ConfigError(`'${data.name}' holds numbers; a classifier learns from pictures`);
  }
  const { imageSize, channels } = config;
  const params = initClassifier(config, seed);
  const held = engine.memory.allOrNothing(() => {
    const state = createState(engine, { params });
    return {
      state,
      gradients: new Weights(engine, params.layout, 'gradients', { kind: 'gradients' }),
      network: uploadClassifier(engine, config, state.params, batch),
      images: engine.tensor('images', [batch, imageSize, imageSize, channels]),
      labels: engine.tensor('labels', [batch], { dtype: 'u32' }),
      one: engine.tensor('one', [1], { data: Float32Array.of(1) }),
    };
  });
  const { state, gradients, network } = held;
  const free = () => {
    for (const weights of [state.params, state.ema, state.m, state.v, gradients]) weights.release();
    for (const t of [network.positions, network.zeros, held.images, held.labels, held.one]) engine.release(t);
  };
  const { recording, result: loss } = record(engine, 'classifier/train', (ctx, keep) => {
    const tape = createTape();
    for (const { name } of allSpecs(params.layout)) tape.watch(state.params.get(name), gradients.get(name));
    ctx.tape = tape;
    const scores = classifierScores(ctx, network, classifierFeatures(ctx, network, held.images));
    const { loss } = crossEntropy(ctx, scores, held.labels);
    tape.backward(ctx, [[loss, held.one]]);
    ctx.tape = null;
    const count = scalarInput('count');
    const emaDecay = map(count, 'ema', (n) => warmDecay(training.emaDecay, n));
    gradients.parts.forEach((gradient, p) => {
      const [part, ema, m, v] = [state.params, state.ema, state.m, state.v].map((set) => set.parts[p]!);
      const options = { lr: scalarInput('lr'), count, decay: training.weightDecay, emaDecay };
      adamw(ctx, { params: part!, gradient, m: m!, v: v!, ema: ema! }, options);
    });
    keep(loss);
    return loss;
  });
  const program = await Program.compile(engine, recording, { signal }).catch((error: unknown) => {
    free();
    throw error;
  });

  let done = 0;
  const run = oneLoop(async function* (): AsyncGenerator<ClassifierEvent> {
    const batches = readBatches(data, { seed, flip, first: done * batch });
    const images = new Float32Array(batch * imageSize ** 2 * channels);
    const labels = new Uint32Array(batch);
    try {
      for (let index = done; index < steps; index++) {
        throwIfAborted(signal, `training was interrupted after ${index} of ${steps} updates`);
        await batches.next(images, labels);
        checkLabels(labels, config.classes);
        engine.write(held.images, images);
        engine.write(held.labels, labels);
        const lr = learningRate(index, training);
        program.run({ count: index + 1, lr });
        done = index + 1;
        const [found] = await program.read(loss);
        if (!Number.isFinite(found![0])) {
          throw new NonFiniteError(`update ${index + 1}: the loss is ${found![0]}`, {
            hint: 'train with a lower --lr',
          });
        }
        yield { step: index + 1, loss: found![0]!, lr };
      }
    } finally {
      await batches.close();
    }
  });

  return {
    run,
    snapshot: () => state.ema.read(),
    dispose() {
      program.dispose();
      free();
    },
  };
}

/** Pictures classified, and how many of them rightly. */
export interface Accuracy {
  readonly hits: number;
  readonly of: number;
}

/** Features of pictures that their scale is taken from. */
const SCALED = 10_000;

/**
 * The root of the features' mean square over pictures of a data set (10,000 at most): the `scale` of a classifier that has none yet.
 * @throws ConfigError for data that do not fit; InterruptedError
 */
export async function measureScale(
  classifier: Classifier,
  data: TrainingData,
  options: Stopping = {},
): Promise<number> {
  let [squares, count] = [0, 0];
  for await (const { features } of classified(classifier, data, { ...options, most: SCALED })) {
    for (const x of features) squares += x * x;
    count += features.length;
  }
  // Three digits say it, whatever the last bits of the adapter. Of a network that gives nothing but zeros there is no scale.
  return squares > 0 ? Number(Math.sqrt(squares / count).toPrecision(3)) : 1;
}

/** How work is interrupted. */
export interface Stopping {
  readonly signal?: AbortSignal;
}

/** Features and labels of pictures of a data set, some hundred at a time. */
async function* classified(
  classifier: Classifier,
  data: TrainingData,
  { signal, most = data.count }: Stopping & { readonly most?: number },
): AsyncGenerator<{ features: Float32Array; labels: Uint32Array }> {
  const { imageSize, channels } = classifier.config;
  checkFits(classifier.config, data);
  const batches = readBatches(data, { seed: 0 });
  const count = Math.min(most, data.count);
  try {
    for (let first = 0; first < count; first += 512) {
      throwIfAborted(signal, 'the pictures were not all classified');
      const labels = new Uint32Array(Math.min(512, count - first));
      const images = new Float32Array(labels.length * imageSize ** 2 * channels);
      await batches.next(images, labels);
      yield { features: await classifier.features(images), labels };
    }
  } finally {
    await batches.close();
  }
}

/** How many pictures of a data set get the class that they have. @throws ConfigError for data that do not fit; InterruptedError */
export async function measureAccuracy(
  classifier: Classifier,
  data: TrainingData,
  options: Stopping = {},
): Promise<Accuracy> {
  let hits = 0;
  for await (const { features, labels } of classified(classifier, data, options)) {
    hits += classifier.classesOf(features).filter((c, i) => c === labels[i]).length;
  }
  return { hits, of: data.count };
}
