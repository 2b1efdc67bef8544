/**
 * The way of docs/latents.md with files of the released models' layout but parameters by a formula: a DiT-XL/2 and Stable Diffusion's
 * autoencoder are written as their authors' programs write them, the DiT is converted, its 28 blocks streamed through a budget of GPU
 * buffers, and its latents kept and decoded to a picture of 256 pixels. Needs about 5 GB of disk and of memory. Every part that is there is kept, so that
 * the same command goes on after an interruption.
 *   npm run build && node scripts/latents-end-to-end.mjs [FOLDER] [--program dit|sit] [--steps 2] [--max-memory 400MB] [--adapter lavapipe]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeMachine } from '../dist/bench/machine.node.js';
import { writeSafetensors } from '../dist/formats/safetensors.node.js';
import { klNetwork, parseKlConfig } from '../dist/model/autoencoder/kl.js';
import { autoencoderLayout } from '../dist/model/autoencoder/network.js';
import { positionEmbedding } from '../dist/model/position.js';
import { formulaFill } from '../dist/verify/formula-params.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    program: { type: 'string', default: 'dit' },
    steps: { type: 'string', default: '2' },
    'max-memory': { type: 'string', default: '400MB' },
    adapter: { type: 'string' },
  },
});
const folder = positionals[0] ?? join('out', 'latents-end-to-end');
const { program } = flags;
mkdirSync(folder, { recursive: true });
const log = (text) => process.stderr.write(`${text}\n`);
const at = (...path) => join(folder, ...path);

/** Makes a file under another name first, so that one that is there is whole. */
async function unlessThere(path, make) {
  if (existsSync(path)) return log(`${path} is there`);
  const began = performance.now();
  await make(`${path}.part`);
  renameSync(`${path}.part`, path);
  log(`wrote ${path} in ${((performance.now() - began) / 1000).toFixed(0)} s`);
}

/** Tensors [name, shape, values?] in order, those without values by the formula; of one at a time there is memory. */
function tensorsOf(leaves) {
  const began = performance.now();
  let held = { k: -1, values: null };
  const make = (k) => {
    const [name, shape, given] = leaves[k];
    if (performance.now() - began > 2000) {
      process.stderr.write(`\r${k + 1}/${leaves.length} tensors${k === leaves.length - 1 ? '\n' : ''}`);
    }
    if (given) return given;
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const isNorm = /norm/.test(name) && shape.length === 1;
    const scale = shape.length > 1 ? 1 / Math.sqrt(values.length / shape[0]) : isNorm ? 0.1 : 0.02;
    formulaFill(values, k, 1, scale, isNorm && name.endsWith('weight') ? 1 : 0);
    return values;
  };
  return leaves.map(([name, shape], k) => ({
    ...{ name, shape, dtype: 'F32' },
    get values() {
      if (held.k !== k) held = { k, values: make(k) };
      return held.values;
    },
  }));
}

/** The state_dict of facebookresearch/DiT's DiT-XL/2 for 32 x 32 x 4 latents, with variances (learn_sigma); SiT's has the same names. */
function ditLeaves() {
  const [width, depth, hidden] = [1152, 28, 4608];
  const dense = (name, input, output) => [
    [`${name}.weight`, [output, input]],
    [`${name}.bias`, [output]],
  ];
  return [
    ['pos_embed', [1, 256, width], positionEmbedding(16, width)],
    ['x_embedder.proj.weight', [width, 4, 2, 2]],
    ['x_embedder.proj.bias', [width]],
    ...dense('t_embedder.mlp.0', 256, width),
    ...dense('t_embedder.mlp.2', width, width),
    ['y_embedder.embedding_table.weight', [1001, width]],
    ...Array.from({ length: depth }, (_, i) => [
      ...dense(`blocks.${i}.attn.qkv`, width, 3 * width),
      ...dense(`blocks.${i}.attn.proj`, width, width),
      ...dense(`blocks.${i}.mlp.fc1`, width, hidden),
      ...dense(`blocks.${i}.mlp.fc2`, hidden, width),
      ...dense(`blocks.${i}.adaLN_modulation.1`, width, 6 * width),
    ]).flat(),
    ...dense('final_layer.linear', width, 32),
    ...dense('final_layer.adaLN_modulation.1', width, 2 * width),
  ];
}

/** diffusers' config.json of Stable Diffusion's autoencoder. */
const VAE = {
  ...{ _class_name: 'AutoencoderKL', block_out_channels: [128, 256, 512, 512], layers_per_block: 2, in_channels: 3 },
  ...{ out_channels: 3, norm_num_groups: 32, latent_channels: 4, scaling_factor: 0.18215, act_fn: 'silu' },
};

/** Its state_dict, in PyTorch's orientation. */
const vaeLeaves = () =>
  autoencoderLayout(klNetwork(parseKlConfig(VAE), { encoder: true, decoder: true }))
    .groups.flatMap(({ specs }) => specs)
    .map(({ name, shape }) => {
      const [side, , input, output] = shape;
      return [name, shape.length === 4 ? [output, input, side, side] : [...shape].reverse()];
    });

const command = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
function odelt(...args) {
  log(`odelt ${args.join(' ')}`);
  const { status, stdout } = spawnSync(process.execPath, ['--max-old-space-size=8192', command, ...args], {
    ...{ stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 1 << 28 },
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}

mkdirSync(at('vae'), { recursive: true });
writeFileSync(at('vae', 'config.json'), JSON.stringify(VAE, null, 1));
await unlessThere(at('vae', 'diffusion_pytorch_model.safetensors'), (path) =>
  writeSafetensors(path, tensorsOf(vaeLeaves())),
);
await unlessThere(at(`${program}-xl-2.safetensors`), (path) => writeSafetensors(path, tensorsOf(ditLeaves())));
const model = at(`${program}.safetensors`);
const convert = ['convert', at(`${program}-xl-2.safetensors`), model, '--from', program, '--heads', '16'];
if (!existsSync(model)) odelt(...convert);
const out = at(`${program}-${flags.steps}.png`);
const latents = at(`${program}-${flags.steps}.npy`);
const limits = ['--max-memory', flags['max-memory'], ...(flags.adapter ? ['--adapter', flags.adapter] : []), '--json'];
// Latents are kept, and what is known of them, so that an interrupted decoding does not cost their steps.
const known = at(`${program}-${flags.steps}-sampled.json`);
if (!existsSync(known)) {
  const how = ['--labels', '207', '--count', '1', '--steps', flags.steps, '--guidance', '4', '--out', latents];
  writeFileSync(known, odelt('sample', '--model', model, ...how, ...limits));
}
const sampled = JSON.parse(readFileSync(known, 'utf8'));
const decoded = JSON.parse(odelt('decode', latents, '--autoencoder', at('vae'), '--out', out, ...limits));
const { precision, residentBlocks, batch } = sampled;
const peakBytes = Math.max(sampled.peakBytes, decoded.peakBytes);
const report = {
  ...describeMachine(),
  ...{ program, steps: Number(flags.steps), limit: flags['max-memory'], peakBytes, precision, residentBlocks, batch },
  ...{ seconds: { sampling: sampled.seconds, decoding: decoded.seconds }, sampled, decoded },
};
writeFileSync(at(`${program}-${flags.steps}.json`), `${JSON.stringify(report, null, 1)}\n`);
log(`${out} within ${(peakBytes / 1e6).toFixed(1)} MB of GPU buffers, ${readFileSync(out).length} bytes`);
