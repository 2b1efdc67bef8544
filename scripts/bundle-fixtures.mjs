/**
 * Copies the part of a golden data directory that the tests and the default `odelt verify` need into
 * test/fixtures/golden, in the same layout and formats: node scripts/bundle-fixtures.mjs SOURCE
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const LIMIT_BYTES = 9_250_000;
const TARGET = join(dirname(fileURLToPath(import.meta.url)), '../test/fixtures/golden');

const all = () => true;
const without = (pattern) => (name) => !pattern.test(name);
const only = (pattern) => (name) => pattern.test(name);

/** Files to copy; for safetensors files, which tensors to keep. What is dropped can be computed or is information only. */
const FILES = {
  'formula_check.json': all,
  'solver_toy.json': all,
  'prng.json': all,
  'fid.json': all,
  'fid.safetensors': all,
  'a/config.json': all,
  'a/float_noise.json': all,
  'a/forward.safetensors': without(/^(params|out_bf16)\/|^act_conventional\/dit_block_[1-4]$/),
  'a/forward_strong.json': all,
  'a/forward_strong.safetensors': all,
  'a/grads.json': all,
  'a/grads.safetensors': all,
  'a/targets.json': all,
  'a/targets_shortcut.safetensors': all,
  'a/targets_length.safetensors': all,
  'a/targets_icfm.safetensors': only(/^(images|labels|discrete\/.*)$/),
  'a/targets_progressive.safetensors': only(/^(images|labels|step50_cfg1_ema1_depth0\/(?!x_t).*)$/),
  'a/targets_consistency.safetensors': only(/^(images|labels|step90_depth6\/(?!x_t).*)$/),
  'a/targets_consistency_distillation.safetensors': only(/^(images|labels|default_depth0\/(?!x_t).*)$/),
  'a/targets_livereflow.safetensors': only(/^(images|labels|cfg1\.5_depth6\/.*)$/),
  'a/train_trajectory.json': all,
  'a/train_trajectory_noise.json': all,
  'a/train_trajectory.safetensors': without(/^step(?!00)\d+\/(x_t|v_t|v_t_time|v_prime|v_length_target)$/),
  'a/sampling.json': all,
  // The plain fields take the same steps at tolerances of 0.01 and 0.001.
  'a/sampling.safetensors': without(/^(dopri5|tsit5)\/l\d_tol0\.01_|^consistency\/.*_t2_/),
  'b/config.json': all,
  'b/float_noise.json': all,
  'b/forward.safetensors': without(/^(act_|out_bf16)/),
  'b/forward_strong.json': all,
  'b/forward_strong.safetensors': without(/^conventional\/grad/),
  'b/grads.json': all,
  'b/grads.safetensors': all,
  'b/targets.json': all,
  'b/targets_shortcut.safetensors': without(/^cfg\d_ema0_/),
  'b/targets_length.safetensors': without(/^imagenet_ema0\//),
  'b/train_trajectory.json': all,
  'b/train_trajectory_noise.json': all,
  'b/train_trajectory.safetensors': without(
    /^(final\/adam_|final\/params_ema|step\d+\/(x_t|v_t|v_t_time|v_prime|v_length_target|draw_x0_bootstrap)$)/,
  ),
  'b/sampling.json': all,
  'b/sampling.safetensors': without(
    /^(plots|livereflow|consistency|dopri5|tsit5|strong\/dopri5|adaptive)|_t(2|8)_|cfg[01]$/,
  ),
  'misaligned/config.json': all,
  'misaligned/forward.safetensors': all,
  'checkpoints/checkpoints.json': all,
  'checkpoints/checkpoint_jax_arrays.pkl': all,
  'checkpoints/checkpoint_tiny_expected.safetensors': (name) =>
    /^(params_stats\/|params\/(DiTBlock_0|FinalLayer_0|PatchEmbed_0|Embed_0)\/|step$)/.test(name),
  'torch/dit.json': all,
  'torch/dit_io.safetensors': (name) => !/_embed$/.test(name),
  'vae/gaussian.safetensors': all,
  'vae/kl_2level/info.json': all,
  'vae/kl_2level/io.safetensors': only(/^(strong\/)?(enc_dbg\/(x|noise|moments|sample)|dec_dbg\/(z|image))$/),
  'vae/kl_3level/info.json': all,
  'vae/kl_3level/io.safetensors': only(/^(strong\/)?(enc_27x38\/(x|noise|moments|sample)|dec_5x7\/(z|image))$/),
  'vae/taef2/info.json': all,
  'vae/taef2/formula_io.safetensors': only(/^(enc_40x32\/(image01|latents)|dec_3x5\/(latents|image_unclamped))$/),
  'vae/taesd/info.json': all,
  'vae/taesd/io.safetensors': only(/^dec_5x3\/(latents|image_unclamped)$/),
  'vae/tiny_small/config.json': all,
  'vae/tiny_small/info.json': all,
  'vae/tiny_small/io.safetensors': all,
  'dit_b2/config.json': all,
  'dit_b2/forward.safetensors': all,
};

function readHeader(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString('utf8', 8, 8 + length)), start: 8 + length };
}

/** The safetensors file with only the tensors that `keep` accepts, in their old order. */
function filterTensors(bytes, keep) {
  const { header, start } = readHeader(bytes);
  const kept = Object.entries(header)
    .filter(([name]) => name !== '__metadata__' && keep(name))
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]);
  const entries = {};
  const data = [];
  let at = 0;
  for (const [name, { dtype, shape, data_offsets }] of kept) {
    const piece = bytes.subarray(start + data_offsets[0], start + data_offsets[1]);
    entries[name] = { dtype, shape, data_offsets: [at, at + piece.length] };
    data.push(piece);
    at += piece.length;
  }
  const text = JSON.stringify(entries);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...data]);
}

/** Tensor names of a file of the bundle; none if the file is not in it. */
function bundledNames(path) {
  if (!existsSync(path)) return [];
  return Object.keys(readHeader(readFileSync(path)).header);
}

/** targets.json with only the variants whose tensors are in the bundle. */
function filterTargets(json, folder) {
  const types = {};
  for (const [type, variants] of Object.entries(json.types)) {
    const names = bundledNames(join(folder, `targets_${type.replaceAll('-', '_')}.safetensors`));
    const kept = Object.entries(variants).filter(([variant]) => names.some((name) => name.startsWith(`${variant}/`)));
    if (kept.length > 0) types[type] = Object.fromEntries(kept);
  }
  return { ...json, types };
}

/** sampling.json with only the adaptive cases whose tensors are in the bundle. */
function filterSampling(json, folder) {
  const names = bundledNames(join(folder, 'sampling.safetensors'));
  const kept = Object.entries(json.adaptive).filter(([key]) => names.includes(`${key}/x_1`));
  return { ...json, adaptive: Object.fromEntries(kept) };
}

/** A description of an autoencoder with only what its parameters follow from. */
function filterAutoencoder(json) {
  const kept = ['model', 'config', 'n_params', 'formula_seed', 'formula_seed_strong', 'parameter_layout'];
  const halves = ['seed_encoder', 'seed_decoder', 'encoder_layout', 'decoder_layout'];
  const pick = (from, keys) => Object.fromEntries(keys.filter((key) => key in from).map((key) => [key, from[key]]));
  return { ...pick(json, [...kept, ...halves]), ...(json.formula && { formula: pick(json.formula, halves) }) };
}

const README = `# Golden data

Part of a recording of the reference implementation of ODE_t(ODE_l) (github.com/gudovskiy/odelt, MIT licence), run in
float32 on a CPU. The files hold inputs, outputs, gradients, training targets, a twelve-step training run, samples, random
numbers and Fréchet distances, but no weights but in one pickle: they come from a formula (verify/formula-params.ts). \`odelt verify\` and the tests replay them. Written by
\`node scripts/bundle-fixtures.mjs SOURCE\` from the whole recording, with MANIFEST.json, by which \`odelt verify\` sees
whether a file is missing or has been changed.

vae/ holds encodes and decodes of autoencoders of latents: AutoencoderKL and AutoencoderTiny of huggingface/diffusers (Apache 2.0) and
madebyollin/taesd (MIT), run likewise, with parameters by the same formula.
`;

/** Sizes and SHA-256 of the files, by path: what `odelt verify` holds them to. */
function manifest(files) {
  const entries = files.map((file) => {
    const bytes = readFileSync(join(TARGET, file));
    return [file, { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }];
  });
  return `${JSON.stringify(Object.fromEntries(entries), null, 1)}\n`;
}

function bundle(source) {
  rmSync(TARGET, { recursive: true, force: true });
  const jsonLast = Object.keys(FILES).sort((a, b) => a.endsWith('.json') - b.endsWith('.json'));
  for (const file of jsonLast) {
    const bytes = readFileSync(join(source, file));
    const to = join(TARGET, file);
    const folder = dirname(to);
    mkdirSync(folder, { recursive: true });
    if (file.endsWith('.safetensors')) {
      writeFileSync(to, filterTensors(bytes, FILES[file]));
      continue;
    }
    if (!file.endsWith('.json')) {
      writeFileSync(to, bytes);
      continue;
    }
    let json = JSON.parse(bytes.toString('utf8'));
    if (file.endsWith('/targets.json')) json = filterTargets(json, folder);
    if (file.endsWith('/sampling.json')) json = filterSampling(json, folder);
    if (file.endsWith('/info.json')) json = filterAutoencoder(json);
    writeFileSync(to, `${JSON.stringify(json)}\n`);
  }
  writeFileSync(join(TARGET, 'README.md'), README);
  writeFileSync(join(TARGET, 'MANIFEST.json'), manifest(Object.keys(FILES)));
  const total = Object.keys(FILES).reduce((sum, file) => sum + statSync(join(TARGET, file)).size, README.length);
  console.log(`${Object.keys(FILES).length} files, ${total} bytes in ${TARGET}`);
  if (total > LIMIT_BYTES) throw new Error(`the bundle has ${total} bytes; at most ${LIMIT_BYTES} are wanted`);
}

const [source] = process.argv.slice(2);
if (source === undefined) {
  console.error('usage: node scripts/bundle-fixtures.mjs SOURCE');
  process.exitCode = 2;
} else {
  bundle(source);
}
