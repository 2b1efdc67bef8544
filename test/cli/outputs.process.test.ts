/** What cannot be written, or would not fit, is refused before anything is computed; and which models are found. */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../../formats/safetensors.node.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelMetadata, modelTensors } from '../../model/weights/model-file.ts';
import { encodePng } from '../../pictures/png.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  const config = preset('tiny', { width: 16, heads: 2, depth: 2, patch: 7, classes: 3, lengths: null });
  const step = 'run/checkpoints/step-20';
  for (const file of [
    'model.safetensors',
    'other/model.safetensors',
    `${step}/ema.safetensors`,
    `${step}/model.safetensors`,
  ]) {
    mkdirSync(join(cli.folder, dirname(file)), { recursive: true });
    await writeSafetensors(join(cli.folder, file), modelTensors(initParams(config, 1)), modelMetadata(config));
  }
  for (const rest of ['optim.safetensors', 'state.json']) writeFileSync(join(cli.folder, step, rest), '');
  mkdirSync(join(cli.folder, 'empty'));
  writeFileSync(join(cli.folder, 'file'), 'a file');
});
afterAll(() => cli?.remove());

describe('an output that cannot be written', () => {
  // No adapter has this name: a command that got as far as asking for one would say so instead.
  const adapter = ['--adapter', 'none'];
  it.each([
    ['sample', ['--out'], adapter],
    ['demo', ['--out'], adapter],
    ['convert', ['model.safetensors', '--out'], []],
    ['plot', ['run', '--out'], []],
  ])('stops %s before its work', async (command, args, more) => {
    const run = (path: string) => cli.run(command, ...args, path, ...more);
    expect((await run('empty')).stderr).toBe(
      "OutputError: --out 'empty' cannot be written: it is a folder\n  hint: give another path\n",
    );
    expect((await run('file/x')).stderr).toContain(
      "--out 'file/x' cannot be written: a file is in the place of a folder",
    );
    expect(await run('')).toMatchObject({ code: 2, stderr: expect.stringContaining('ConfigError: --out is empty') });
    expect(readFileSync(join(cli.folder, 'file'), 'utf8')).toBe('a file');
    expect(readdirSync(join(cli.folder, 'empty'))).toEqual([]);
  });

  it.each(['kernels', 'memory'])('stops bench %s before its work', async (which) => {
    const { code, stderr } = await cli.run('bench', which, '--save', 'file', ...adapter);
    expect(code).toBe(1);
    expect(stderr).toContain(`OutputError: --save 'file' cannot be written: ${join(cli.folder, 'file')} is no folder`);
    expect(await cli.run('bench', which, '--save', '', ...adapter)).toMatchObject({ code: 2 });
  });

  it.skipIf(!existsSync('/proc/self'))(
    'is found where the system makes no folders, whatever permissions say',
    async () => {
      const { code, stderr } = await cli.run('train', '--out', '/proc/run', ...adapter);
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(/^OutputError: --out '\/proc\/run' cannot be written: /),
      ]);
      // A folder that takes files has none of the attempt afterwards.
      const before = readdirSync(cli.folder);
      expect((await cli.run('train', '--out', 'new', ...adapter)).stderr).toContain("adapter 'none'");
      expect(readdirSync(cli.folder)).toEqual(before);
    },
  );

  it('is found by convert before it reads the model, and after it looked at its flags', async () => {
    expect((await cli.run('convert', 'nowhere', '--out', 'empty')).stderr).toContain('it is a folder');
    expect((await cli.run('convert', 'nowhere', '--out', 'empty', '--dtype', 'f8')).stderr).toContain('--dtype is');
  });
});

it.each([
  ['x.gif', []],
  ['x.jpg', []],
  ['x.npz', []],
  ['-', []],
  ['x.NPY', ['merge', 'nowhere.json']],
])('a sample called %s is none that can be written, and refused before the work', async (out, args) => {
  const { code, stderr } = await cli.run('sample', ...args, '--out', out);
  expect([code, stderr]).toEqual([
    2,
    `ConfigError: --out is '${out}'; a PNG, or as .npy the numbers, can be written\n  hint: give a file that ends with .png or .npy\n`,
  ]);
  expect(existsSync(join(cli.folder, out))).toBe(false);
});

it('the same goes for decode and, without numbers, demo', async () => {
  const decode = await cli.run('decode', 'nowhere.npy', '--autoencoder', 'nowhere', '--out', 'x.jpeg');
  expect(decode).toMatchObject({ code: 2, stderr: expect.stringContaining("--out is 'x.jpeg'; a PNG, or as .npy") });
  const demo = await cli.run('demo', '--adapter', 'none', '--out', 'x.npy');
  expect(demo).toMatchObject({ code: 2, stderr: expect.stringContaining("--out is 'x.npy'; a PNG can be written") });
});

it('sample refuses a budget for a part, before it reads the model', async () => {
  const { code, stderr } = await cli.run('sample', '--model', 'nowhere', '--shard', '0/2', '--budget', '50ms');
  expect([code, stderr]).toEqual([2, expect.stringContaining('--budget and --shard exclude each other')]);
});

describe('convert', () => {
  it('may replace its own input, which is read before', async () => {
    const path = join(cli.folder, 'model.safetensors');
    const before = readFileSync(path);
    const names = readdirSync(cli.folder);
    expect(await cli.run('convert', 'model.safetensors', '--out', 'model.safetensors')).toMatchObject({ code: 0 });
    const halves = readFileSync(path);
    expect(halves.length).toBeLessThan(0.8 * before.length);
    expect(await cli.run('convert', 'model.safetensors', '--out', 'again.safetensors')).toMatchObject({ code: 0 });
    expect(readFileSync(join(cli.folder, 'again.safetensors')).equals(halves)).toBe(true);
    expect(readdirSync(cli.folder)).toEqual([...names, 'again.safetensors'].sort());
  });
});

describe('numbers that ask for too much', () => {
  it.each([
    [
      ['sample', '--count', '1e99'],
      'LimitError',
      /a sheet of 1e\+99 pictures .* takes \S+ bytes; 536870912 are the most/,
    ],
    [['sample', '--count', '200000000'], 'LimitError', /a sheet of 200000000 pictures of 1719999998 x 858 pixels/],
    [['demo', '--per-class', '1e9'], 'LimitError', /a sheet of 10000000000 pictures per cell/],
    [['sample', '--steps', '1e99'], 'ConfigError', /1e\+99 steps are none of them/],
    [['sample', '--scale', '1e9'], 'ConfigError', /--scale is '1e9'; it must be an integer at least 1 and at most 16/],
    [['demo', '--seed', '1e12'], 'ConfigError', /--seed is '1e12'/],
  ])('%j are refused at once', async (args, name, message) => {
    const { code, stdout } = await cli.run(...args, '--out', 'x.png', '--adapter', 'none', '--json');
    expect(code).toBe(name === 'ConfigError' ? 2 : 1);
    expect(JSON.parse(stdout).error).toMatchObject({ name, message: expect.stringMatching(message) });
    expect(existsSync(join(cli.folder, 'x.png'))).toBe(false);
  });
});

describe('models', () => {
  const refusal = async (command: string, path: string): Promise<string> => {
    const args = command === 'convert' ? [path, '--out', 'x.safetensors'] : ['--model', path];
    const { code, stderr } = await cli.run(command, ...args);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^CheckpointError: /);
    return stderr.replace(/^CheckpointError: /, '').split('\n')[0]!;
  };

  it.each(['convert', 'sample'])('that are not there: %s says what was looked for', async (command) => {
    execFileSync('mkfifo', [join(cli.folder, `fifo-${command}`)]);
    symlinkSync('nothing', join(cli.folder, `dangling-${command}`));
    const nothing = 'cannot be read: there is no such file, or it is a link to nothing';
    expect(await refusal(command, 'nowhere')).toBe(`nowhere ${nothing}`);
    expect(await refusal(command, `dangling-${command}`)).toBe(`dangling-${command} ${nothing}`);
    expect(await refusal(command, `fifo-${command}`)).toBe(`fifo-${command} is neither a file nor a folder`);
    expect(await refusal(command, '/dev/zero')).toBe('/dev/zero is neither a file nor a folder');
    expect(await refusal(command, 'file/x')).toBe('file/x cannot be read');
    expect(await refusal(command, 'empty')).toBe(
      'empty holds no model: there is no checkpoints/step-N/ema.safetensors or ema.safetensors in it',
    );
    expect(await refusal(command, 'other')).toBe(
      'other holds no model: there is no checkpoints/step-N/ema.safetensors or ema.safetensors in it',
    );
  });

  it('are found in run folders, and raw weights where there are any', async () => {
    const run = await cli.run('convert', 'run', '--out', 'from-run.safetensors', '--json');
    expect(JSON.parse(run.stdout)).toMatchObject({ from: 'run/checkpoints/step-20/ema.safetensors', weights: 'ema' });
    const other = await cli.run('convert', 'other', '--weights', 'raw', '--out', 'raw.safetensors', '--json');
    expect(JSON.parse(other.stdout)).toMatchObject({ from: 'other/model.safetensors', weights: 'raw' });
    const raw = await cli.run('convert', 'run', '--weights', 'raw', '--out', 'raw.safetensors', '--json');
    expect(JSON.parse(raw.stdout)).toMatchObject({ from: 'run/checkpoints/step-20/model.safetensors', weights: 'raw' });
  });

  it('that may not be read are refused with the reason', async (test) => {
    if (process.getuid === undefined) test.skip('there are no permissions to take away');
    mkdirSync(join(cli.folder, 'secret'), { mode: 0o700 });
    writeFileSync(join(cli.folder, 'private.safetensors'), '', { mode: 0o600 });
    chmodSync(cli.folder, 0o755);
    const reachable = await promisify(execFile)('bash', [
      '-c',
      `exec setpriv --reuid 65534 --regid 65534 --clear-groups test -r '${join(ROOT, 'package.json')}'`,
    ]).then(
      () => true,
      () => false,
    );
    if (process.getuid!() !== 0 || !reachable) test.skip('needs root, and a repository that anybody may read');
    const asNobody = (args: string) =>
      cli.bash(`setpriv --reuid 65534 --regid 65534 --clear-groups "${process.execPath}" "${cli.path}" ${args}`);
    for (const path of ['private.safetensors', 'secret/model.safetensors']) {
      for (const args of [
        `convert ${path} --out /tmp/x-${process.pid}`,
        `sample --model ${path} --out /tmp/x-${process.pid}`,
      ]) {
        const { code, stderr } = await asNobody(args);
        expect(code).toBe(1);
        expect(stderr).toMatch(/^CheckpointError: /);
        expect(stderr).toMatch(/no permission|EACCES/);
      }
    }
  });
});

it('takes no empty path for the current folder, nor for a model', async () => {
  const empty = async (...args: string[]) => {
    const { code, stderr } = await cli.run(...args);
    return [code, stderr.split('\n')[0]];
  };
  expect(await empty('train', '--data', '', '--adapter', 'none')).toEqual([2, 'ConfigError: --data is empty']);
  expect(await empty('sample', '--model', '')).toEqual([2, "ConfigError: the model's path is empty"]);
  expect(await empty('convert', '', '--out', 'x.safetensors')).toEqual([2, "ConfigError: the model's path is empty"]);
});

describe('demo --data', () => {
  const idx = (type: number, ...dims: number[]) => {
    const header = Buffer.alloc(4 + 4 * dims.length);
    for (const [i, n] of [0x800 + type, ...dims].entries()) header.writeUInt32BE(n, 4 * i);
    return Buffer.concat([header, Buffer.alloc(dims.reduce((a, b) => a * b, 1))]);
  };
  const demo = (data: string) => cli.run('demo', '--data', data, '--adapter', 'none');

  it('takes folders at the size of the model, and refuses what is not of its size or lacks classes', async () => {
    const png = encodePng({ width: 3, height: 4, pixels: new Uint8Array(36) });
    for (const name of ['two/test/0', 'two/test/1', ...Array.from({ length: 10 }, (_, k) => `ten/test/${k}`)]) {
      mkdirSync(join(cli.folder, name), { recursive: true });
      writeFileSync(join(cli.folder, name, 'a.png'), png);
    }
    mkdirSync(join(cli.folder, 'small'));
    writeFileSync(join(cli.folder, 'small/t10k-images-idx3-ubyte'), idx(3, 10, 8, 8));
    writeFileSync(join(cli.folder, 'small/t10k-labels-idx1-ubyte'), idx(1, 10));
    expect((await demo('ten')).stderr).toMatch(/^ConfigError: adapter 'none'/);
    const two = await demo('two');
    expect(two.stderr).toContain("ConfigError: 'test' has 2 classes; the model draws 10\n");
    expect(two.code).toBe(2);
    const small = await demo('small');
    expect(small.stderr).toContain("ConfigError: the model takes 28x28x1 pictures; 'small test' has 8x8x1\n");
    expect(small.code).toBe(2);
  });
});
