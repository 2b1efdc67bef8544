/** Sheets of samples while a model trains: rows are numbers of blocks L, columns numbers of time steps T, the noise always the same. */
import { throwIfAborted } from '../engine/abort.ts';
import { dryEngine } from '../engine/dry-device.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { Decoder } from '../model/autoencoder/decoder.ts';
import { allowedLengths, type ModelConfig, usualSteps } from '../model/config.ts';
import { type ParamSet, paramLayout } from '../model/params.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { memorySource } from '../model/weights/source.ts';
import { checkPictureSize, contactSheet, fromUnit, gridSize, type Picture } from '../pictures/picture.ts';
import { usualGuidance, usualLabels } from '../sampling/classes.ts';
import { checkRequest } from '../sampling/request.ts';
import { Sampler } from '../sampling/sampler.ts';

/** What a sheet shows. */
export interface SheetOptions {
  /** Numbers of time steps, one column each. Default 1, 4 and 16, or the model's finest in the place of more. */
  readonly steps?: readonly number[];
  /** Numbers of blocks, one row each. Default: up to four of those that may run, the fewest and all among them. */
  readonly blocks?: readonly number[];
  /** Samples in each cell, of classes 0, 1, ... in turn; of no class, where the model is unconditional. Default 8. */
  readonly count?: number;
  /** Default 1; 0 of an unconditional model, which takes no other. */
  readonly guidance?: number;
  /** Of the noise. Default 0. */
  readonly seed?: number;
  /** What makes pictures of a model's latents; the sheet does not dispose it. */
  readonly decoder?: Decoder;
}

/** A sheet that can be drawn of a model's weights again and again. */
export interface SampleSheet {
  readonly blocks: readonly number[];
  readonly steps: readonly number[];
  /** Bytes of GPU buffers that drawing takes at most, all of which are free again afterwards. */
  readonly peakBytes: number;
  /** @throws what a sampler throws, OutOfMemoryError and InterruptedError among it */
  draw(params: ParamSet, title: string, signal?: AbortSignal): Promise<Picture>;
}

/** Most rows where nobody says, and most samples that are computed at once. */
const MOST_ROWS = 4;
const MOST_AT_ONCE = 64;

/** Up to four of the numbers of blocks that may run, evenly, the fewest and the most among them. */
function sheetBlocks(config: ModelConfig): number[] {
  const allowed = allowedLengths(config);
  const rows = Math.min(MOST_ROWS, allowed.length);
  if (rows === 1) return [allowed.at(-1)!];
  return Array.from({ length: rows }, (_, r) => allowed[Math.round((r * (allowed.length - 1)) / (rows - 1))]!);
}

/**
 * Checks what a sheet is to show and works out its memory, before anything is trained.
 * @throws ConfigError for steps, blocks and guidance that the model does not have, for a model of latents without a decoder, and for too
 * large a sheet
 */
export async function sampleSheet(
  engine: Engine,
  config: ModelConfig,
  options: SheetOptions = {},
): Promise<SampleSheet> {
  const { steps = usualSteps(config, [1, 4, 16]), blocks = sheetBlocks(config), count = 8, seed = 0 } = options;
  const { decoder, guidance = usualGuidance(config) } = options;
  const { imageSize, channels } = decoder?.shown ?? config;
  if (channels !== 1 && channels !== 3) {
    throw new ConfigError(`the model makes latents of ${channels} channels; samples are drawn of 1 or 3`, {
      hint: 'give the autoencoder that decodes them (--decode FILE), or train it without sheets of samples',
    });
  }
  const labels = usualLabels(config, count);
  const layout = { columns: Math.ceil(Math.sqrt(count)), scale: imageSize < 48 ? 2 : 1, pad: 2 };
  const cell = gridSize(count, { width: imageSize, height: imageSize }, layout);
  checkPictureSize(`a sheet of ${count} samples per cell`, steps.length * cell.width, blocks.length * cell.height);
  for (const L of blocks) {
    for (const T of steps) checkRequest({ labels, blocks: L, steps: T, guidance, seed }, config);
  }
  const rowsOf = async (
    on: Engine,
    model: ResidentModel,
    decode: Decoder['decode'] | undefined,
    signal?: AbortSignal,
  ): Promise<Picture[][][]> => {
    const sampler = new Sampler(on, model, { batch: Math.min(count, MOST_AT_ONCE) });
    try {
      const rows: Picture[][][] = [];
      for (const L of blocks) {
        const row: Picture[][] = [];
        for (const T of steps) {
          const samples = await sampler.sample({ labels, blocks: L, steps: T, guidance, seed, signal });
          throwIfAborted(signal, 'drawing samples was interrupted');
          const { values, shape } = (await decode?.(samples)) ?? samples;
          row.push(fromUnit(values, shape[1], shape[2], shape[3]));
        }
        rows.push(row);
      }
      return rows;
    } finally {
      sampler.dispose();
    }
  };
  // A dry model's samples are decoded by nobody.
  const blank: Decoder['decode'] = async ({ shape: [n] }) => ({
    values: new Float32Array(n * imageSize ** 2 * channels),
    shape: [n, imageSize, imageSize, channels],
  });
  const dry = dryEngine(engine);
  // A dry model reads nothing: only sizes count.
  const source = { layout: paramLayout(config), bytesOf: () => 0, read: async () => new Float32Array(0) };
  await rowsOf(dry, new ResidentModel(dry, config, source, { dry: true }), decoder && blank);
  return {
    blocks,
    steps,
    // One after the other; the decoder's weights stay.
    peakBytes: dry.memory.report().peak + (decoder?.peakBytes ?? 0),
    async draw(params, title, signal) {
      const model = new ResidentModel(engine, config, memorySource(params));
      try {
        const rows = await rowsOf(engine, model, decoder?.decode, signal);
        return contactSheet({
          title,
          rowLabels: blocks.map((L) => `L=${L}`),
          columnLabels: steps.map((T) => `T=${T}`),
          cell: (r, c) => rows[r]![c]!,
          grid: layout,
          textScale: 1,
        });
      } finally {
        model.dispose();
      }
    },
  };
}
