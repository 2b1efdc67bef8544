/**
 * Features by a network in an ONNX file, run by onnxruntime-node, which users install themselves. What the network takes is read off its
 * input; pictures are brought to that size and kept in [-1, 1]; its first output, flattened, is the features.
 */
import { basename } from 'node:path';
import { CheckpointError, ConfigError, NonFiniteError, UnsupportedError } from '../engine/errors.ts';
import { sha256 } from '../formats/bytes.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { ONNX_FLOAT, type OnnxOutline, parseOnnx } from '../formats/onnx.ts';
import type { Features, PictureShape } from './features.ts';
import { resizeBilinear } from './resize.ts';

const PACKAGE = 'onnxruntime-node';

/** Protocol buffers end at 2 GiB; larger networks keep their weights in files beside. */
const MOST_BYTES = 2 ** 31 - 1;

/** Pictures given to a network at once that leaves their number open. */
const BATCH = 32;

/** InceptionV3 for FID: what it takes, and the numbers that its last pool gives. */
const INCEPTION = { side: 299, width: 2048 } as const;

/** What is used of onnxruntime. */
export interface OnnxRuntime {
  readonly InferenceSession: {
    /** Reads a network from a file. */
    create(path: string, options: object): Promise<OnnxSession>;
  };
  readonly Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OnnxTensor;
}

/** A network that is ready to run. */
export interface OnnxSession {
  /** Outputs by name, of inputs by name. */
  run(feeds: Record<string, OnnxTensor>): Promise<Readonly<Record<string, OnnxTensor>>>;
  /** Frees what it holds. */
  release?(): Promise<void>;
}

/** A tensor that goes in or comes out. */
export interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/** onnxruntime-node. @throws ConfigError where it is not installed, UnsupportedError where it cannot be loaded */
export async function loadOnnxRuntime(name = PACKAGE): Promise<OnnxRuntime> {
  try {
    const loaded = (await import(name)) as { default?: OnnxRuntime } & OnnxRuntime;
    return loaded.InferenceSession ? loaded : loaded.default!;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    if (!missing) throw new UnsupportedError(`the package ${name} cannot be loaded here`, { cause });
    throw new ConfigError(`features of an ONNX network need the package ${name}, which is not installed`, {
      hint: `npm install ${name} (or npm install --global ${name}, where odelt is installed so)`,
    });
  }
}

/** What a network takes: how many pictures at once (undefined: any number), and their form. */
interface Form extends PictureShape {
  readonly name: string;
  readonly batch: number | undefined;
  /** Channels come before rows. */
  readonly planes: boolean;
}

/** How pictures of `shape` go in. @throws CheckpointError for a network whose input is no picture */
function formOf({ inputs }: OnnxOutline, shape: PictureShape, file: string): Form {
  const [input] = inputs as [OnnxOutline['inputs'][number]];
  const refuse = (problem: string): never => {
    throw new CheckpointError(`${file} ${problem}`, {
      hint: 'export a network with one input of float32, [N, C, H, W] or [N, H, W, C] with 1 or 3 channels',
    });
  };
  if (inputs.length > 1) refuse(`takes ${inputs.length} inputs: ${inputs.map(({ name }) => name).join(', ')}`);
  if (input.type !== ONNX_FLOAT)
    refuse(`takes elements of ONNX's type ${input.type} at '${input.name}'; pictures are float32 (1)`);
  const said = `[${input.shape.map((size) => size ?? '?').join(', ')}]`;
  if (input.shape.length !== 4) refuse(`takes ${said} at '${input.name}', which is no batch of pictures`);
  const isChannels = (size: number | undefined) => size === 1 || size === 3;
  const [batch, a, b, c] = input.shape;
  const planes = isChannels(a);
  if (!planes && !isChannels(c))
    refuse(`takes ${said} at '${input.name}': neither second nor last are 1 or 3 channels`);
  const [channels, height, width] = planes ? [a!, b, c] : [c!, a, b];
  const form = { name: input.name, planes, channels, height: height ?? shape.height, width: width ?? shape.width };
  return { ...form, batch: batch || undefined };
}

/** Weights of red, green and blue in grey (ITU-R BT.601). */
const GREY = [0.299, 0.587, 0.114] as const;

/** Pictures [count, H, W, C] as the network takes them: resized, clipped to [-1, 1], in its number and order of channels. */
export function pictureInput(images: Float32Array, from: PictureShape, to: Form): Float32Array {
  const resized = resizeBilinear(images, from, to, from.channels);
  const pixels = to.height * to.width;
  const count = resized.length / (pixels * from.channels);
  const out = new Float32Array(count * pixels * to.channels);
  const clipped = (at: number) => Math.max(-1, Math.min(1, resized[at]!));
  for (let i = 0; i < count; i++) {
    for (let p = 0; p < pixels; p++) {
      const at = (i * pixels + p) * from.channels;
      for (let c = 0; c < to.channels; c++) {
        const same = from.channels === to.channels ? clipped(at + c) : undefined;
        const grey = () =>
          from.channels === 1 ? clipped(at) : GREY.reduce((sum, w, k) => sum + w * clipped(at + k), 0);
        out[to.planes ? (i * to.channels + c) * pixels + p : (i * pixels + p) * to.channels + c] = same ?? grey();
      }
    }
  }
  return out;
}

/** Features by a network, and what frees it. */
export interface OnnxFeatures {
  readonly features: Features;
  /** Frees the network. */
  close(): Promise<void>;
}

/**
 * Opens a network for pictures of this shape. `fid`: it must be the InceptionV3 that FID is defined by, up to its last pool; only then
 * are distances called FID. `runtime`: onnxruntime, or what does the same.
 * @throws CheckpointError for a file that is no whole ONNX model or takes no pictures; ConfigError without onnxruntime-node
 */
export async function onnxFeatures(
  file: string,
  shape: PictureShape,
  { fid = false, runtime }: { readonly fid?: boolean; readonly runtime?: OnnxRuntime } = {},
): Promise<OnnxFeatures> {
  const fail = failAs(CheckpointError, file, 'give the .onnx file of a network');
  const bytes = await readRegular(file, { most: MOST_BYTES, fail });
  const outline = parseOnnx(bytes, file);
  const form = formOf(outline, shape, file);
  const { side, width: pooled } = INCEPTION;
  const notInception = (found: string): never => {
    throw new CheckpointError(
      `${file} ${found}; the InceptionV3 of FID takes ${side} x ${side} x 3 and gives ${pooled} numbers`,
      {
        hint: 'give any other network as onnx:FILE; its distances are called FD',
      },
    );
  };
  const open = outline.inputs[0]!.shape.slice(form.planes ? 2 : 1)
    .slice(0, 2)
    .every((size) => size === undefined);
  const to = fid && open ? { ...form, height: side, width: side } : form;
  if (fid && (to.channels !== 3 || to.height !== side || to.width !== side)) {
    notInception(`takes ${to.height} x ${to.width} x ${to.channels}`);
  }
  const { InferenceSession, Tensor } = runtime ?? (await loadOnnxRuntime());
  const session = await InferenceSession.create(file, { logSeverityLevel: 3 }).catch((cause: unknown) => {
    throw new CheckpointError(`${file} cannot be run by ${PACKAGE}`, { cause });
  });
  const size = shape.height * shape.width * shape.channels;
  const output = outline.outputs[0]!.name;
  const batch = to.batch ?? BATCH;

  /** Of up to `batch` pictures. A network that takes a fixed number is given as many, of which the last are nothing. */
  const some = async (images: Float32Array): Promise<{ rows: number; values: Float32Array }> => {
    const rows = images.length / size;
    const given = to.batch === undefined ? rows : to.batch;
    const input = new Float32Array(given * to.height * to.width * to.channels);
    input.set(pictureInput(images, shape, to));
    const dims = to.planes ? [to.channels, to.height, to.width] : [to.height, to.width, to.channels];
    const found = await session
      .run({ [to.name]: new Tensor('float32', input, [given, ...dims]) })
      .catch((cause: unknown) => {
        throw new CheckpointError(`${file} cannot be run on ${given} pictures of ${dims.join(' x ')}`, { cause });
      });
    const result = found[output];
    const data = result?.data;
    if (!(data instanceof Float32Array) || result!.dims[0] !== given) {
      const what = result ? `[${result.dims}] of ${result.type}` : 'nothing';
      throw new CheckpointError(`${file} gives ${what} for ${given} pictures`, {
        hint: 'its first output must be float32, a row for each picture',
      });
    }
    return { rows, values: data.subarray(0, (data.length / given) * rows) };
  };
  const probe = await some(new Float32Array(size)).catch(async (error: unknown) => {
    await session.release?.();
    throw error;
  });
  const width = probe.values.length;
  if (fid && width !== pooled) notInception(`gives ${width} numbers`);
  const features: Features = {
    name: fid ? 'FID (InceptionV3)' : basename(file),
    width,
    digest: await sha256(bytes),
    ...(fid ? { distance: 'FID' as const } : {}),
    async of(images) {
      const out = new Float32Array((images.length / size) * width);
      for (let first = 0; first * size < images.length; first += batch) {
        const { values } = await some(images.subarray(first * size, (first + batch) * size));
        const bad = values.findIndex((x) => !Number.isFinite(x));
        if (bad >= 0)
          throw new NonFiniteError(`${file} gives ${values[bad]} for picture ${first + Math.floor(bad / width)}`);
        out.set(values, first * width);
      }
      return out;
    },
  };
  return { features, close: async () => void (await session.release?.()) };
}
