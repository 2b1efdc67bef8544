/** `odelt sample --decode`: pictures of latents within a limit, and what is refused before anything is drawn. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readNpy } from '../../formats/npy.ts';
import { writeNpy } from '../../formats/npy-write.ts';
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

it('decodes latents that were kept, with the same bits, in bands where memory is short', async () => {
  const kept = await sample('--out', 'latents.npy');
  expect(kept.code, kept.stderr).toBe(0);
  const at = (name: string) => readFileSync(join(cli.folder, name));
  expect(readNpy(at('latents.npy'), 'l').header.shape).toEqual([2, 12, 12, 4]);
  expect((await sample('--decode', 'vae.safetensors', '--out', 's.npy')).code).toBe(0);
  const decode = (latents: string, ...args: string[]) =>
    cli.run('decode', latents, '--autoencoder', 'vae.safetensors', ...args);
  // Limited, so that neither has mirrors (engine/mirrors.ts).
  const whole = await decode('latents.npy', '--out', 'd.npy', '--json', '--precision', 'f32', '--max-memory', '1GB');
  expect(whole.code, whole.stderr).toBe(0);
  expect(at('d.npy').equals(at('s.npy'))).toBe(true);
  const { peakBytes } = JSON.parse(whole.stdout);
  const banded = await decode(
    'latents.npy',
    '--out',
    'b.npy',
    '--json',
    '--precision',
    'f32',
    '--max-memory',
    `${peakBytes - 1}B`,
  );
  expect(banded.code, banded.stderr).toBe(0);
  expect(JSON.parse(banded.stdout).bands).toBeGreaterThan(1);
  expect(JSON.parse(banded.stdout).peakBytes).toBeLessThan(peakBytes);
  expect(at('b.npy').equals(at('s.npy'))).toBe(true);
  const sheet = await decode('latents.npy', '--columns', '1', '--scale', '2', '--out', 'd.png');
  expect(sheet.code, sheet.stderr).toBe(0);
  // Width and height in a PNG's header: one above the other, with two pixels between.
  expect([16, 20].map((byte) => at('d.png').readUInt32BE(byte))).toEqual([48, 98]);

  const broken = (name: string, shape: number[], values: Float32Array) => {
    writeFileSync(join(cli.folder, name), writeNpy({ shape, values }));
    return decode(name);
  };
  const grey = await broken('grey.npy', [1, 4, 4, 3], new Float32Array(48));
  expect([grey.code, grey.stderr]).toEqual([
    2,
    expect.stringContaining('makes latents of 3 channels; the autoencoder decodes those of 4'),
  ]);
  const flat = await broken('flat.npy', [64], new Float32Array(64));
  expect([flat.code, flat.stderr]).toEqual([1, expect.stringContaining('DataError: flat.npy has 64 numbers')]);
  const wide = await broken('wide.npy', [1, 2, 4, 4], new Float32Array(32));
  expect(wide.stderr).toContain('wide.npy has latents of 2 x 4; only square ones can be decoded');
  const odd = await broken('odd.npy', [1, 2, 2, 4], new Float32Array(16).fill(Number.NaN, 5, 6));
  expect(odd.stderr).toContain('DataError: odd.npy: element 5 is NaN');
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
