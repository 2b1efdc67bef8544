/** `odelt encode`: pictures to latents, for models of latents to be trained on. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { checkOutput } from '../formats/files.node.ts';
import { createAutoencoder } from '../model/autoencoder/autoencoder.ts';
import { openAutoencoder } from '../model/autoencoder/open.node.ts';
import { originOf } from '../model/autoencoder/origin.ts';
import { spreadWarning } from '../model/autoencoder/spread.ts';
import { checkOneOf } from '../sampling/request.ts';
import { checkEncodes, encodeLatents } from '../training/data/encode.ts';
import { latentsSpread } from '../training/data/latents.ts';
import { openTrainingData, type Split } from '../training/data/open.ts';
import { interruptSignal } from './ends.node.ts';
import { bytes, duration, log, ProgressLine, printJson } from './output.node.ts';
import { INDEX_HELP, number, openSession, parseIndex } from './session.node.ts';
import { encodedChannels, placeOf } from './train-flags.ts';

interface EncodeFlags {
  autoencoder: string;
  out: string;
  size: number;
  part?: Split;
  flip?: boolean;
  samples?: number;
  dtype: 'f32' | 'f16';
  precision: 'f32' | 'f16';
  shard: number;
  adapter?: string;
  adapterIndex?: number;
  json?: boolean;
}

const HELP = `
Writes shards of safetensors and latents.json, which says what they are: of an
AutoencoderKL mean and log variance of each picture, so that training draws anew
from them every time, or a sample; of the TAESD family its latents; the labels; the
scaling.
Pictures go into shards in a shuffled order. Ctrl-C keeps whole shards, and the same
command goes on after them; other options or other pictures are refused.

  odelt encode pictures/ --autoencoder vae/ --flip --out latents/
  odelt encode pictures/ --size 128 --autoencoder taef2_encoder.pth --out latents/
  odelt train --data latents/ --preset dit-b/2 --flip`;

export function addEncode(command: Command): void {
  command
    .argument('<data>', 'pictures: all that `odelt train --data` takes as pictures')
    .requiredOption(
      '--autoencoder <path>',
      "AutoencoderKL or one of the TAESD family: .safetensors, a .pth of torch.save, or diffusers' folder; config.json beside it is read",
    )
    .requiredOption('--out <folder>', 'where to: a new folder, or that of an interrupted run')
    .option(
      '--size <pixels>',
      'of encoded pictures (JPEG, PNG, ...): crop and scale them to this side',
      number('--size', { integer: true, min: 1, max: 4096 }),
      256,
    )
    .option(
      '--part <which>',
      'train or test, which is the part for validation where there is no other (default: train if it is there)',
    )
    .option('--flip', 'encode mirrored pictures as well: twice the work, and `odelt train --flip` then works')
    .option(
      '--samples <seed>',
      'of an AutoencoderKL: store one sample of each picture, drawn with this seed, in place of mean and log variance',
      number('--samples', { integer: true, min: 0, max: 2 ** 32 - 1 }),
    )
    .option('--dtype <type>', 'how latents are stored: f32, or f16 for half the bytes', 'f32')
    .option('--precision <type>', "how the autoencoder's weights are stored: f32 or f16", 'f32')
    .option('--shard <n>', 'pictures of a shard', number('--shard', { integer: true, min: 1, max: 65536 }), 256)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', HELP)
    .action(encode);
}

async function encode(path: string, flags: EncodeFlags): Promise<void> {
  checkOneOf('--part', flags.part, ['train', 'test']);
  checkOneOf('--dtype', flags.dtype, ['f32', 'f16']);
  checkOneOf('--precision', flags.precision, ['f32', 'f16']);
  const folder = resolve(flags.out);
  await checkOutput('--out', flags.out, { folder: true });
  const signal = interruptSignal('stopping after this picture');
  const imported = await openAutoencoder(flags.autoencoder);
  const { network, assumed } = imported;
  if (assumed !== undefined) log(`warning: ${flags.autoencoder}: ${assumed}`);
  const line = new ProgressLine();
  const reading = performance.now();
  const data = await openTrainingData(placeOf(path), {
    ...{ signal, size: flags.size, split: flags.part, channels: encodedChannels(network.pictureChannels) },
    streamed: true,
    onRecognised: (what) => log(`data: ${what}`),
    onShape: (shape) => checkEncodes(network, shape),
    onProgress(done, total) {
      if (performance.now() - reading > 2000) line.update(`reading pictures: ${done} of ${total}`);
    },
  }).finally(() => line.end());
  for (const { file, reason } of data.skipped) log(`skipped ${file}: ${reason}`);
  checkEncodes(network, data);
  const session = await openSession(flags.adapter, flags);
  log(
    `${data.name}: ${data.count} pictures of ${data.height}x${data.width}x${data.channels} on ${session.adapter.adapter.name}`,
  );
  try {
    const { precision } = flags;
    const autoencoder = await createAutoencoder(session.engine, imported, {
      ...{ precision, halves: ['encoder'], signal },
      onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
    });
    let first: { at: number; done: number } | undefined;
    const result = await encodeLatents(autoencoder, data, {
      ...{ folder, origin: await originOf(imported), precision, signal, shard: flags.shard },
      flip: flags.flip ?? false,
      samples: flags.samples,
      dtype: flags.dtype === 'f16' ? 'F16' : 'F32',
      onProgress(done, total) {
        first ??= { at: performance.now(), done };
        const each = (performance.now() - first.at) / 1000 / (done - first.done);
        const left = Number.isFinite(each) ? `  ${duration(each * (total - done))} left` : '';
        line.update(`${done} of ${total} pictures${left}`);
      },
    }).finally(() => line.end());
    const { height, width, channels } = result.recipe;
    const spread = latentsSpread(result);
    const size = result.shards.reduce((sum, shard) => sum + shard.bytes, 0);
    if (flags.json) return printJson({ folder, ...result, spread });
    log(
      `${data.count} pictures as ${height}x${width}x${channels} latents, ${bytes(size)} in ${result.shards.length} shards: ${flags.out}`,
    );
    log(`scaled latents: mean ${spread.mean.toFixed(3)}, deviation ${spread.deviation.toFixed(3)}`);
    const warning = spreadWarning(data.name, spread, result.recipe.autoencoder.scaling.factor);
    if (warning) log(`warning: ${warning}`);
  } finally {
    session.engine.dispose();
  }
}
