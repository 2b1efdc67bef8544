/** A classifier at work: pictures in, features out, a batch at a time; classes follow from the features on the host. */
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import {
  bestClasses,
  type ClassifierConfig,
  type ClassifierNetwork,
  classifierFeatures,
  LAST_LAYER,
  type LastLayer,
} from './classifier.ts';
import { type ParamSet, paramsByName } from './params.ts';
import { uploadPositions } from './weights/residency.ts';
import { Weights } from './weights/weights.ts';

/** What a classifier needs on the GPU besides its weights, for up to `batch` pictures. */
export const uploadClassifier = (engine: Engine, config: ClassifierConfig, weights: Weights, batch: number) =>
  ({
    config,
    weights,
    positions: uploadPositions(engine, config),
    zeros: engine.tensor('zeros', [batch], { dtype: 'u32' }),
  }) satisfies ClassifierNetwork;

/** Pictures computed at once. */
const BATCH = 128;

/** A classifier on an engine. */
export class Classifier {
  readonly config: ClassifierConfig;
  readonly #engine: Engine;
  readonly #program: Program;
  readonly #network: ClassifierNetwork;
  readonly #images: Tensor;
  readonly #features: Tensor;
  readonly #last: LastLayer;
  #busy: Promise<unknown> = Promise.resolve();

  private constructor(
    engine: Engine,
    program: Program,
    {
      network,
      images,
      features,
      last,
    }: { network: ClassifierNetwork; images: Tensor; features: Tensor; last: LastLayer },
  ) {
    this.config = network.config;
    this.#engine = engine;
    this.#program = program;
    this.#network = network;
    this.#images = images;
    this.#features = features;
    this.#last = last;
  }

  /** Uploads parameters of `classifierLayout` and compiles the network. @throws as Program.compile; nothing stays allocated then. */
  static async create(
    engine: Engine,
    config: ClassifierConfig,
    params: ParamSet,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Classifier> {
    const { imageSize, channels } = config;
    const { network, images } = engine.memory.allOrNothing(() => ({
      network: uploadClassifier(
        engine,
        config,
        new Weights(engine, params.layout, 'classifier', { values: params }),
        BATCH,
      ),
      images: engine.tensor('images', [BATCH, imageSize, imageSize, channels]),
    }));
    const { recording, result: features } = record(engine, 'classifier', (ctx, keep) => {
      const y = classifierFeatures(ctx, network, ctx.prefix(images, scalarInput('rows', BATCH)));
      keep(y);
      return y;
    });
    try {
      const program = await Program.compile(engine, recording, { signal });
      const values = paramsByName(params);
      const kernel = values.get(LAST_LAYER.kernel)!.map((w) => w * config.scale);
      const last = { kernel, bias: values.get(LAST_LAYER.bias)! };
      return new Classifier(engine, program, { network, images, features, last });
    } catch (error) {
      free(engine, network, images);
      throw error;
    }
  }

  /**
   * Features [count * config.features], divided by config.scale, of pictures [count, H, W, C], clamped to [-1, 1]. A picture's do not depend on the others.
   * @throws UsageError for numbers that are no such pictures
   */
  features(images: Float32Array): Promise<Float32Array> {
    // One batch after another, whoever asks: they share the memory of one program.
    const result = this.#busy.then(() => this.#compute(images));
    this.#busy = result.catch(() => undefined);
    return result;
  }

  async #compute(images: Float32Array): Promise<Float32Array> {
    const { imageSize, channels, features: width, scale } = this.config;
    const size = imageSize ** 2 * channels;
    const count = images.length / size;
    if (!Number.isInteger(count)) throw new UsageError(`${images.length} numbers are no pictures of ${size}`);
    const out = new Float32Array(count * width);
    for (let first = 0; first < count; first += BATCH) {
      const rows = Math.min(BATCH, count - first);
      const some = images.subarray(first * size, (first + rows) * size).map((x) => Math.max(-1, Math.min(1, x)));
      this.#engine.write(this.#images, some);
      this.#program.run({ rows });
      const [values] = await this.#program.read(this.#features);
      for (let i = 0; i < rows * width; i++) out[first * width + i] = values![i]! / scale;
    }
    return out;
  }

  /** The class of each row of features, by the network's last layer: [rows]. */
  classesOf(features: Float32Array): Uint16Array {
    return bestClasses(features, this.#last);
  }

  /** Frees everything on the GPU. */
  dispose(): void {
    this.#program.dispose();
    free(this.#engine, this.#network, this.#images);
  }
}

function free(engine: Engine, { weights, positions, zeros }: ClassifierNetwork, images: Tensor): void {
  weights.release();
  for (const t of [positions, zeros, images]) engine.release(t);
}
