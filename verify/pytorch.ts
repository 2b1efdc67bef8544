/** PyTorch's DiT: its files of weights against the formula that gave them, and its outputs on the GPU, with and without guidance. */
import * as v from 'valibot';
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import { bytesSource } from '../formats/byte-source.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { contiguousStrides, floatsOf, type StoredTensor } from '../formats/stored-tensor.ts';
import type { ModelConfig } from '../model/config.ts';
import { positionEmbedding } from '../model/position.ts';
import type { ForeignWeights } from '../model/weights/imports/foreign.ts';
import { importWeights } from '../model/weights/imports/import.ts';
import { openCheckpoint } from '../model/weights/imports/open.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  relativeError,
  shared,
  TOLERANCES,
  worst,
  worstSample,
} from './case.ts';
import { readerOf } from './checkpoints.ts';
import { formulaFill } from './formula-params.ts';
import type { GoldenDir } from './golden.ts';
import { Network } from './network.ts';

const FOLDER = 'torch/';

const schema = v.looseObject({
  config: v.looseObject({
    num_heads: v.number(),
    input_size: v.number(),
    patch_size: v.number(),
    hidden_size: v.number(),
  }),
  formula_seed: v.number(),
  parameter_layout: v.array(
    v.looseObject({
      k: v.number(),
      name: v.string(),
      shape: v.array(v.number()),
      scale: v.optional(v.nullable(v.number())),
    }),
  ),
});
type Described = v.InferOutput<typeof schema>;

/** The weights by formula: recordings need not carry them. Positions are those that every DiT has. */
function formulaWeights({ config, formula_seed, parameter_layout }: Described, file: string): ForeignWeights {
  const tensors = new Map<string, StoredTensor>();
  let bytes = 0;
  for (const { k, name, shape, scale } of parameter_layout) {
    const size = shape.reduce((a, b) => a * b, 1);
    let values = new Float32Array(size);
    if (name === 'pos_embed')
      values = Float32Array.from(positionEmbedding(config.input_size / config.patch_size, config.hidden_size));
    else formulaFill(values, k, formula_seed, scale ?? 0);
    const stored = new Uint8Array(values.buffer);
    tensors.set(name, {
      type: 'F32',
      shape,
      strides: contiguousStrides(shape),
      bytes: stored.length,
      load: async () => stored,
    });
    bytes += stored.length;
  }
  return { tensors, bytes, file };
}

/** Cases of the folder torch/; none where it is absent. */
export async function pytorchCases(engine: Engine, dir: GoldenDir, used: Set<string>): Promise<CaseGroup[]> {
  if (!dir.files.has(`${FOLDER}dit.json`)) return [];
  const reader = readerOf(dir, used);
  let network: Network | undefined;
  const cases = await casesOf('checkpoint', 'dit.json', async () => {
    const parsed = v.safeParse(schema, await reader.json(`${FOLDER}dit.json`));
    if (!parsed.success) throw new DataError(`${FOLDER}dit.json: ${parsed.issues[0].message}`);
    const described = parsed.output;
    const formula = formulaWeights(described, 'dit.json');
    const files = ['dit.pt', 'dit.safetensors'].filter((name) => dir.files.has(FOLDER + name));
    for (const file of files) used.add(FOLDER + file);
    const open = async (name: string) => {
      const checkpoint = await openCheckpoint(bytesSource(await reader.bytes(FOLDER + name)), name);
      return checkpoint.raw!;
    };
    const compared = files.map(
      (name): Case => ({
        ...{ kind: 'checkpoint', name, tolerance: 0 },
        run: async () => sameTensors(await open(name), formula),
      }),
    );
    const io = await reader.tensors(`${FOLDER}dit_io.safetensors`);
    if (!io) return compared;
    const load = shared(async () => {
      const raw = files[0] ? await open(files[0]) : formula;
      const checkpoint = { kind: 'golden', raw, ema: undefined, moments: undefined, step: undefined };
      const { config, params } = await importWeights(checkpoint, 'raw', {
        heads: described.config.num_heads,
        program: 'dit',
      });
      network = new Network(engine, config);
      network.place(params);
      return { network, config };
    });
    return [...compared, ...outputs(io, load)];
  });
  return [{ cases, skipped: [], dispose: () => network?.dispose() }];
}

/** Bit for bit, but for positions, which others compute. */
async function sameTensors(found: ForeignWeights, formula: ForeignWeights): Promise<Measured> {
  const errors: [string, number][] = [];
  for (const [name, wanted] of formula.tensors) {
    if (name === 'pos_embed') continue;
    const tensor = found.tensors.get(name);
    const ours = tensor ? await floatsOf(tensor, name) : new Float32Array();
    errors.push([
      name,
      `${tensor?.shape}` === `${wanted.shape}` ? relativeError(ours, await floatsOf(wanted, name)) : Number.NaN,
    ]);
  }
  return worst(errors);
}

/** [B, C, H, W] to [B, H, W, the first `kept` channels]. */
export function channelsLast(values: Float32Array, shape: readonly number[], kept: number): Float32Array {
  const [batch, channels, height, width] = shape as [number, number, number, number];
  const pixels = height * width;
  const out = new Float32Array(batch * pixels * kept);
  for (let b = 0, at = 0; b < batch; b++) {
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < kept; c++) out[at++] = values[(b * channels + c) * pixels + p]!;
    }
  }
  return out;
}

/** Channels that DiT's guidance is of; the others stay as they are. */
const GUIDED = 3;

type Loaded = { readonly network: Network; readonly config: ModelConfig };

function outputs(io: Tensors, load: () => Promise<Loaded>): Case[] {
  const evaluate = async (prefix: string) => {
    const { network, config } = await load();
    const { channels, timeScale = 1 } = config;
    const images = channelsLast(io.floats(`${prefix}x`), io.shape(`${prefix}x`), channels);
    const t = io.floats(`${prefix}t`).map((step) => step / timeScale);
    const labels = io.integers(`${prefix}y`);
    // Guidance evaluates the first half of the pictures with and without their labels.
    if (prefix !== '') images.copyWithin(images.length / 2, 0, images.length / 2);
    return { channels, batch: t.length, v: await network.velocity({ x: images, t, step: t.map(() => 0), labels }) };
  };
  const recorded = (name: string, channels: number) => channelsLast(io.floats(name), io.shape(name), channels);
  const guided = (name: string, scale: number): Case => ({
    ...{ kind: 'forward', name: `dit_guided_${scale}`, tolerance: TOLERANCES.pytorch },
    run: async () => {
      const { v, channels, batch } = await evaluate('cfg_');
      const half = v.length / 2;
      const out = v.map((value, i) => {
        if (i % channels >= GUIDED) return value;
        const [given, none] = [v[i % half]!, v[half + (i % half)]!];
        return none + scale * (given - none);
      });
      return worstSample(out, recorded(name, channels), batch);
    },
  });
  return [
    {
      ...{ kind: 'forward', name: 'dit', tolerance: TOLERANCES.pytorch },
      run: async () => {
        const { v, channels, batch } = await evaluate('');
        return worstSample(v, recorded('out', channels), batch);
      },
    },
    guided('cfg_out_scale1_5', 1.5),
    guided('cfg_out_scale4', 4),
  ];
}
