/** `odelt train` on latents, alone and paired with noise, and from a checkpoint of another program. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openSafetensors, writeSafetensors } from '../../formats/safetensors.node.ts';
import { parseSafetensors, type TensorToWrite } from '../../formats/safetensors.ts';
import { originIn } from '../../model/autoencoder/origin.ts';
import { type ModelConfig, parseModelConfig, preset } from '../../model/config.ts';
import { initParams, type ParamSet, paramLayout } from '../../model/params.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { loadCheckpoint } from '../../training/checkpoint.node.ts';
import { openTrainingData } from '../../training/data/open.ts';
import { readMetrics } from '../../training/metrics.node.ts';
import { readRunConfig } from '../../training/run-config.node.ts';
import { createTrainer } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { npy } from '../support/archives.ts';
import { foreignWeights, SMALL_KL, smallKl } from '../support/autoencoder.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { trainingPickle } from '../support/pickle.ts';
import { pictureFolder } from '../support/pictures.ts';
import { setBits } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

const normal = normals(2);
const latents = (count: number, side: number) =>
  npy(
    '<f4',
    [count, side, side, 4],
    Float32Array.from({ length: count * side * side * 4 }, () => normal()),
  );

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());
const at = (...path: string[]) => join(cli.folder, ...path);

describe('a recipe on latents', () => {
  const tiny = ['width=16', 'heads=2', 'depth=8'].flatMap((field) => ['--set', `model.${field}`]);

  it('trains from end to end, and goes on', async () => {
    writeFileSync(at('latents.npy'), latents(10, 32));
    // From a model without numbers of blocks, as the published runs.
    const plain = preset('dit-b/2', { width: 16, heads: 2, depth: 8, classes: 1, lengths: null });
    const { tensors, metadata } = await modelContents(plain, initParams(plain, 5));
    await writeSafetensors(at('shortcut.safetensors'), tensors, metadata);
    const args = ['--data', 'latents.npy', '--recipe', 'celebahq256', ...tiny, '--batch', '8', '--warmup', '1'];
    const init = ['--init', 'shortcut.safetensors'];
    const { code, stderr } = await cli.run('train', ...args, ...init, '--steps', '2', '--out', 'celeb');
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/initialised 1 parameter: BlockEmbedder_0\/Embed_0\/embedding \(not there\)\n/);
    expect(stderr).toContain('data: NumPy arrays of numbers, [N, H, W, C], without labels: one class');
    expect(stderr).toContain('latents: 10 pictures of 32x32x4, 1 classes, read from disk as they are needed');
    expect(stderr).not.toContain('paired');
    const { model, train } = await readRunConfig(at('celeb'));
    expect(model).toMatchObject({
      imageSize: 32,
      channels: 4,
      patch: 2,
      width: 16,
      depth: 8,
      classes: 1,
      dropout: 0.1,
    });
    expect([model.lengths, train.guidance, train.emaDecay]).toEqual([{ min: 4, group: 4 }, null, 0.999]);
    expect(model.unconditional).toBe(true);
    // As runs of earlier versions are: they go on, and say from then on what their model knows.
    const kept = readFileSync(at('celeb', 'config.json'), 'utf8');
    const earlier = kept.replace(/,\s*"unconditional": true/, '');
    expect(earlier).not.toBe(kept);
    writeFileSync(at('celeb', 'config.json'), earlier);
    expect(await cli.run('train', '--resume', '--steps', '3', '--out', 'celeb')).toMatchObject({ code: 0 });
    const { header } = parseSafetensors(readFileSync(at('celeb', 'checkpoints', 'step-3', 'ema.safetensors')));
    for (const text of [header.metadata.get('odelt.model')!, readFileSync(at('celeb', 'config.json'), 'utf8')])
      expect(text).toMatch(/"unconditional": ?true/);
    const events = (await readMetrics(at('celeb', 'metrics.jsonl')))!.events;
    expect(events.map(({ step }) => step)).toEqual([1, 2, 3]);
    // Latents and noise are standard normal, and the new network says 0: the velocity's mean square is 2.
    expect(events[0]!.losses.flow).toBeGreaterThan(1.8);
    expect(events[0]!.losses.flow).toBeLessThan(2.2);
  });

  it('goes on at a tenth of the rate', async () => {
    const on = ['--resume', '--lr', '1e-5', '--steps', '5', '--out', 'celeb'];
    expect(await cli.run('train', ...on)).toMatchObject({ code: 0 });
    const events = (await readMetrics(at('celeb', 'metrics.jsonl')))!.events;
    // The warm-up's first update has none.
    expect(events.map(({ step, lr }) => `${step}: ${lr}`)).toEqual([
      ...['1: 0', '2: 0.0001', '3: 0.0001'],
      ...['4: 0.00001', '5: 0.00001'],
    ]);
  });

  it('draws no class, and refuses classes and guidance, as it was trained without labels', async () => {
    const sample = (...args: string[]) =>
      cli.run('sample', '--model', 'celeb', '--steps', '1', '--out', 'l.npy', ...args);
    const { code, stdout } = await sample('--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ labels: Array(8).fill(null), guidance: 0 });
    for (const [flag, value, message] of [
      ['--labels', '0', 'class 0 was asked for (label 0); this model was trained without labels'],
      ['--guidance', '2', 'guidance 2 was asked for; this model was trained without labels to guide by'],
    ] as const)
      expect(await sample(flag, value)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
  });

  it('makes what no command shows as pictures: that is said before anything is computed', async () => {
    for (const args of [
      ['sample', '--model', 'celeb', '--out', 'no.png'],
      ['demo', '--model', 'celeb', '--out', 'no'],
    ]) {
      const { code, stderr } = await cli.run(...args);
      expect(stderr).toMatch(
        /^ConfigError: celeb\S* makes latents of 4 channels; pictures have 1 or 3\n {2}hint: .*--decode FILE/m,
      );
      expect(code).toBe(2);
    }
    expect(existsSync(at('no.png'))).toBe(false);
  });

  it('does not go on with pictures', async () => {
    await pictureFolder(at('pets'), ['cat'], 4);
    const { code, stderr } = await cli.run('train', '--resume', '--steps', '6', '--out', 'celeb', '--data', 'pets');
    expect(stderr).toContain('ConfigError: the run was trained on other data (latents): pictures: 10, now 4; size:');
    expect(code).toBe(2);
  });
});

describe('pictures, encoded', () => {
  const sizes = ['width=16', 'heads=2', 'depth=4', 'patch=2'].flatMap((field) => ['--set', `model.${field}`]);

  it('become latents that train, with sheets and figures of what the decoder makes of samples', async () => {
    await pictureFolder(at('photos'), ['cat', 'dog'], 8);
    const { tensors } = foreignWeights(smallKl());
    const stored: TensorToWrite[] = [];
    for (const [name, { shape, load }] of tensors)
      stored.push({ name, shape, dtype: 'F32', values: new Float32Array((await load()).buffer as ArrayBuffer) });
    await writeSafetensors(at('vae', 'diffusion_pytorch_model.safetensors'), stored);
    writeFileSync(at('vae', 'config.json'), JSON.stringify(SMALL_KL));

    const vae = ['--autoencoder', 'vae', '--out', 'encoded'];
    const odd = await cli.run('encode', 'photos', ...vae, '--size', '9');
    expect(odd).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("no multiple of the autoencoder's 2 pixels"),
    });
    expect(existsSync(at('encoded'))).toBe(false);
    const args = ['photos', ...vae, '--size', '8', '--flip', '--shard', '6'];
    const encoded = await cli.run('encode', ...args);
    expect(encoded.stderr).toContain('16 pictures as 4x4x4 latents');
    expect(encoded.code).toBe(0);
    const again = await cli.run('encode', ...args, '--samples', '3', '--dtype', 'f16');
    expect(again.stderr).toContain('what differs: samples (none, now 3), dtype (F32, now F16)');
    expect(again.code).toBe(2);

    const given = ['--data', 'encoded', ...sizes, '--batch', '8', '--warmup', '1', '--flip', '--steps', '2'];
    const samples = ['--sample-every', '2', '--sample-steps', '1', '--sample-blocks', '4', '--sample-count', '1'];
    const trained = await cli.run('train', ...given, ...samples, '--decode', 'vae', '--out', 'latent');
    expect(trained.stderr).toContain(
      "data: latents of 'photos' by an AutoencoderKL: 3 shards of means and log variances, of mirrored pictures too",
    );
    expect(trained.code).toBe(0);
    const png = readFileSync(at('latent', 'samples', '2.png'));
    // 8 pixels, twice as large, with margins, not 4.
    expect(png.readUInt32BE(16)).toBeGreaterThan(16);
    const { model, pictures } = await readRunConfig(at('latent'));
    expect(model).toMatchObject({ imageSize: 4, channels: 4, classes: 2 });
    expect(pictures!.latents).toMatchObject({ family: 'kl', factor: 2, scaling: { factor: 0.5, shift: 0.25 } });
    const { header, close } = await openSafetensors(at('latent', 'checkpoints', 'step-2', 'ema.safetensors'));
    await close();
    expect(originIn(header.metadata, 'ema')).toEqual(pictures!.latents);

    const grid = ['--steps', '1', '--blocks', '4', '--count', '8'];
    const cells = [...grid, '--features', 'pixels', '--data', 'photos', '--json'];
    const bare = await cli.run('eval', 'latent', ...cells);
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining('--decode FILE') });
    const { code, stdout, stderr } = await cli.run('eval', 'latent', ...cells, '--decode', 'vae');
    expect(stderr).not.toContain('warning');
    expect(code).toBe(0);
    expect(JSON.parse(stdout).provenance.decoder).toBe(pictures!.latents!.decoder);
  });
});

it('pairs of noise and latents train, and the first lines say so', async () => {
  mkdirSync(at('pairs'));
  for (const name of ['x0', 'x1']) writeFileSync(at('pairs', `${name}.npy`), latents(9, 8));
  const sizes = ['--width', '16', '--heads', '2', '--depth', '4', '--patch', '2', '--batch', '8'];
  const { code, stderr } = await cli.run('train', '--data', 'pairs', ...sizes, '--steps', '1', '--out', 'paired');
  expect(code).toBe(0);
  expect(stderr).toContain('data: NumPy arrays of pairs of noise and latents, [N, H, W, C]');
  expect(stderr).toMatch(/^\S+ is paired: each picture trains with its own noise x0, none is drawn$/m);
});

describe('a checkpoint of another program, with its optimiser', () => {
  const model: ModelConfig = parseModelConfig({
    ...{ imageSize: 4, channels: 4, patch: 2, width: 8, heads: 2, depth: 2, classes: 3 },
    ...{ lengths: null, ignoreDt: true },
  });
  const scaled = (set: ParamSet, f: (x: number) => number): ParamSet => ({
    ...set,
    groups: set.groups.map((group) => group.map(f)),
  });
  const resume = (...args: string[]) => cli.run('train', '--resume', '--out', 'converted', ...args);

  it('goes on as a run with the settings that are given, and then with those', async () => {
    const [params, ema, m, v] = [1, 2, 3, 4].map((seed) => formulaParams(model, seed));
    const sets = { params: params!, ema: ema!, m: scaled(m!, (x) => x / 100), v: scaled(v!, (x) => x * x) };
    writeFileSync(at('run.pkl'), trainingPickle(sets, 9));
    const hints = ['--heads', '2', '--image-size', '4', '--ignore-dt', '--optimizer'];
    expect(await cli.run('convert', 'run.pkl', 'converted', ...hints)).toMatchObject({ code: 0 });
    mkdirSync(at('small'));
    writeFileSync(at('small', 'latents.npy'), latents(12, 4));
    writeFileSync(
      at('small', 'labels.npy'),
      npy(
        '|u1',
        [12],
        Uint8Array.from({ length: 12 }, (_, i) => i % 3),
      ),
    );

    const given = ['--data', 'small', '--batch', '8', '--warmup', '1'];
    const short = await resume(...given, '--steps', '5');
    expect(short).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('ConfigError: 5 steps were asked for; the run has done 9'),
    });
    const wider = await resume(...given, '--steps', '11', '--width', '16');
    expect(wider).toMatchObject({ code: 2, stderr: expect.stringContaining('the run has --width 8; it cannot go on') });
    const missing = await cli.run('train', '--resume', 'step-7', '--out', 'converted');
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no checkpoint of step 7 in') });
    expect(existsSync(at('converted', 'config.json'))).toBe(false);

    const { code, stderr } = await resume(...given, '--steps', '11');
    expect(stderr).toContain('converted has checkpoints and no config.json: goes on with the settings given now');
    expect(code).toBe(0);
    const run = await readRunConfig(at('converted'));
    expect(run.model).toEqual(model);
    // The reference's decay, not that of the command's short runs.
    expect(run.train).toMatchObject({ steps: 11, batch: 8, warmup: 1, emaDecay: 0.999, objective: 'shortcut' });
    const { state, sets: found } = await loadCheckpoint(at('converted', 'checkpoints'), paramLayout(model));
    expect(state.step).toBe(11);

    const engine = await testEngine();
    const data = await openTrainingData(at('small'));
    const trainer = await createTrainer(engine, { model, train: run.train, data, from: { sets, step: 9 } });
    const steps: number[] = [];
    for await (const { step } of trainer.run()) steps.push(step);
    expect(steps).toEqual([10, 11]);
    expect(setBits({ ...found })).toEqual(setBits({ ...(await trainer.snapshot()) }));
    trainer.dispose();
    engine.dispose();

    expect(await resume('--steps', '12')).toMatchObject({ code: 0 });
    const lines = readFileSync(at('converted', 'metrics.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).step)).toEqual([10, 11, 12]);
  });

  it('a folder with neither is no run', async () => {
    mkdirSync(at('empty', 'checkpoints'), { recursive: true });
    const { code, stderr } = await cli.run('train', '--resume', '--out', 'empty');
    expect([code, stderr]).toEqual([2, expect.stringContaining('config.json')]);
    expect(stderr).toContain('hint: give --out the folder of an earlier run');
  });
});
