/**
 * What is compared: sizes and inputs of every workload, the same numbers for everybody. The mathematics is in reference.mjs.
 *
 * @typedef {'product' | 'attention' | 'layernorm' | 'block' | 'gradient' | 'train' | 'decoder' | 'stage'} Kind
 * @typedef {{ kind: Kind, size: Record<string, number> }} Workload
 * @typedef {{ shape: number[], data: Float32Array }} Input
 */
import { inputShape, layersOf, layerWeights } from './autoencoder.mjs';

const base = { tokens: 256, width: 768, heads: 12, depth: 1 };

/** By the names that --workloads takes, in the order of the table. @type {Record<string, Workload>} */
export const WORKLOADS = {
  product: { kind: 'product', size: { rows: 1024, inner: 1024, columns: 1024 } },
  'attention-b1': { kind: 'attention', size: { ...base, batch: 1 } },
  'attention-b4': { kind: 'attention', size: { ...base, batch: 4 } },
  'layernorm-b4': { kind: 'layernorm', size: { ...base, batch: 4 } },
  'block-b1': { kind: 'block', size: { ...base, batch: 1 } },
  'block-b4': { kind: 'block', size: { ...base, batch: 4 } },
  'gradient-b1': { kind: 'gradient', size: { ...base, batch: 1 } },
  'gradient-b4': { kind: 'gradient', size: { ...base, batch: 4 } },
  train: { kind: 'train', size: { batch: 32, tokens: 49, width: 64, heads: 4, depth: 4 } },
  'decoder-16': { kind: 'decoder', size: { side: 16, latent: 4, width: 64, blocks: 3, doublings: 3 } },
  'vae-stage': { kind: 'stage', size: { side: 32, input: 256, output: 128 } },
};

/** What a workload is, in words: for the report. */
export function describe({ kind, size: s }) {
  const rows = `batch ${s.batch}, ${s.tokens} tokens`;
  switch (kind) {
    case 'product':
      return `f32 product, ${s.rows} x ${s.inner} by ${s.inner} x ${s.columns}`;
    case 'attention':
      return `attention, ${rows}, ${s.heads} heads of ${s.width / s.heads}`;
    case 'layernorm':
      return `layer norm and modulation, ${rows}, width ${s.width}`;
    case 'block':
      return `DiT block forward, ${rows}, width ${s.width}`;
    case 'gradient':
      return `DiT block forward and backward (all weights and x), ${rows}, width ${s.width}`;
    case 'train':
      return `training step with AdamW, ${s.depth} DiT blocks, ${rows}, width ${s.width}`;
    case 'decoder': {
      const pixels = s.side * 2 ** s.doublings;
      return `decoder of the TAESD family, ${s.side} x ${s.side} latents of ${s.latent} to ${pixels} x ${pixels} pixels, width ${s.width}`;
    }
    case 'stage':
      return `a level of Stable Diffusion's decoder, ${s.side} x ${s.side} pixels doubled, ${s.input} to ${s.output} channels`;
    default:
      throw new Error(`unknown kind of workload '${kind}'`);
  }
}

/** Layer norm's epsilon. */
export const EPSILON = 1e-6;

/**
 * AdamW's numbers. Its epsilon is far above the rounding of a gradient: the gradient of the keys' bias is zero but for rounding,
 * and with 1e-8 its update would be noise of full size, which nobody's result could be held to.
 */
export const ADAMW = { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-4, decay: 0.1 };

/** Dense layers of a block: name, inputs and outputs per width. */
export const LAYERS = [
  ['mod', 1, 6],
  ['q', 1, 1],
  ['k', 1, 1],
  ['v', 1, 1],
  ['o', 1, 1],
  ['up', 1, 4],
  ['down', 4, 1],
];

/** Names and shapes of the weights of all blocks, `BLOCK.LAYER.w` [in, out] and `BLOCK.LAYER.b` [out]. @returns {[string, number[]][]} */
export function weightShapes({ width, depth }) {
  return Array.from({ length: depth }, (_, i) =>
    LAYERS.flatMap(([name, from, to]) => [
      [`${i}.${name}.w`, [from * width, to * width]],
      [`${i}.${name}.b`, [to * width]],
    ]),
  ).flat();
}

/** Inputs that are no weights. @returns {[string, number[]][]} */
function dataShapes(workload) {
  const { kind, size } = workload;
  const { rows, inner, columns, batch, tokens, width } = size;
  const sequence = [batch, tokens, width];
  switch (kind) {
    case 'product':
      return [
        ['a', [rows, inner]],
        ['b', [inner, columns]],
      ];
    case 'attention':
      return ['q', 'k', 'v'].map((name) => [name, sequence]);
    case 'layernorm':
      return [
        ['x', sequence],
        ['modulation', [batch, 2 * width]],
      ];
    case 'decoder':
    case 'stage':
      return [['x', inputShape(workload)]];
    default: {
      const common = [
        ['x', sequence],
        ['c', [batch, width]],
      ];
      if (kind === 'gradient') return [...common, ['dy', sequence]];
      return kind === 'train' ? [...common, ['target', sequence]] : common;
    }
  }
}

/** Whether the workload is of pictures, and its layers those of autoencoder.mjs. */
export const isPictures = ({ kind }) => kind === 'decoder' || kind === 'stage';

/** Whether the workload runs blocks, and so has their weights. */
export const hasWeights = ({ kind }) => kind === 'block' || kind === 'gradient' || kind === 'train';

/** Standard normal numbers from a seed (mulberry32, Box and Muller). */
function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

const hash = (text) => [...text].reduce((h, ch) => Math.imul(h ^ ch.charCodeAt(0), 16777619), 2166136261);

/** All inputs of a workload by name, weights included; each a pure function of its name and shape. @returns {Record<string, Input>} */
export function inputsOf(workload) {
  const pictures = isPictures(workload) ? layersOf(workload).flatMap(layerWeights) : [];
  const weights = hasWeights(workload) ? weightShapes(workload.size) : pictures;
  const make = ([name, shape]) => {
    const normal = normals(hash(`${name} ${shape}`));
    // Activations stay near one from layer to layer.
    const scale = name.endsWith('.w') ? 1 / Math.sqrt(shape[0]) : name.endsWith('.b') ? 0.1 : 1;
    const gain = name.endsWith('.g');
    const next = () => (gain ? 1 + normal() / 4 : scale * normal());
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next);
    return [name, { shape, data }];
  };
  return Object.fromEntries([...dataShapes(workload), ...weights].map(make));
}

/** Only those inputs that are weights. */
export const weightsIn = (inputs) => Object.fromEntries(Object.entries(inputs).filter(([name]) => /^\d+\./.test(name)));
