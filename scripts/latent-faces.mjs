/**
 * The small example of docs/latents.md: faces of 128 pixels, encoded by a TAESD of 32 channels, a small transformer trained on their
 * latents, and the sheet of its decoded samples. The autoencoder's files are the user's (github.com/madebyollin/taesd: taef2_*.pth).
 *   npm run build && node scripts/latent-faces.mjs ENCODER.pth DECODER.pth [--count 400] [--steps 3600] [--out out/latent-faces] [--png FILE]
 * Every part goes on where an interrupted one stopped.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: 'string', default: '400' },
    steps: { type: 'string', default: '3600' },
    out: { type: 'string', default: join('out', 'latent-faces') },
    png: { type: 'string' },
  },
});
const [encoder, decoder] = positionals;
if (!encoder || !decoder) {
  process.stderr.write('usage: node scripts/latent-faces.mjs ENCODER.pth DECODER.pth\n');
  process.exit(2);
}

const command = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const odelt = (...args) => {
  process.stderr.write(`odelt ${args.join(' ')}\n`);
  const { status } = spawnSync(process.execPath, [command, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

const [faces, latents, run] = ['faces', 'latents', 'run'].map((name) => join(values.out, name));
odelt('data', 'faces', faces, '--size', '128', '--count', values.count, '--test', '50');
odelt('encode', faces, '--size', '128', '--autoencoder', encoder, '--shard', '50', '--out', latents);
const model = ['--patch', '2', '--width', '128', '--heads', '4', '--depth', '8'];
const training = ['--batch', '16', '--lr', '2e-3', '--warmup', '100', '--steps', values.steps, '--save-every', '100'];
const drawn = ['--sample-count', '4', '--sample-steps', '1,4,16', '--sample-guidance', '1.5'];
const sheets = ['--sample-every', '500', '--decode', decoder, ...drawn];
if (existsSync(join(run, 'checkpoints'))) odelt('train', '--resume', '--steps', values.steps, ...sheets, '--out', run);
else odelt('train', '--data', latents, ...model, ...training, ...sheets, '--out', run);
const sheet = join(run, 'samples', `${values.steps}.png`);
if (values.png) copyFileSync(sheet, values.png);
process.stderr.write(`${values.png ?? sheet}: rows are numbers of blocks, columns numbers of steps\n`);
