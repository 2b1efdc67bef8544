/**
 * A model's parameters: their names (those of the Flax reference), shapes and initialisation, and where each lies in the
 * contiguous buffer of its group. Groups are `patches`, `condition`, for every block `block{i}.modulation` and `block{i}`, then
 * `head.modulation` and `head`: a block's weights can be loaded, moved and dropped as one range, and so can what depends only
 * on the condition (time, step, label, length), which sampling may compute ahead.
 */
import { CheckpointError } from '../engine/errors.ts';
import { normals, type RandomSource, uniforms } from '../engine/philox.ts';
import { turns } from '../engine/turns.ts';
import { type ModelConfig, patchSize } from './config.ts';

/** How a parameter starts: zeros, normal with a standard deviation, or uniform in [-limit, limit]. */
export type Init =
  | { readonly kind: 'zero' }
  | { readonly kind: 'normal'; readonly std: number }
  | { readonly kind: 'uniform'; readonly limit: number };

/** One parameter, and where it lies in its group. */
export interface ParamSpec {
  /** Flax path joined with "/", for example DiTBlock_0/Dense_1/kernel. */
  readonly name: string;
  /** Row-major; kernels are [inputs, outputs], the patch embedding's [patch, patch, channels, width]. */
  readonly shape: readonly number[];
  /** Product of the shape. */
  readonly size: number;
  /** First element in the group's buffer, in floats; a multiple of ALIGNMENT. */
  readonly offset: number;
  readonly init: Init;
}

/** Parameters that lie in one buffer: an embedder, the modulation or the rest of a block, the head. */
export interface ParamGroup {
  readonly name: string;
  readonly specs: readonly ParamSpec[];
  /** Floats of the group's buffer, padding (always zero) included; a multiple of ALIGNMENT. */
  readonly length: number;
}

/** All parameters of a model, in groups that are loaded and dropped alone. */
export interface ParamLayout {
  /** In the order that the file comment gives. */
  readonly groups: readonly ParamGroup[];
  /** Number of parameters, padding not counted. */
  readonly count: number;
}

/** Values for a layout: one buffer per group, in the layout's order. */
export interface ParamSet {
  readonly layout: ParamLayout;
  readonly groups: readonly Float32Array[];
}

/** Floats to which offsets are aligned: 64, that is 256 bytes, what WebGPU asks of a binding's offset. */
export const ALIGNMENT = 64;

/** Sinusoidal features that the time and step embedders start from. */
const FREQUENCY_FEATURES = 256;

/** Rows of the reference's table of log-variances, which does not affect the velocity. */
const LOGVAR_ROWS = 256;

/** The random stream that initial values are drawn from; `step` numbers the parameter in the layout's order. */
const INIT_STREAM = 0x494e4954;

/** A parameter that has no place yet. */
export type Draft = Omit<ParamSpec, 'offset' | 'size'>;

/** Starts as nothing. */
export const zero: Init = { kind: 'zero' };
const embedding: Init = { kind: 'normal', std: 0.02 };

/** Uniform with variance 2 / (fanIn + fanOut) (Glorot and Bengio, 2010). */
function xavier(fanIn: number, fanOut: number): Init {
  return { kind: 'uniform', limit: Math.sqrt(6 / (fanIn + fanOut)) };
}

/** A dense layer: kernel and bias. */
export function linear(path: string, inputs: number, outputs: number, init = xavier(inputs, outputs)): Draft[] {
  return [
    { name: `${path}/kernel`, shape: [inputs, outputs], init },
    { name: `${path}/bias`, shape: [outputs], init: zero },
  ];
}

function embedderDrafts(path: string, width: number): Draft[] {
  return [
    ...linear(`${path}/Dense_0`, FREQUENCY_FEATURES, width, embedding),
    ...linear(`${path}/Dense_1`, width, width, embedding),
  ];
}

/** The patch embedding. */
export function patchDrafts({ patch, channels, width }: Pick<ModelConfig, 'patch' | 'channels' | 'width'>): Draft[] {
  // Fans of a convolution as Flax counts them: the receptive field multiplies both.
  const init = xavier(patch ** 2 * channels, patch ** 2 * width);
  return [
    { name: 'PatchEmbed_0/Conv_0/kernel', shape: [patch, patch, channels, width], init },
    { name: 'PatchEmbed_0/Conv_0/bias', shape: [width], init: zero },
  ];
}

function conditionDrafts({ width, classes, depth, lengths }: ModelConfig): Draft[] {
  const table = (name: string, rows: number): Draft => ({ name, shape: [rows, width], init: embedding });
  return [
    ...embedderDrafts('TimestepEmbedder_0', width),
    ...embedderDrafts('TimestepEmbedder_1', width),
    table('LabelEmbedder_0/Embed_0/embedding', classes + 1),
    ...(lengths === null ? [] : [table('BlockEmbedder_0/Embed_0/embedding', depth + 1)]),
    { name: 'Embed_0/embedding', shape: [LOGVAR_ROWS, 1], init: zero },
  ];
}

/** Everything of a block but its modulation; the kernels of k, q, v in a row. */
export function blockDrafts(block: number, { width, mlpRatio }: Pick<ModelConfig, 'width' | 'mlpRatio'>): Draft[] {
  const hidden = mlpRatio * width;
  const path = `DiTBlock_${block}`;
  const projections = ['Dense_1', 'Dense_2', 'Dense_3'].map((name) => linear(`${path}/${name}`, width, width));
  return [
    ...projections.map(([kernel]) => kernel!),
    ...projections.map(([, bias]) => bias!),
    ...linear(`${path}/Dense_4`, width, width),
    ...linear(`${path}/MlpBlock_0/Dense_0`, width, hidden),
    ...linear(`${path}/MlpBlock_0/Dense_1`, hidden, width),
  ];
}

/** A group of these parameters, one after another. */
export function placed(name: string, drafts: readonly Draft[]): ParamGroup {
  let length = 0;
  const specs = drafts.map((draft) => {
    const size = draft.shape.reduce((a, b) => a * b, 1);
    const spec: ParamSpec = { ...draft, size, offset: length };
    length += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    return spec;
  });
  return { name, specs, length };
}

/** Every parameter of a model, in groups. A conventional model (lengths null) has no length embedding. */
export function paramLayout(config: ModelConfig): ParamLayout {
  const { width, depth } = config;
  const blocks = Array.from({ length: depth }, (_, i) => [
    placed(`block${i}.modulation`, linear(`DiTBlock_${i}/Dense_0`, width, 6 * width)),
    placed(`block${i}`, blockDrafts(i, config)),
  ]);
  const groups = [
    placed('patches', patchDrafts(config)),
    placed('condition', conditionDrafts(config)),
    ...blocks.flat(),
    placed('head.modulation', linear('FinalLayer_0/Dense_0', width, 2 * width, zero)),
    placed('head', linear('FinalLayer_0/Dense_1', width, patchSize(config), zero)),
  ];
  return layoutOf(groups);
}

/** The layout of these groups. */
export function layoutOf(groups: readonly ParamGroup[]): ParamLayout {
  const count = groups.reduce((sum, group) => sum + group.specs.reduce((s, spec) => s + spec.size, 0), 0);
  return { groups, count };
}

/** Indices of a layout's groups by what they are for. */
export function groupIndices(config: ModelConfig) {
  return {
    patches: 0,
    condition: 1,
    modulation: (block: number) => 2 + 2 * block,
    block: (block: number) => 3 + 2 * block,
    headModulation: 2 + 2 * config.depth,
    head: 3 + 2 * config.depth,
  };
}

/** All specs of a layout, group by group: the order of tensors in odelt's weight files. */
export function allSpecs(layout: ParamLayout): ParamSpec[] {
  return layout.groups.flatMap((group) => group.specs);
}

/** Zeros for a layout: to be filled, or moments and gradients that start at zero. */
export function zeroParams(layout: ParamLayout): ParamSet {
  return { layout, groups: layout.groups.map((group) => new Float32Array(group.length)) };
}

/** Every parameter with its values (a view of its group's buffer, row-major), in the layout's order. */
export function* paramEntries(set: ParamSet): Generator<{ spec: ParamSpec; group: number; values: Float32Array }> {
  for (const [group, { specs }] of set.layout.groups.entries()) {
    for (const spec of specs) {
      yield { spec, group, values: set.groups[group]!.subarray(spec.offset, spec.offset + spec.size) };
    }
  }
}

/** Values by name, as views of the groups' buffers: writing to one changes the set. */
export function paramsByName(set: ParamSet): Map<string, Float32Array> {
  return new Map(Array.from(paramEntries(set), ({ spec, values }) => [spec.name, values]));
}

function draw(out: Float32Array, init: Init, source: RandomSource): void {
  if (init.kind === 'normal') {
    out.set(normals(source, out.length));
    for (let i = 0; i < out.length; i++) out[i]! *= init.std;
  } else if (init.kind === 'uniform') {
    out.set(uniforms(source, out.length));
    for (let i = 0; i < out.length; i++) out[i] = (2 * out[i]! - 1) * init.limit;
  }
}

/**
 * Initial parameters: Xavier-uniform linears and patch embedding, zero biases, normal(0.02) label and length tables and
 * time and step embedders, zeros in the final layer (and in the table of log-variances, which nothing reads).
 * `seed` is an integer in [0, 2^32), else ConfigError.
 */
export const initParams = (config: ModelConfig, seed: number): ParamSet => initialValues(paramLayout(config), seed);

/** Initial values of a layout, each parameter by its own rule. `seed` as in `initParams`. Zeros where the parameter is not `wanted`. */
export function initialValues(
  layout: ParamLayout,
  seed: number,
  wanted: (spec: ParamSpec) => boolean = () => true,
): ParamSet {
  const set = zeroParams(layout);
  for (const _ of drawing(set, seed, wanted));
  return set;
}

/** As `initParams`, with turns for others in between: large models take minutes. */
export async function initParamsInTurns(config: ModelConfig, seed: number): Promise<ParamSet> {
  const set = zeroParams(paramLayout(config));
  const turn = turns();
  for (const _ of drawing(set, seed)) await turn();
  return set;
}

/** Draws the initial values, one parameter at a time. */
function* drawing(set: ParamSet, seed: number, wanted: (spec: ParamSpec) => boolean = () => true): Generator<void> {
  let step = 0;
  for (const { spec, values } of paramEntries(set)) {
    const source = { seed, stream: INIT_STREAM, step: step++ };
    if (wanted(spec)) draw(values, spec.init, source);
    yield;
  }
}

/** What a named tensor of a weight file gives: its shape and its values as float32. */
export interface TensorSource {
  has(name: string): boolean;
  shape(name: string): readonly number[];
  floats(name: string): Float32Array;
}

/**
 * Parameters read from a weight file. Tensors that the model does not know are left alone. Throws CheckpointError naming
 * the first parameter that is missing or has another shape.
 */
export function paramsFrom(layout: ParamLayout, source: TensorSource, label = 'the weights'): ParamSet {
  for (const spec of allSpecs(layout)) {
    if (!source.has(spec.name)) {
      throw new CheckpointError(`${label}: parameter ${spec.name} is missing`, {
        hint: 'the file belongs to another kind of model or to a smaller one',
      });
    }
    const found = source.shape(spec.name);
    if (found.length !== spec.shape.length || found.some((size, i) => size !== spec.shape[i])) {
      throw new CheckpointError(`${label}: ${spec.name} has shape [${found}], the model needs [${spec.shape}]`, {
        hint: 'use the configuration that the weights were trained with',
      });
    }
  }
  const set = zeroParams(layout);
  for (const { spec, values } of paramEntries(set)) values.set(source.floats(spec.name));
  return set;
}
