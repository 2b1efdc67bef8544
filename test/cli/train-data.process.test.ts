/** What `odelt train` says about data before it needs an adapter: contradictions in flags, and Ctrl-C while it reads. */
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
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
    ['--batch 4', '--batch is 4; it must be at least 8, as one sample in 8 learns time consistency', ''],
    [
      '--batch 8 --distill-guidance 2',
      '--batch is 8; one sample in 8 learns',
      'give a --batch that is a multiple of 16',
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
      ...['train.ts', 'train-flags.ts'].map((file) => join('cli', file)),
    ].filter((file) => file.endsWith('.ts'));
    const named = sources.flatMap(
      (file) =>
        readFileSync(file, 'utf8')
          .replace(/npm install --\S+/g, '')
          .match(/--[a-z][a-z-]+/g) ?? [],
    );
    const known: readonly string[] = stdout.match(/--[a-z][a-z-]+(?= |,|\n)/g) ?? [];
    expect(named).toContain('--image-size');
    expect([...new Set(named)].filter((flag) => !known.includes(flag))).toEqual([]);
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
