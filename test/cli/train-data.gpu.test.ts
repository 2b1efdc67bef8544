/** `odelt train` on people's own pictures, from the first update to samples by class name. */
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { cifarFolder, pictureFolder } from '../support/pictures.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

const scratch = mkdtempSync(join(tmpdir(), 'odelt-train-'));
let command: Cli;
beforeAll(async () => {
  command = await buildCli();
});
afterAll(() => {
  command.remove();
  rmSync(scratch, { recursive: true });
});

const small = ['--preset', 'tiny', '--width', '16', '--heads', '2', '--depth', '4', '--batch', '8'];
async function run(args: readonly string[], cwd = scratch): Promise<string> {
  const { code, stderr, stdout } = await command.watch(args, { cwd });
  expect(stderr).not.toMatch(/Error/);
  expect(code).toBe(0);
  return stderr + stdout;
}
const config = (out: string) => JSON.parse(readFileSync(join(scratch, out, 'config.json'), 'utf8'));

describe('a folder of pictures', () => {
  const esc = '\u001b';
  beforeAll(async () => {
    await pictureFolder(join(scratch, 'pets'), [`Cat${esc}[31m`, 'dog'], 20);
    await run(['train', '--data', 'pets', ...small, '--steps', '2', '--out', 'pets-run']);
  });

  it('trains in colour at the size of the preset; the run knows what and where its data are', () => {
    expect(config('pets-run').model).toMatchObject({ imageSize: 28, channels: 3, classes: 2, patch: 4, width: 16 });
    expect(config('pets-run').data).toBe(join(scratch, 'pets'));
    expect(config('pets-run').pictures).toMatchObject({ count: 40, classNames: [`Cat${esc}[31m`, 'dog'] });
  });

  it('is sampled by class name, converted too; names are shown without moving the cursor', async () => {
    await run(['convert', 'pets-run', '--out', 'pets.safetensors']);
    for (const model of ['pets-run', 'pets.safetensors']) {
      const args = ['sample', '--model', model, '--labels', 'DOG,0', '--count', '2', '--steps', '1', '--scale', '1'];
      const text = await run([...args, '--out', 'pets.png']);
      expect(text).toContain('labels: 1 (dog), 0 (Cat\\x1b[31m)');
      expect(text).not.toContain(`${esc}[31m`);
      const { channels, height } = await sharp(join(scratch, 'pets.png')).metadata();
      expect([channels, height! >= 28]).toEqual([3, true]);
    }
    const { code, stderr } = await command.watch(['sample', '--model', 'pets-run', '--labels', 'cow'], {
      cwd: scratch,
    });
    expect(stderr).toContain("--labels has 'cow', which is no class of this model");
    expect(stderr).toContain('classes are 0 (Cat\\x1b[31m), 1 (dog); none is for no class');
    expect(code).toBe(2);
  });

  it('goes on from another folder, where the data moved to; other data are refused', async () => {
    const elsewhere = join(scratch, 'elsewhere');
    mkdirSync(elsewhere);
    await run(['train', '--resume', '--steps', '3', '--out', '../pets-run'], elsewhere);
    renameSync(join(scratch, 'pets'), join(elsewhere, 'animals'));
    await run(['train', '--resume', '--steps', '4', '--out', '../pets-run', '--data', 'animals'], elsewhere);
    expect(config('pets-run').data).toBe(join(elsewhere, 'animals'));
    cifarFolder(join(scratch, 'other'), 5);
    const args = ['train', '--resume', '--steps', '5', '--out', 'pets-run', '--data', 'other'];
    const { code, stderr } = await command.watch(args, { cwd: scratch });
    expect(stderr).toContain('ConfigError: the run was trained on other data (animals): pictures: 40, now 5; size: ');
    expect(code).toBe(2);
  });

  it('is brought to the size and channels that are asked for', async () => {
    await pictureFolder(join(scratch, 'greys'), ['a', 'b', 'c'], 4, true);
    await run(['train', '--data', 'greys', ...small, '--steps', '1', '--out', 'grey-run', '--image-size', '16']);
    expect(config('grey-run').model).toMatchObject({ imageSize: 16, channels: 1, classes: 3 });
  });
});

describe('other data', () => {
  it('CIFAR-10 trains in colour at its own size', async () => {
    cifarFolder(join(scratch, 'cifar'), 20);
    const long = ['--steps', '10000', '--max-time', '0.001s'];
    const words = await run(['train', '--data', 'cifar', ...small, ...long, '--out', 'cifar-run']);
    expect(words).toContain('average of the weights: each update keeps 0.999 of it, a memory of 1,000 updates');
    expect(config('cifar-run').train.emaDecay).toBe(0.999);
    expect(config('cifar-run').model).toMatchObject({ imageSize: 32, channels: 3, classes: 10 });
  });

  it('the bundled pictures are kept by name, not by the place of the package', async () => {
    await run(['train', ...small, '--steps', '1', '--out', 'bundled-run']);
    expect(config('bundled-run').data).toBe('bundled');
    await run(['train', '--resume', '--steps', '2', '--out', 'bundled-run']);
  });
});

describe('a run configured by a file', () => {
  it('is begun again by its config.yaml, bit for bit, and ends in order when its time is over', async () => {
    writeFileSync(
      join(scratch, 'run.yaml'),
      'model: {preset: tiny, width: 16, heads: 2, depth: 4}\ntrain: {batch: 8, clip: 0.5}\nout: {saveEvery: 2}\n',
    );
    const file = ['--config', 'run.yaml', '--set', 'train.beta1=0.8', '--set', 'train.batch=16'];
    await run(['train', ...file, '--steps', '3', '--batch', '8', '--out', 'filed']);
    expect(config('filed').model).toMatchObject({ width: 16, depth: 4, channels: 1 });
    expect(config('filed').train).toMatchObject({
      batch: 8,
      steps: 3,
      clip: 0.5,
      beta1: 0.8,
      emaDecay: 0.99,
      warmup: 2,
    });
    await run(['train', '--config', 'filed/config.yaml', '--out', 'again']);
    const bytes = (out: string, name: string) => readFileSync(join(scratch, out, 'checkpoints/step-3', name));
    for (const name of ['model', 'ema', 'optim']) {
      const file = `${name}.safetensors`;
      expect(bytes('again', file).equals(bytes('filed', file))).toBe(true);
    }
    expect(config('again')).toEqual(config('filed'));
    const words = await run(['train', '--config', 'filed/config.yaml', '--max-time', '0.001s', '--out', 'timed']);
    expect(words).toContain('the time is over after 1 of 3 updates: --resume goes on');
    await run(['train', '--resume', '--config', 'filed/config.yaml', '--out', 'timed']);
    expect(bytes('timed', 'optim.safetensors').equals(bytes('filed', 'optim.safetensors'))).toBe(true);
  });
});
