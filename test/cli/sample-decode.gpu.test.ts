/** `odelt sample --decode`: pictures of latents within a limit, and what is refused before anything is drawn. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readNpy } from '../../formats/npy.ts';
import { createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { foreignWeights } from '../support/autoencoder.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';
import { latentModel, latentModelFile, latentParams, safetensorsOf } from '../support/latents.ts';
import { importedTaesd, smallTaesd } from '../support/taesd.ts';
import { bits } from '../support/tiny.ts';

const [config, params] = [latentModel, latentParams()];

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  writeFileSync(join(cli.folder, 'm.safetensors'), await latentModelFile());
  writeFileSync(join(cli.folder, 'vae.safetensors'), await safetensorsOf(foreignWeights(smallTaesd())));
});
afterAll(() => cli?.remove());

const sample = (...args: string[]) =>
  cli.run('sample', '--model', 'm.safetensors', '--count', '2', '--steps', '1', '--guidance', '0', ...args);

it('decodes what the library decodes, within a limit that is kept to the byte', async () => {
  const small = await sample('--decode', 'vae.safetensors', '--max-memory', '1kB', '--out', 's.npy');
  expect(small.code).toBe(1);
  const [, asked] = /LimitError: .*?(\d{5,})/.exec(small.stderr)!;
  const said = await sample('--decode', 'vae.safetensors', '--max-memory', `${asked}B`, '--out', 's.npy', '--json');
  expect(said.code, said.stderr).toBe(0);
  const { decoded, peakBytes, precision, batch } = JSON.parse(said.stdout);
  expect(decoded).toMatchObject({ autoencoder: 'vae.safetensors', peakBytes: Number(asked) });
  expect(decoded.bands).toBeGreaterThan(1);
  expect(peakBytes).toBe(Number(asked));

  const engine = await testEngine();
  const model = new ResidentModel(engine, config, memorySource(params), { precision });
  const sampler = new Sampler(engine, model, { batch });
  const latents = await sampler.sample({ labels: [0, 1], blocks: 4, steps: 1, guidance: 0, seed: 0 });
  const autoencoder = await createAutoencoder(engine, await importedTaesd(), { precision: decoded.precision });
  const pictures = await autoencoder.decode(latents);
  engine.dispose();
  const found = readNpy(readFileSync(join(cli.folder, 's.npy')), 's.npy');
  expect(found.header.shape).toEqual([2, 24, 24, 3]);
  expect(bits(found.values as Float32Array)).toBe(bits(pictures.values));
}, 600_000);

it('says what is wrong before anything is drawn', async () => {
  const none = await sample('--out', 's.png');
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('--decode FILE')]);
  const lonely = await sample('--decode-precision', 'f16');
  expect([lonely.code, lonely.stderr]).toEqual([2, expect.stringContaining('give it with --decode FILE')]);
  const other = await cli.run('sample', '--decode', 'vae.safetensors', '--count', '1');
  expect(other.code).toBe(2);
  expect(other.stderr).toContain('the model makes latents of 1 channels; the autoencoder decodes those of 4');
  const budget = await sample('--decode', 'vae.safetensors', '--budget', '1s');
  expect([budget.code, budget.stderr]).toEqual([
    2,
    expect.stringContaining('--budget and --decode exclude each other'),
  ]);
});
