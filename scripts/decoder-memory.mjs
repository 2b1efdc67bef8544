/**
 * What decoding takes on the GPU, whole and in bands of rows: Stable Diffusion's decoder at 256 and 512 pixels, and a decoder of the TAESD
 * family from the user's file. Bytes are those of dry runs, which tests hold to the real ones; with --run, instead, a picture of 128 pixels is
 * really decoded, whole and in bands, by parameters of a formula, timed, and compared bit by bit. A file of the other kind's results keeps them.
 *   npm run build && node scripts/decoder-memory.mjs [--tiny taef2_decoder.pth] [--run] [--adapter lavapipe] [--out bench/results/decoder-memory.json]
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { describeMachine } from '../dist/bench/machine.node.js';
import { createNodeEngine } from '../dist/engine/engine.node.js';
import { LimitError } from '../dist/engine/errors.js';
import { autoencoderPeak, createAutoencoder } from '../dist/model/autoencoder/autoencoder.js';
import { importAutoencoder } from '../dist/model/autoencoder/import.js';
import { klNetwork, parseKlConfig } from '../dist/model/autoencoder/kl.js';
import { autoencoderLayout } from '../dist/model/autoencoder/network.js';
import { paramEntries, zeroParams } from '../dist/model/params.js';
import { openCheckpointFile } from '../dist/model/weights/imports/open.node.js';
import { formulaFill } from '../dist/verify/formula-params.js';

const { values: flags } = parseArgs({
  options: {
    tiny: { type: 'string' },
    run: { type: 'boolean', default: false },
    adapter: { type: 'string' },
    out: { type: 'string', default: 'bench/results/decoder-memory.json' },
  },
});
const BANDS = [1, 2, 4, 8, 16, 32, 64];
/** Stable Diffusion's, as its config.json has it. */
const SD = {
  ...{ _class_name: 'AutoencoderKL', block_out_channels: [128, 256, 512, 512], layers_per_block: 2 },
  ...{ norm_num_groups: 32, latent_channels: 4, scaling_factor: 0.18215 },
};

const log = (text) => process.stderr.write(`${text}\n`);
const { engine, node } = await createNodeEngine({ adapter: flags.adapter });
// What decoding takes is to be known where the device could not bind it, too.
const roomy = {
  ...{ adapterClass: engine.adapterClass, matrixUnits: engine.matrixUnits, tuning: engine.tuning },
  device: {
    ...{ features: engine.device.features, adapterInfo: engine.device.adapterInfo },
    limits: new Proxy(engine.device.limits, {
      get: (limits, name) =>
        name === 'maxBufferSize' || name === 'maxStorageBufferBindingSize'
          ? 2 ** 34
          : Reflect.get(limits, name, limits),
    }),
  },
  largestBinding: 2 ** 34,
};

const networks = [
  {
    name: 'Stable Diffusion',
    network: klNetwork(parseKlConfig(SD), { encoder: false, decoder: true }),
    sizes: [256, 512],
  },
];
if (flags.tiny) {
  const { raw, close } = await openCheckpointFile(flags.tiny);
  const { network } = await importAutoencoder([raw]);
  await close();
  networks.push({ name: 'TAEF2', network, sizes: [256, 512] });
}

const before = existsSync(flags.out) ? JSON.parse(readFileSync(flags.out, 'utf8')) : {};
const rows = [];
for (const { name, network, sizes } of flags.run ? [] : networks) {
  for (const precision of ['f32', 'f16']) {
    for (const size of sizes) {
      const latents = [size / network.factor, size / network.factor];
      for (const bands of BANDS) {
        const options = { precision, bandRows: Math.ceil(size / bands) };
        const peak = await autoencoderPeak(roomy, network, 'decoder', latents, options);
        const fits = await autoencoderPeak(engine, network, 'decoder', latents, options).then(
          () => true,
          (error) => {
            if (error instanceof LimitError) return false;
            throw error;
          },
        );
        const weights = autoencoderLayout({ ...network, encoder: null }).count * (precision === 'f16' ? 2 : 4);
        rows.push({ name, precision, size, bands, peak, weights, fits });
        const mb = (bytes) => (bytes / 1e6).toFixed(1);
        log(
          `${name} ${precision} ${size} px, ${bands} bands: ${mb(peak)} MB, ${mb(peak - weights)} without weights${fits ? '' : '; not with this device'}`,
        );
      }
    }
  }
}

const runs = [];
if (flags.run) {
  const [{ network }] = networks;
  const layout = autoencoderLayout(network);
  const params = zeroParams(layout);
  [...paramEntries(params)].forEach(({ spec, values }, k) => {
    const norm = /norm\w*\.(weight|bias)$/.test(spec.name);
    const fanIn = spec.shape.length > 1 ? spec.size / spec.shape.at(-1) : 1;
    const scale = spec.shape.length > 1 ? 1 / Math.sqrt(fanIn) : norm ? 0.1 : 0.02;
    formulaFill(values, k, 1, scale, norm && spec.name.endsWith('weight') ? 1 : 0);
  });
  const latents = { values: new Float32Array(16 * 16 * 4), shape: [1, 16, 16, 4] };
  formulaFill(latents.values, 0, 2, 1);
  let first;
  for (const bands of [1, 8]) {
    const live = engine.memory.report().live;
    engine.memory.resetPeak();
    const made = await createAutoencoder(
      engine,
      { network, params },
      { precision: 'f16', bandRows: 128 / bands, halves: ['decoder'] },
    );
    await made.decode(latents); // compiles
    const began = performance.now();
    const { values } = await made.decode(latents);
    const seconds = (performance.now() - began) / 1000;
    first ??= values;
    const same = Buffer.from(values.buffer).equals(Buffer.from(first.buffer));
    const peak = engine.memory.report().peak - live;
    made.dispose();
    runs.push({ size: 128, precision: 'f16', bands, seconds, peak, same });
    log(
      `decoded in ${bands} bands: ${seconds.toFixed(1)} s, peak ${(peak / 1e6).toFixed(1)} MB, ${same ? 'the same bits' : 'OTHER BITS'}`,
    );
  }
}
engine.dispose();
const kept = flags.run ? { rows: before.rows ?? [], runs } : { rows, runs: before.runs ?? [] };
const date = new Date().toISOString().slice(0, 10);
const report = { ...describeMachine(), adapter: node.adapter.name, date, ...kept };
writeFileSync(flags.out, `${JSON.stringify(report, null, 1)}\n`);
log(`wrote ${flags.out}`);
