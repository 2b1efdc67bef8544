/** Autoencoders of latents: recorded encodes and decodes on the GPU, files of weights against the formula that gave them, and the Gaussian. */
import * as v from 'valibot';
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import { bytesSource } from '../formats/byte-source.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { contiguousStrides, type StoredTensor } from '../formats/stored-tensor.ts';
import { type Autoencoder, createAutoencoder, type PictureBatch } from '../model/autoencoder/autoencoder.ts';
import { gaussianDivergence, gaussianOf, gaussianSample } from '../model/autoencoder/gaussian.ts';
import { type ImportedAutoencoder, importAutoencoder } from '../model/autoencoder/import.ts';
import type { ForeignWeights } from '../model/weights/imports/foreign.ts';
import { openCheckpoint } from '../model/weights/imports/open.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  relativeError,
  scalarError,
  TOLERANCES,
  worst,
  worstSample,
} from './case.ts';
import { readerOf } from './checkpoints.ts';
import { formulaFill } from './formula-params.ts';
import type { GoldenDir } from './golden.ts';
import { channelsLast } from './pytorch.ts';

const layout = v.array(
  v.looseObject({ k: v.number(), name: v.string(), shape: v.array(v.number()), offset: v.number(), scale: v.number() }),
);
export type Leaves = v.InferOutput<typeof layout>;

/** Of TAESD: an encoder and a decoder, each with its own formula. */
const halves = { seed_encoder: v.number(), seed_decoder: v.number(), encoder_layout: layout, decoder_layout: layout };

const schema = v.looseObject({
  model: v.string(),
  config: v.optional(v.looseObject({})),
  n_params: v.optional(v.number(), 0),
  formula_seed: v.optional(v.number()),
  formula_seed_strong: v.optional(v.number()),
  parameter_layout: v.optional(layout),
  ...v.partial(v.object(halves)).entries,
  /** Of taef2, whose recordings are of released weights first. */
  formula: v.optional(v.looseObject(halves)),
});
type Described = v.InferOutput<typeof schema>;

/** Folders of recorded autoencoders, in the directory itself or in vae/. */
export function autoencoderFolders(dir: GoldenDir): string[] {
  return [...dir.files.keys()]
    .filter((path) => /^(vae\/)?[^/]+\/info\.json$/.test(path))
    .map((path) => path.slice(0, -'info.json'.length))
    .sort();
}

/** The tensors of a state_dict by formula; `strong`: parameters that make attention matter. */
export function formulaWeights(leaves: Leaves, seed: number, file: string, strong = false): ForeignWeights {
  const tensors = new Map<string, StoredTensor>();
  let bytes = 0;
  for (const { k, name, shape, offset, scale } of leaves) {
    const size = shape.reduce((a, b) => a * b, 1);
    const isNorm = offset !== 0 || scale === 0.1;
    const fanIn = size / shape[0]!;
    const larger = shape.length > 1 ? 3 / Math.sqrt(fanIn) : isNorm ? 0.5 : 0.2;
    const load = async () => {
      const values = new Float32Array(size);
      formulaFill(values, k, seed, strong ? larger : scale, offset);
      return new Uint8Array(values.buffer);
    };
    tensors.set(name, { type: 'F32', shape, strides: contiguousStrides(shape), bytes: 4 * size, load });
    bytes += 4 * size;
  }
  return { tensors, bytes, file };
}

/** Files of weights, and the folder whose formula they are of where that is another. */
const WEIGHTS = [
  { folder: '', file: 'diffusion_pytorch_model.safetensors' },
  { folder: '_oldnames', file: 'diffusion_pytorch_model.safetensors' },
] as const;
/** In halves, in the original naming: its outputs are recorded. */
const HALVES_FOLDER = { folder: '_ldm_f16', file: 'model.safetensors' } as const;

/** [B, C, H, W] of a file as [B, H, W, C]. */
function batchOf(io: Tensors, name: string): PictureBatch {
  const [batch, channels, height, width] = io.shape(name) as [number, number, number, number];
  return {
    values: channelsLast(io.floats(name), [batch, channels, height, width], channels),
    shape: [batch, height, width, channels],
  };
}

/** What recorded cases of a set of weights need: the autoencoder that has them. */
type Load = (imported: () => Promise<ImportedAutoencoder>) => Promise<Autoencoder>;

/** Of Stable Diffusion's configuration, as deep as it is, by the largest value. */
function byLargest(actual: Float32Array, expected: Float32Array): Measured {
  if (actual.length !== expected.length) return { error: Number.NaN, detail: 'the numbers of elements differ' };
  const largest = expected.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  const off = expected.reduce((a, x, i) => Math.max(a, Math.abs(x - actual[i]!)), 0);
  return { error: off / largest, detail: 'largest difference by largest value' };
}

/** Parameters to the bit, after both have been turned our way. */
function sameParams(found: ImportedAutoencoder, wanted: ImportedAutoencoder): Measured {
  return worst(
    wanted.params.layout.groups.map(
      ({ name }, g) =>
        [name, relativeError(found.params.groups[g] ?? new Float32Array(), wanted.params.groups[g]!)] as const,
    ),
  );
}

/** Cases `enc_*` and `dec_*` of AutoencoderKL in io, those that begin with `prefix`; x and noise are without it. */
function klCases(
  io: Tensors,
  prefix: string,
  tolerance: number,
  load: () => Promise<Autoencoder>,
  deep: boolean,
): Case[] {
  const names = io.names();
  const compare = (actual: PictureBatch, name: string) => {
    const wanted = batchOf(io, name);
    return deep ? byLargest(actual.values, wanted.values) : worstSample(actual.values, wanted.values, wanted.shape[0]);
  };
  return names.flatMap((name): Case[] => {
    if (!name.startsWith(prefix)) return [];
    const [id, output, ...rest] = name.slice(prefix.length).split('/');
    if (rest.length > 0 || !id) return [];
    const kind = 'autoencoder' as const;
    if (output === 'image') {
      const run = async () => compare(await (await load()).raw('decoder', batchOf(io, `${id}/z`)), name);
      return [{ kind, name: prefix + id, tolerance, run }];
    }
    if (output !== 'moments') return [];
    const run = async () => {
      const moments = await (await load()).raw('encoder', batchOf(io, `${id}/x`));
      const found: [string, number][] = [['moments', compare(moments, name).error]];
      if (names.includes(`${prefix}${id}/sample`)) {
        const channels = moments.shape[3] / 2;
        const noise = batchOf(io, `${id}/noise`);
        const values = gaussianSample(gaussianOf(moments.values, channels), noise.values);
        found.push(['sample', compare({ values, shape: noise.shape }, `${prefix}${id}/sample`).error]);
      }
      return worst(found);
    };
    return [{ kind, name: prefix + id, tolerance, run }];
  });
}

/** Pictures in [0, 1] as ours are. */
const toSigned = ({ values, shape }: PictureBatch): PictureBatch => ({ values: values.map((x) => 2 * x - 1), shape });
const toUnit = ({ values, shape }: PictureBatch): PictureBatch => ({ values: values.map((x) => x / 2 + 0.5), shape });

/** Cases of the TAESD family: latents of `image01`, and pictures of latents. */
function tinyCases(io: Tensors, prefix: string, load: () => Promise<Autoencoder>): Case[] {
  const compare = (actual: PictureBatch, name: string): readonly [string, number] => {
    const wanted = batchOf(io, name);
    return [name, worstSample(actual.values, wanted.values, wanted.shape[0]).error];
  };
  const ids = [...new Set(io.names().map((name) => name.split('/')[0]!))].filter((id) => /^(enc|dec)_/.test(id));
  return ids.map((id) => {
    const has = (name: string) => io.names().includes(`${id}/${name}`);
    const run = async () => {
      const network = await load();
      const found: (readonly [string, number])[] = [];
      if (has('image01')) {
        const latents = await network.raw('encoder', toSigned(batchOf(io, `${id}/image01`)));
        found.push(compare(latents, `${id}/latents`));
      }
      for (const image of ['image_unclamped', 'decoded_unclamped'].filter(has)) {
        const decoded = await network.raw('decoder', batchOf(io, `${id}/latents`));
        found.push(compare(toUnit(decoded), `${id}/${image}`));
      }
      return worst(found);
    };
    return { kind: 'autoencoder', name: prefix + id, tolerance: TOLERANCES.autoencoder, run };
  });
}

/** diffusers' AutoencoderTiny: one encode and decode of pictures in [-1, 1]. */
const signedCase = (io: Tensors, load: () => Promise<Autoencoder>): Case => ({
  ...{ kind: 'autoencoder', name: 'pictures', tolerance: TOLERANCES.autoencoder },
  run: async () => {
    const network = await load();
    const [picture, latents, decoded] = ['image_pm1', 'latents', 'decoded_pm1'].map((name) => batchOf(io, name));
    const errors = [
      ['latents', await network.raw('encoder', picture!), latents!],
      ['decoded', await network.raw('decoder', latents!), decoded!],
    ] as const;
    return worst(errors.map(([name, got, want]) => [name, worstSample(got.values, want.values, want.shape[0]).error]));
  },
});

/** The diagonal Gaussian, without a GPU. */
async function gaussianCases(io: Tensors): Promise<Case[]> {
  const of = (name: string) => batchOf(io, name).values;
  const run = async () => {
    const channels = io.shape('mean')[1]!;
    const [first, second] = ['moments', 'moments2'].map((name) => gaussianOf(of(name), channels));
    const size = first!.mean.length / 2;
    const divergences = [0, 1].map((i) => {
      const part = (values: Float32Array) => values.subarray(i * size, (i + 1) * size);
      return gaussianDivergence({ mean: part(second!.mean), logvar: part(second!.logvar) });
    });
    return worst([
      ['mean', relativeError(first!.mean, of('mean'))],
      ['logvar', relativeError(first!.logvar, of('logvar'))],
      ['sample', relativeError(gaussianSample(first!, of('noise')), of('sample'))],
      ['sample2', relativeError(gaussianSample(second!, of('noise')), of('sample2'))],
      ...divergences.map((kl, i) => [`kl ${i}`, scalarError(kl, io.floats('kl2')[i]!)] as const),
    ]);
  };
  return [{ kind: 'autoencoder', name: 'gaussian', tolerance: TOLERANCES.gaussian, run }];
}

/** What the cases are looked for with. */
export interface AutoencoderOptions {
  /** Networks of more parameters are left out. */
  readonly most: number;
  readonly onSkipped?: ((what: string) => void) | undefined;
}

/** A group for each recorded autoencoder; none where there is no folder with an info.json. */
export async function autoencoderCases(
  engine: Engine,
  dir: GoldenDir,
  used: Set<string>,
  { most, onSkipped }: AutoencoderOptions,
): Promise<{ readonly model: string; readonly groups: CaseGroup[] }[]> {
  const reader = readerOf(dir, used);
  const weightsOf = async (path: string): Promise<ForeignWeights> => {
    const checkpoint = await openCheckpoint(bytesSource(await reader.bytes(path)), path);
    return checkpoint.raw!;
  };
  const plans: { model: string; groups: CaseGroup[] }[] = [];
  const gaussian = ['vae/gaussian.safetensors', 'gaussian.safetensors'].find((path) => dir.files.has(path));
  if (gaussian) {
    const cases = await casesOf('autoencoder', gaussian, async () => gaussianCases((await reader.tensors(gaussian))!));
    plans.push({ model: 'vae', groups: [{ cases, skipped: [], dispose: () => {} }] });
  }
  for (const folder of autoencoderFolders(dir)) {
    const model = folder.slice(0, -1);
    // One at a time on the GPU: cases of one set of weights follow each other.
    let current: { key: string; made: Autoencoder } | undefined;
    const loader =
      (key: string): Load =>
      async (imported) => {
        if (current?.key !== key) {
          current?.made.dispose();
          current = undefined;
          current = { key, made: await createAutoencoder(engine, await imported()) };
        }
        return current.made;
      };
    const cases = await casesOf('autoencoder', 'info.json', async () => {
      const parsed = v.safeParse(schema, await reader.json(`${folder}info.json`));
      if (!parsed.success) throw new DataError(`${folder}info.json: ${parsed.issues[0].message}`);
      const described = parsed.output;
      for (const path of dir.files.keys()) if (path === `${folder}config.json`) used.add(path);
      if (described.n_params > most) {
        for (const path of dir.files.keys()) if (path.startsWith(folder)) used.add(path);
        onSkipped?.(`${model}: ${described.n_params.toLocaleString('en')} parameters (ask for large cases)`);
        return [];
      }
      const found: Case[] = [];
      const io = await reader.tensors(`${folder}io.safetensors`);
      if (described.parameter_layout && described.formula_seed !== undefined) {
        found.push(...(await wholeCases({ described, folder, io, loader, deep: described.n_params > DEEP })));
      }
      if (described.encoder_layout && io) {
        const imported = () => importAutoencoder(halvesOf(described as Required<Described>, model));
        found.push(...tinyCases(io, '', () => loader('formula')(imported)));
      }
      if (described.formula) {
        const formula = await reader.tensors(`${folder}formula_io.safetensors`);
        const imported = () => importAutoencoder(halvesOf(described.formula!, model));
        if (formula) found.push(...tinyCases(formula, 'formula/', () => loader('formula')(imported)));
        found.push(...releasedCases(io, folder, loader('released')));
      }
      return found;
    });
    plans.push({ model, groups: [{ cases, skipped: [], dispose: () => current?.made.dispose() }] });
  }
  return plans;

  /** Cases of TAESD's released weights, where they are beside the recordings. */
  function releasedCases(io: Tensors | undefined, folder: string, load: Load): Case[] {
    if (!io) return [];
    const name = folder.split('/').at(-2)!;
    const files = ['encoder', 'decoder'].map((half) =>
      [...dir.files.keys()].find((path) => path.endsWith(`${name}_${half}.pth`)),
    );
    if (files.some((path) => path === undefined)) {
      onSkipped?.(
        `${folder}io.safetensors (the released weights ${name}_encoder.pth and ${name}_decoder.pth are not there)`,
      );
      return [];
    }
    for (const path of files) used.add(path!);
    const imported = async () => importAutoencoder([await weightsOf(files[0]!), await weightsOf(files[1]!)]);
    return tinyCases(io, '', () => load(imported));
  }

  /** Cases of an autoencoder in one state_dict: AutoencoderKL and AutoencoderTiny. */
  async function wholeCases(of: {
    described: Described;
    folder: string;
    io: Tensors | undefined;
    loader: (key: string) => Load;
    deep: boolean;
  }): Promise<Case[]> {
    const { described, folder, io, loader, deep } = of;
    const { parameter_layout: leaves = [], formula_seed: seed = 0, formula_seed_strong: strongSeed } = described;
    const config = dir.files.has(`${folder}config.json`) ? await reader.json(`${folder}config.json`) : described.config;
    const formula = (strong = false) =>
      importAutoencoder([formulaWeights(leaves, strong ? strongSeed! : seed, folder, strong)], config);
    const beside = (suffix: string, file: string) => `${folder.slice(0, -1)}${suffix}/${file}`;
    const found: Case[] = WEIGHTS.flatMap(({ folder: suffix, file }) => {
      const path = beside(suffix, file);
      if (!dir.files.has(path)) return [];
      used.add(path);
      used.add(beside(suffix, 'config.json'));
      const run = async () => sameParams(await importAutoencoder([await weightsOf(path)], config), await formula());
      return [{ kind: 'checkpoint', name: `${suffix.slice(1) || 'weights'}`, tolerance: 0, run }];
    });
    if (!io) return found;
    if (described.model === 'AutoencoderTiny')
      return [...found, signedCase(io, () => loader('formula')(() => formula()))];
    const tolerance = deep ? TOLERANCES.deepAutoencoder : TOLERANCES.autoencoder;
    found.push(...klCases(io, '', tolerance, () => loader('formula')(() => formula()), deep));
    if (strongSeed !== undefined) {
      found.push(...klCases(io, 'strong/', TOLERANCES.autoencoder, () => loader('strong')(() => formula(true)), deep));
    }
    const halved = beside(HALVES_FOLDER.folder, HALVES_FOLDER.file);
    if (dir.files.has(halved)) {
      used.add(halved);
      const imported = async () => importAutoencoder([await weightsOf(halved)], config);
      found.push(...klCases(io, 'ldm_f16/', TOLERANCES.autoencoder, () => loader('ldm_f16')(imported), deep));
    }
    return found;
  }
}

/** Parameters above which errors are compared by the largest value: sums over thousands of terms, thirty layers deep. */
const DEEP = 10_000_000;

function halvesOf(
  d: Pick<Required<Described>, 'encoder_layout' | 'decoder_layout' | 'seed_encoder' | 'seed_decoder'>,
  model: string,
): ForeignWeights[] {
  return [
    formulaWeights(d.encoder_layout!, d.seed_encoder!, `${model}, encoder`),
    formulaWeights(d.decoder_layout!, d.seed_decoder!, `${model}, decoder`),
  ];
}
