/** `odelt decode`: pictures of latents that `odelt sample` or another program has written as an array. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError, DataError } from '../engine/errors.ts';
import { failAs, readRegular } from '../formats/files.node.ts';
import { readNpy } from '../formats/npy.ts';
import type { PictureBatch } from '../model/autoencoder/autoencoder.ts';
import { checkPictureSize, gridSize } from '../pictures/picture.ts';
import { parseBytes } from '../sampling/budget.ts';
import { DECODER_PRECISIONS, type DecoderPrecision } from '../sampling/decoding.ts';
import { checkOneOf } from '../sampling/request.ts';
import { interruptSignal } from './ends.node.ts';
import { bytes, log, ProgressLine, printJson } from './output.node.ts';
import { describeDecoded, openLatents } from './sample-decode.ts';
import { checkOutputs, isArray, writeSamples } from './sample-output.ts';
import { INDEX_HELP, limitMemory, number, openSession, parseIndex } from './session.node.ts';

interface DecodeFlags {
  autoencoder: string;
  precision?: DecoderPrecision;
  maxMemory?: number;
  columns?: number;
  scale: number;
  out: string;
  adapter?: string;
  adapterIndex?: number;
  json?: boolean;
}

/** Larger than any array of latents that pictures are made of at once. */
const MOST_BYTES = 2 ** 31;

export function addDecode(command: Command): void {
  command
    .argument('<latents>', 'a .npy file [n, h, w, channels], as `odelt sample --out latents.npy` writes it')
    .requiredOption(
      '--autoencoder <path>',
      "AutoencoderKL or one of the TAESD family: .safetensors, a .pth of torch.save, or diffusers' folder",
    )
    .option(
      '--precision <p>',
      "the autoencoder's weights on the GPU: f32 or f16 (default f32, or what --max-memory asks for)",
    )
    .option('--max-memory <size>', 'most GPU bytes, e.g. 300MB: decodes in bands of rows', (text) =>
      parseBytes(text, '--max-memory'),
    )
    .option(
      '--columns <n>',
      'pictures in a row (default: about as many as rows)',
      number('--columns', { integer: true, min: 1 }),
    )
    .option('--scale <n>', 'enlarge pictures', number('--scale', { integer: true, min: 1, max: 16 }), 1)
    .option('--out <file>', 'PNG to write, or a .npy file of the numbers', join('out', 'decoded.png'))
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExample:\n  odelt sample --model dit.safetensors --count 4 --out latents.npy\n  odelt decode latents.npy --autoencoder vae/ --out pictures.png',
    )
    .action(decode);
}

/** @throws DataError for what are no finite numbers [n, h, w, channels] of square latents */
async function readLatents(path: string): Promise<PictureBatch & { shape: readonly [number, number, number, number] }> {
  const file = readNpy(await readRegular(path, { most: MOST_BYTES, fail: failAs(DataError, path) }), path);
  const { shape, kind } = file.header;
  const [n = 0, height = 0, width = 0, channels = 0] = shape;
  if (shape.length !== 4 || kind !== 'f' || n * height * width * channels === 0) {
    throw new DataError(
      `${path} has ${shape.join(' x ') || 'one'} numbers${kind === 'f' ? '' : ' that are no floats'}`,
      {
        hint: 'latents are floats [n, h, w, channels], as `odelt sample --out latents.npy` writes them',
      },
    );
  }
  if (height !== width)
    throw new DataError(`${path} has latents of ${height} x ${width}; only square ones can be decoded`);
  const values = Float32Array.from(file.values as Float32Array);
  const odd = values.findIndex((x) => !Number.isFinite(x));
  if (odd >= 0) throw new DataError(`${path}: element ${odd} is ${values[odd]}`);
  return { values, shape: [n, height, width, channels] };
}

async function decode(path: string, flags: DecodeFlags): Promise<void> {
  checkOneOf('--precision', flags.precision, DECODER_PRECISIONS);
  const { out, scale } = flags;
  await checkOutputs(out);
  const signal = interruptSignal('stopping after this picture');
  const latents = await readLatents(path);
  const [count, side, , channels] = latents.shape;
  const decoder = await openLatents(flags.autoencoder, flags.precision, { imageSize: side, channels });
  const { imageSize } = decoder.shown;
  const columns = flags.columns ?? Math.ceil(Math.sqrt(count));
  if (!isArray(out)) {
    const { width, height } = gridSize(count, { width: imageSize, height: imageSize }, { columns, scale });
    checkPictureSize(`a sheet of ${count} pictures`, width, height);
    if (decoder.shown.channels !== 1 && decoder.shown.channels !== 3)
      throw new ConfigError(`${flags.autoencoder} makes ${decoder.shown.channels} channels; pictures have 1 or 3`);
  }
  const { engine, adapter } = await openSession(flags.adapter, flags);
  try {
    if (flags.maxMemory !== undefined) limitMemory(engine, flags.maxMemory);
    const how = { line: new ProgressLine(), signal };
    const choice = await decoder.chooseAlone(engine, how);
    log(`${path} on ${adapter.adapter.name}: ${count} latents of ${side}x${side}x${channels}`);
    log(choice.why);
    const { samples, said } = await decoder.decode(engine, latents, choice, how);
    await writeSamples(out, samples.values, samples.shape, { columns, scale });
    if (flags.json) return printJson({ out, count, shape: samples.shape, ...said });
    log(describeDecoded(said));
    log(`wrote ${out}; peak ${bytes(said.peakBytes)} of GPU buffers`);
  } finally {
    engine.dispose();
  }
}
