/** What `odelt train` says about data before it needs an adapter: contradictions in flags, and Ctrl-C while it reads. */
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { cifarFolder, pictureFolder } from '../support/pictures.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-train-'));
let command: Cli;
beforeAll(async () => {
  command = await buildCli();
  await pictureFolder(join(scratch, 'pets'), ['cat', 'dog'], 2);
  cifarFolder(join(scratch, 'cifar'), 3);
});
afterAll(() => {
  command.remove();
  rmSync(scratch, { recursive: true });
});

describe('flags that do not fit', () => {
  it.each<[string, string, string]>([
    [
      '--batch 4',
      '--batch is 4; it must be at least 8, as one sample in 8 learns time consistency',
      'give a larger --batch',
    ],
    [
      '--batch 8 --distill-guidance 2',
      '--batch is 8; one sample in 8 learns',
      'give a --batch that is a multiple of 16',
    ],
    [
      '--batch 8 --time-every 2 --length-every 2',
      'no sample learns from pictures: of --batch 8, 4 learn time consistency (--time-every 2), 4 learn length consistency (--length-every 2)',
      'give a larger --time-every or --length-every, which are 8 by default',
    ],
    ['--patch 5', '--patch must be a divisor of --image-size (28); found 5', 'choose another --patch or --image-size'],
    [
      '--data pets --image-size 30',
      '--patch must be a divisor of --image-size (30); found 4',
      '--patch or --image-size',
    ],
    ['--data pets --depth 3', '--depth is 3; the preset tiny runs at least 4 blocks', 'give a --depth of 4 or more'],
    [
      '--data cifar --image-size 28',
      "--image-size is 28; the pictures of 'CIFAR-10 train' are 32 x 32 x 3",
      'leave --image-size out',
    ],
    ['--channels 3', "--channels is 3; the pictures of 'Fashion-MNIST test' are 28 x 28 x 1", 'leave --channels out'],
    ['--data pets --channels 4', "--channels is '4'; it must be 1 (grey) or 3 (colour)", ''],
    ['--validation 1.5', '--validation is 1.5; a share of the pictures must lie between 0 and 1', 'such as 0.1'],
    [
      '--validation test',
      '--validation test has the pictures that are trained on (Fashion-MNIST test)',
      '--validation 0.1',
    ],
    ['--sample-steps 1,,2', "--sample-steps is '1,,2'; it must be positive integers separated by commas", ''],
    ['--log-every 0', "--log-every is '0'; it must be an integer at least 1", ''],
  ])('%s: in the words of the command line', async (flags, message, hint) => {
    const args = ['train', '--adapter', 'none', '--out', join(scratch, 'run'), ...flags.split(' ')];
    const { code, stderr } = await command.watch(args, { cwd: scratch });
    expect(stderr).toContain(`ConfigError: ${message}`);
    expect(stderr).toContain(hint);
    expect(stderr).not.toMatch(/(model|training)\.\w/);
    expect(code).toBe(2);
  });

  it('every flag that training, its data and its messages name exists', async () => {
    const { stdout } = await command.run('train', '--help');
    const sources = [
      ...readdirSync('training', { recursive: true, encoding: 'utf8' }).map((file) => join('training', file)),
      ...['train.ts', 'train-flags.ts', 'train-watch.ts'].map((file) => join('cli', file)),
    ].filter((file) => file.endsWith('.ts'));
    const named = sources.flatMap(
      (file) =>
        readFileSync(file, 'utf8')
          .replace(/(npm install|odelt convert) --\S+/g, '')
          .match(/--[a-z][a-z-]+/g) ?? [],
    );
    const known: readonly string[] = stdout.match(/--[a-z][a-z-]+(?= |,|\n)/g) ?? [];
    expect(named).toContain('--resume');
    expect([...new Set(named)].filter((flag) => !known.includes(flag))).toEqual([]);
  });
});

describe('values of files, recipes and --set', () => {
  it.each<[string, string, string]>([
    ['--config run.yaml', 'train.lr (run.yaml line 3) is -1; it must be positive', ''],
    ['--config run.yaml --set train.lr=-2', 'train.lr (--set) is -2; it must be positive', ''],
    ['--config run.yaml --lr 1 --keep 0', "--keep is '0'; it must be an integer at least 1", ''],
    ['--config run.yaml --lr 1 --steps 10', 'train.warmup (run.yaml line 4) is 50; a run of 10 updates', '--steps'],
    ['--recipe celebahq256 --steps 99', 'train.warmup (--recipe celebahq256) is 5000; a run of 99 updates', ''],
    ['--recipe celebahq256', "model.imageSize (--recipe celebahq256) is 32; the pictures of 'Fashion-MNIST test'", ''],
    ['--recipe celebahq265', "there is no recipe 'celebahq265'", 'did you mean celebahq256?'],
    ['--config lost.yaml', 'lost.yaml cannot be read: there is no such file', 'config.yaml of a run folder'],
    ['--config pets', 'pets is a folder', ''],
    ['--set train.lrr=1', "--set: unknown option 'train.lrr'", 'did you mean lr?'],
    ['--steps 50 --warmup 60', '--warmup is 60; a run of 50 updates has room for 45', 'more --steps'],
    ['--max-time 2', "--max-time is '2'; it must be a time such as 90s, 30m, 2h or 1d", ''],
  ])('%s: names what set them', async (flags, message, hint) => {
    writeFileSync(join(scratch, 'run.yaml'), '# a run\ntrain:\n  lr: -1\n  warmup: 50\n');
    const args = ['train', '--adapter', 'none', '--out', join(scratch, 'run'), ...flags.split(' ')];
    const { code, stderr } = await command.watch(args, { cwd: scratch });
    expect(stderr).toContain(`ConfigError: ${message}`);
    expect(stderr).toContain(hint);
    expect(code).toBe(2);
  });
});

describe('reading that takes long', () => {
  it('is shown after two seconds, and ends with 130 at Ctrl-C', async () => {
    const noise = Buffer.alloc(3000 * 2000 * 3);
    for (let i = 0; i < noise.length; i++) noise[i] = (i * 2654435761) >>> 13;
    const first = join(scratch, 'noise.png');
    await sharp(noise, { raw: { width: 3000, height: 2000, channels: 3 } })
      .png({ compressionLevel: 1 })
      .toFile(first);
    mkdirSync(join(scratch, 'large', 'noise'), { recursive: true });
    for (let i = 0; i < 4000; i++) linkSync(first, join(scratch, 'large', 'noise', `${i}.png`));
    let pressed = false;
    const { code, stderr } = await command.watch(['train', '--data', 'large', '--out', 'run'], {
      cwd: scratch,
      onStderr(text, kill) {
        if (pressed || !text.includes('reading pictures: ')) return;
        pressed = true;
        kill('SIGINT');
      },
    });
    expect(stderr).toMatch(/reading pictures: \d+ of 4000/);
    expect(stderr).toMatch(/InterruptedError: reading .*large was interrupted/);
    expect(code).toBe(130);
  });
});
