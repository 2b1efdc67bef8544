/**
 * An autoencoder of latents on the GPU: pictures to latents and back, one picture at a time, each size by a program of its own in one
 * arena. A picture's numbers do not depend on the others.
 */
import { throwIfAborted } from '../../engine/abort.ts';
import { dryEngine } from '../../engine/dry-device.ts';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, LimitError, NonFiniteError, UsageError } from '../../engine/errors.ts';
import { Arena } from '../../engine/memory/arena.ts';
import { Program, record } from '../../engine/program.ts';
import type { Shape, Tensor } from '../../engine/tensor.ts';
import { firstNonFinite } from '../../formats/finite.ts';
import type { ParamSet } from '../params.ts';
import type { Precision } from '../weights/quantize.ts';
import { Weights } from '../weights/weights.ts';
import { inOneBand, whole } from './bands.ts';
import { type Gaussian, gaussianOf } from './gaussian.ts';
import type { ImportedAutoencoder } from './import.ts';
import { runLayer } from './layers.ts';
import { type AutoencoderNetwork, autoencoderLayout, HALVES, type Half } from './network.ts';

/** Values [pictures, H, W, C] on the host. */
export interface PictureBatch {
  readonly values: Float32Array;
  readonly shape: readonly [number, number, number, number];
}

/** What an encoder gives. */
export interface Encoded {
  /** [pictures, h, w, channels] as a model of latents works on them: scaled; of a Gaussian the means. */
  readonly latents: PictureBatch;
  /** Of an AutoencoderKL: means and log variances, not scaled. */
  readonly gaussian: Gaussian | null;
}

/** How an autoencoder is put on the GPU. */
export interface AutoencoderOptions {
  /** How kernels are stored: f32 (default) or f16. */
  readonly precision?: 'f32' | 'f16';
  /** The halves that are wanted. Default: those that there are. */
  readonly halves?: readonly Half[];
  /**
   * Most bytes of GPU buffers of all of it, weights included: pictures are then worked on in as few bands of rows as fit (`chooseBands`), in
   * the same bits, and what one size needs goes before another is begun. Default: no limit.
   */
  readonly maxBytes?: number;
  /** Rows of a picture in a band, in place of those that `maxBytes` would choose. */
  readonly bandRows?: number;
  readonly signal?: AbortSignal;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

/** How a batch is decoded. */
export interface PassOptions {
  /**
   * Told as each layer is done, which the next one then waits for: how many of how many, of all pictures together. Default: nobody is told, and
   * nothing waits.
   */
  readonly onLayer?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
}

interface Ready {
  readonly program: Program;
  /** After how many dispatches each layer ends. */
  readonly ends: readonly number[];
  readonly input: Tensor;
  readonly output: Tensor;
}

/** Encodes and decodes; its weights and programs live until it is disposed. */
export class Autoencoder {
  readonly network: AutoencoderNetwork;
  readonly #engine: Engine;
  readonly #weights: Weights;
  readonly #arena: Arena;
  readonly #options: AutoencoderOptions;
  readonly #ready = new Map<string, Ready>();
  #disposed = false;

  /** `params` null allocates without values, for estimates. See `createAutoencoder`. */
  constructor(engine: Engine, network: AutoencoderNetwork, params: ParamSet | null, options: AutoencoderOptions = {}) {
    this.network = network;
    this.#engine = engine;
    this.#options = options;
    const { precision = 'f32', halves = HALVES, bandRows = 1, maxBytes = 1 } = options;
    if (!Number.isInteger(bandRows) || bandRows < 1 || !(maxBytes > 0)) {
      throw new ConfigError(`bands of ${bandRows} rows within ${maxBytes} bytes; both must be positive, rows whole`);
    }
    if (precision !== 'f32' && precision !== 'f16') {
      throw new ConfigError(`an autoencoder's weights cannot be stored as '${String(precision)}'; f32 and f16 can be`);
    }
    const layout = params?.layout ?? autoencoderLayout(network);
    this.#weights = new Weights(engine, layout, 'autoencoder', { empty: true, precision: precision as Precision });
    this.#arena = new Arena(engine, 'autoencoder');
    engine.memory.allOrNothing(() => {
      layout.groups.forEach(({ name }, g) => {
        if (halves.includes(name as Half)) this.#weights.place(g, params?.groups[g]);
      });
    });
  }

  /**
   * Latents [n, h, w, channels], scaled as a model of them works on them, to pictures [n, H, W, 3] about [-1, 1], not clamped.
   * @throws ConfigError for latents of other channels, or without a decoder; NonFiniteError for what would be no picture; LimitError,
   * OutOfMemoryError; InterruptedError.
   */
  async decode(latents: PictureBatch, options: PassOptions = {}): Promise<PictureBatch> {
    const { latentChannels, scaling } = this.network;
    this.#check('decoder', latents, latentChannels, 'latents');
    const plain = latents.values.map((value) => value / scaling.factor + scaling.shift);
    return this.#run('decoder', { ...latents, values: plain }, options);
  }

  /**
   * Pictures [n, H, W, 3] in [-1, 1] to latents.
   * @throws ConfigError for pictures that are no multiple of the network's factor on a side, or of other channels, or without an encoder;
   * NonFiniteError for what would be no latents; LimitError, OutOfMemoryError; InterruptedError.
   */
  async encode(pictures: PictureBatch): Promise<Encoded> {
    const { pictureChannels, latentChannels, factor, family, scaling } = this.network;
    this.#check('encoder', pictures, pictureChannels, 'pictures');
    const [, height, width] = pictures.shape;
    if (height % factor !== 0 || width % factor !== 0) {
      throw new ConfigError(`pictures of ${width} x ${height} are no multiple of the autoencoder's ${factor} pixels`, {
        hint: `cut or scale them to multiples of ${factor}`,
      });
    }
    const found = await this.#run('encoder', pictures);
    const gaussian = family === 'kl' ? gaussianOf(found.values, latentChannels) : null;
    const values = (gaussian?.mean ?? found.values).map((value) => (value - scaling.shift) * scaling.factor);
    const [n, h, w] = found.shape;
    return { latents: { values, shape: [n, h, w, latentChannels] }, gaussian };
  }

  /**
   * What one half gives for values in its own range: decoders take latents that are not scaled, encoders any size; for comparisons with
   * others' programs.
   * @throws ConfigError without that half; NonFiniteError; LimitError, OutOfMemoryError; InterruptedError.
   */
  async raw(half: Half, input: PictureBatch): Promise<PictureBatch> {
    const channels = half === 'encoder' ? this.network.pictureChannels : this.network.latentChannels;
    this.#check(half, input, channels, half === 'encoder' ? 'pictures' : 'latents');
    return this.#run(half, input);
  }

  /**
   * Compiles and allocates all that one half needs for values of this height and width, so that what is impossible is known before.
   * @throws ConfigError without that half; LimitError, OutOfMemoryError; InterruptedError.
   */
  async prepare(half: Half, [height, width]: readonly [number, number]): Promise<void> {
    this.#checkHalf(half);
    await this.#prepare(half, height, width);
  }

  #checkHalf(half: Half): void {
    if (this.#disposed) throw new UsageError('this autoencoder has been disposed');
    const { halves = HALVES } = this.#options;
    if (!this.network[half] || !halves.includes(half)) {
      throw new ConfigError(`this autoencoder has no ${half}`, { hint: `load weights that hold the ${half}` });
    }
  }

  #check(half: Half, { values, shape }: PictureBatch, channels: number, what: string): void {
    this.#checkHalf(half);
    if (shape.length !== 4 || shape.some((n) => !Number.isInteger(n) || n < 1)) {
      throw new ConfigError(`${what} of shape [${shape}]; [number, height, width, channels] are wanted`);
    }
    if (shape[3] !== channels) {
      throw new ConfigError(`${what} have ${shape[3]} channels; this autoencoder's have ${channels}`, {
        hint: 'use the autoencoder that the latents were made with',
      });
    }
    const size = shape.reduce((a, b) => a * b, 1);
    if (values.length !== size) throw new ConfigError(`${values.length} values for ${what} of shape [${shape}]`);
  }

  async #run(half: Half, { values, shape }: PictureBatch, { onLayer }: PassOptions = {}): Promise<PictureBatch> {
    const [count, height, width] = shape;
    const { program, ends, input, output } = await this.#prepare(half, height, width);
    const [, h, w, c] = output.shape as [number, number, number, number];
    const out = new Float32Array(count * h * w * c);
    const size = values.length / count;
    for (let i = 0; i < count; i++) {
      this.#engine.write(input, values.slice(i * size, (i + 1) * size));
      if (onLayer) {
        let from = 0;
        for (const [layer, to] of ends.entries()) {
          program.run({}, { from, to });
          await this.#engine.done();
          onLayer({ done: i * ends.length + layer + 1, total: count * ends.length });
          from = to;
        }
      } else program.run();
      const [found] = await program.read(output);
      this.#checkFinite(half, found!, i);
      out.set(found!, i * h * w * c);
    }
    return { values: out, shape: [count, h, w, c] };
  }

  /** What holds a NaN would be black in a picture, and spoil a folder of latents. */
  #checkFinite(half: Half, values: Float32Array, picture: number): void {
    const bad = firstNonFinite(values);
    if (bad < 0) return;
    const hint = "the weights' numbers are too large, or the driver is wrong: odelt verify checks it";
    throw new NonFiniteError(`picture ${picture}: the autoencoder's ${half} gave ${values[bad]}`, {
      hint: this.#options.precision === 'f16' ? 'store its weights as f32' : hint,
    });
  }

  /** Compiles a half for a size, once. */
  async #prepare(half: Half, height: number, width: number): Promise<Ready> {
    const key = `${half} ${height} x ${width}`;
    const known = this.#ready.get(key);
    if (known) return known;
    const { maxBytes, bandRows, signal, onCompile } = this.#options;
    if (maxBytes !== undefined) this.#forget();
    const size = [height, width] as const;
    const rows =
      bandRows ??
      (await chooseBands(this.#engine, this.network, half, size, { halves: HALVES, ...this.#options })).rows;
    const pixels = rows * width * (half === 'decoder' ? this.network.factor : 1);
    const channels = half === 'encoder' ? this.network.pictureChannels : this.network.latentChannels;
    const input = this.#engine.tensor(key, [1, height, width, channels]);
    const names = this.network[half]!.map((layer, i) => ('name' in layer ? layer.name : `${half}.${i}`));
    try {
      const { recording, result } = record(this.#engine, `autoencoder ${key}`, (ctx, keep) => {
        let x = inOneBand(ctx, { ...input, shape: [1, height, width, channels] as Shape });
        this.network[half]!.forEach((layer, i) => {
          x = ctx.scope(names[i]!, () => runLayer(ctx, layer, x, (name) => this.#weights.get(name), pixels));
        });
        const y = whole(x);
        keep(y);
        return y;
      });
      const program = await Program.compile(this.#engine, recording, {
        arena: this.#arena,
        ...(signal && { signal }),
        ...(onCompile && { onProgress: onCompile }),
      });
      const ready = { program, ends: layerEnds(program, names), input, output: result };
      this.#ready.set(key, ready);
      return ready;
    } catch (error) {
      this.#engine.release(input);
      throw error;
    }
  }

  /** Frees everything of the autoencoder on the GPU. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#forget();
    this.#weights.release();
  }

  /** Frees all but the weights. */
  #forget(): void {
    for (const { program, input } of this.#ready.values()) {
      program.dispose();
      this.#engine.release(input);
    }
    this.#ready.clear();
    this.#arena.dispose();
  }
}

/** After how many dispatches each layer ends: labels begin with its name. What is in none of them belongs to the one before. */
function layerEnds({ nodes }: Program, names: readonly string[]): number[] {
  const layers = nodes.map(({ label }) => names.indexOf(label.split('/', 1)[0]!));
  const begins = layers.flatMap((layer, i) => (i > 0 && layer >= 0 && layer !== layers[i - 1] ? [i] : []));
  return [...begins, nodes.length];
}

/**
 * Puts an autoencoder (`importAutoencoder`) on the GPU.
 * @throws ConfigError for a precision that there is not; OutOfMemoryError; NonFiniteError for weights that f16 cannot hold.
 */
export async function createAutoencoder(
  engine: Engine,
  { network, params }: ImportedAutoencoder,
  options: AutoencoderOptions = {},
): Promise<Autoencoder> {
  const made = new Autoencoder(engine, network, params, options);
  try {
    await engine.allocated();
    return made;
  } catch (error) {
    made.dispose();
    throw error;
  }
}

/**
 * Most bytes on the GPU while one half works on values of this height and width, weights included; by a dry run.
 * Weights of that half alone, where `halves` does not say otherwise. @throws as `decode`.
 */
export async function autoencoderPeak(
  engine: Engine,
  network: AutoencoderNetwork,
  half: Half,
  [height, width]: readonly [number, number],
  options: AutoencoderOptions = {},
): Promise<number> {
  const dry = dryEngine(engine);
  const channels = half === 'encoder' ? network.pictureChannels : network.latentChannels;
  try {
    const made = new Autoencoder(dry, network, null, { halves: [half], ...options });
    await made.raw(half, { values: new Float32Array(height * width * channels), shape: [1, height, width, channels] });
    return dry.memory.report().peak;
  } finally {
    dry.dispose();
  }
}

/** How a picture is divided. */
export interface Banding {
  /** Rows of the picture in a band, and how many bands that makes; one: it is not divided. */
  readonly rows: number;
  readonly bands: number;
  /** `autoencoderPeak` of it. */
  readonly peak: number;
}

/** Bands are not made of fewer rows: what they save then is less than what lies beside them. */
const FEWEST_ROWS = 4;

/**
 * The fewest bands (1, 2, 4 and so on) in which one half works on values of this height and width within `maxBytes`, and within what the
 * device allows in a binding. @throws LimitError whose `asked` is the smallest limit that would do; as `autoencoderPeak`.
 */
export async function chooseBands(
  engine: Engine,
  network: AutoencoderNetwork,
  half: Half,
  size: readonly [number, number],
  { maxBytes = Number.POSITIVE_INFINITY, precision, halves, signal }: AutoencoderOptions = {},
): Promise<Banding> {
  const height = size[0] * (half === 'decoder' ? network.factor : 1);
  let least = Number.POSITIVE_INFINITY;
  let refused: LimitError | undefined;
  for (let rows = height; ; rows = Math.ceil(rows / 2)) {
    throwIfAborted(signal);
    try {
      const options = { ...(precision && { precision }), ...(halves && { halves }), bandRows: rows };
      const peak = await autoencoderPeak(engine, network, half, size, options);
      if (peak <= maxBytes) return { rows, bands: Math.ceil(height / rows), peak };
      least = Math.min(least, peak);
    } catch (error) {
      if (!(error instanceof LimitError)) throw error;
      refused = error;
    }
    if (rows <= FEWEST_ROWS) break;
  }
  if (least === Number.POSITIVE_INFINITY) throw refused!;
  throw new LimitError(
    `the autoencoder's ${half} takes at least ${least} bytes for ${size[1]} x ${size[0]}; the limit is ${maxBytes}`,
    { asked: least, available: maxBytes },
    { hint: `allow ${least} bytes${precision === 'f16' ? '' : ', or store its weights as f16'}` },
  );
}
