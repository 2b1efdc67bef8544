/** Wrong arguments, errors with --json, help without anything heavy, and text that could steer a terminal. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli, ended } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

/** All but line breaks that a terminal would obey. */
const STEERING = /[^\P{Cc}\n]|\p{Bidi_Control}|\p{Zl}|\p{Zp}/u;

describe('wrong arguments', () => {
  it('exit with 2 and name what was meant', async () => {
    const command = await cli.run('sampel');
    expect(command.code).toBe(2);
    expect(command.stderr).toContain("error: unknown command 'sampel'\n(Did you mean sample?)");
    const option = await cli.run('sample', '--stps', '4');
    expect(option.code).toBe(2);
    expect(option.stderr).toBe(
      "error: unknown option '--stps'\n(Did you mean --steps?)\n  hint: --help lists what there is\n",
    );
    expect(option.stdout).toBe('');
  });

  it.each([
    [['sample', '--stps', '4', '--json'], "unknown option '--stps'", '(Did you mean --steps?)'],
    [
      ['data', 'faces', 'x', '--count', '7', '--json'],
      '7 training pictures cannot be put into 5 files of as many each',
      'give a multiple of 5',
    ],
    [['convert', 'x', '--json'], 'no output is named', 'odelt convert MODEL OUT'],
    [['convert', 'x', 'y', '--out', 'z', '--json'], 'the output is named twice', 'give either OUT or --out'],
    [['convert', 'x', 'y', '--from', 'dut', '--json'], "--from is 'dut'; it must be dit or sit", null],
    [
      ['convert', 'x', 'y', '--lengths', '4', '--json'],
      "--lengths is '4'; it must be MIN,GROUP",
      'such as 4,4: --depth_min and --depth_group of the training',
    ],
    [['convert', '--out', 'x', '--json'], "missing required argument 'model'", null],
    [['sample', '--steps', 'many', '--json'], "--steps is 'many'; it must be an integer at least 1", null],
    [
      ['sample', '--blocks', '4@0,8', '--json'],
      "--blocks is '4@0,8'; '8' is no number of blocks from a time on",
      'write one number for all times, like 8, or numbers and the times that they hold from, like 4@0,8@0.5,12@0.8',
    ],
    [
      ['sample', '--blocks', '4@0.5,12@0.8', '--json'],
      'blocks is 4@0.5,12@0.8: the first is from 0.5, not from 0',
      'the first is from time 0, each other later than the one before, below 1: [{ from: 0, blocks: 4 }, { from: 0.5, blocks: 12 }], or 4@0,12@0.5',
    ],
    [
      ['sample', '--blocks', '4@0,10@0.5', '--json'],
      'this model cannot run 10 of its 12 blocks',
      'allowed lengths: 4, 8, 12',
    ],
    [
      ['sample', '--blocks', '4', '--refresh', '12', '--json'],
      "--refresh is '12', which is no number of blocks and of steps",
      'write it like 12:2, for 12 blocks in every second step',
    ],
    [
      ['sample', '--refresh', '12:2', '--json'],
      'refresh with 12 blocks runs no more than the 12 of other steps',
      'give one smaller number of blocks for the steps between',
    ],
    [
      ['sample', '--blocks', 'auto', '--max-memory', '1GB', '--refresh', '12:2', '--json'],
      '--refresh needs a number of --blocks, not auto',
      null,
    ],
    [
      ['sample', '--budget', '60', '--json'],
      "--budget is '60', which is neither a time nor a size",
      'write a time for each picture like 50ms or 2s, or a peak of GPU memory like 60MB or 1.5GB',
    ],
    [
      ['sample', '--level', '8', '--json'],
      'level is 8; this model was trained for levels 0 to 7',
      'the level is log2 of a number of steps: 0 for one, 7 for 128',
    ],
    [
      ['sample', '--budget', '2s', '--level', '0', '--json'],
      "--budget and --level exclude each other: the model's evaluation does not say how good samples drawn so are",
      'leave out one of them',
    ],
    [
      ['sample', '--budget', '2s', '--steps', '4', '--json'],
      '--budget and --steps exclude each other: --budget chooses steps and blocks',
      'leave out one of them',
    ],
    [
      ['sample', '--budget', '2s', '--blocks', '4', '--json'],
      '--budget and --blocks exclude each other: --budget chooses steps and blocks',
      'leave out one of them',
    ],
    [
      ['sample', '--budget', '2s', '--max-memory', '1GB', '--json'],
      '--budget and --max-memory exclude each other: a budget is either of memory, like 60MB, or of time, like 50ms',
      'leave out one of them',
    ],
    [
      ['sample', '--budget', '2s', '--refresh', '12:2', '--json'],
      "--budget and --refresh exclude each other: the model's evaluation does not say how good samples drawn so are",
      'leave out one of them',
    ],
    [
      ['sample', '--load-blocks', 'late', '--json'],
      "--load-blocks is 'late'; it must be one of first, along, needed",
      null,
    ],
    [['convert', 'x', '--out', 'y', '--dtype', 'f8', '--json'], "--dtype is 'f8'; it must be f16 or f32", null],
    [['sample', '--out', '', '--json'], '--out is empty', 'give the path of a file'],
  ])('of %j are one JSON document', async (args, message, hint) => {
    const { code, stdout, stderr } = await cli.run(...args);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toEqual({ error: { name: 'ConfigError', code: 'config', message, hint, causes: [] } });
    expect(stderr).toContain(message);
  });
});

describe('errors', () => {
  it('are one JSON document with --json, with what is behind them', async () => {
    const through = await cli.run('convert', 'cli.js/x', '--out', 'x.safetensors');
    expect(through).toMatchObject({ code: 1, stdout: '' });
    expect(through.stderr).toContain('CheckpointError: cli.js/x cannot be read\n  because: ENOTDIR: not a directory');
    const known = await cli.run('convert', 'cli.js/x', '--out', 'x.safetensors', '--json');
    expect(JSON.parse(known.stdout).error.causes).toEqual([expect.stringContaining('ENOTDIR: not a directory')]);
    writeFileSync(join(cli.folder, 'empty.safetensors'), '');
    const { code, stdout, stderr } = await cli.run('convert', 'empty.safetensors', '--out', 'x.safetensors', '--json');
    expect(code).toBe(1);
    const { error } = JSON.parse(stdout);
    expect(error).toMatchObject({ name: 'CheckpointError', code: 'checkpoint', causes: [] });
    expect(error.message).toContain('empty.safetensors is no checkpoint that can be read: it begins with nothing');
    expect(stderr).toContain(error.message);
  });

  it('say why a server cannot be reached', async () => {
    // Nothing listens on a port that has just been closed.
    const { createServer } = await import('node:net');
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const { code, stdout, stderr } = await cli.run('sample', '--model', `http://localhost:${port}/m`, '--json');
    expect(code).toBe(1);
    const { message, causes } = JSON.parse(stdout).error;
    // Said by whoever asks the server, or else as a cause.
    for (const said of [stderr, [message, ...causes].join()]) expect(said).toContain('ECONNREFUSED 127.0.0.1');
  });

  it('and output longer than a pipe are whole behind a slow reader', async () => {
    const { stdout } = await cli.bash(
      'name=$(printf "x%.0s" {1..100000})\nodelt sample --$name --json | (sleep 1; cat)',
    );
    expect(JSON.parse(stdout).error.message).toHaveLength("unknown option '--'".length + 100_000);
  });
});

describe('text from elsewhere', () => {
  it('cannot steer the terminal: what a weight file holds', async () => {
    const name = '\x1b]0;owned\x07\x1b[2J\u202eevil\x9b\n';
    const entry = (type: string) => ({ [name]: { dtype: type, shape: [1], data_offsets: [0, 4] } });
    const headers = {
      name: JSON.stringify(entry('F8')),
      type: JSON.stringify(entry(name)),
      value: `{"a":${name}}`,
      metadata: JSON.stringify({ __metadata__: { 'odelt.config': `{"${name}"` } }),
      field: JSON.stringify({ __metadata__: { 'odelt.config': JSON.stringify({ [name]: name }) } }),
    };
    for (const [kind, header] of Object.entries(headers)) {
      const file = `${kind}.safetensors`;
      const json = Buffer.from(header);
      const length = Buffer.alloc(8);
      length.writeUInt32LE(json.length);
      writeFileSync(join(cli.folder, file), Buffer.concat([length, json]));
      for (const command of [
        ['convert', file, '--out', 'x', '--json'],
        ['sample', '--model', file],
      ]) {
        const { code, stdout, stderr } = await cli.run(...command);
        expect(code).toBe(1);
        expect(stderr).toContain(file);
        expect(stdout + stderr).not.toMatch(STEERING);
      }
    }
  });

  it('cannot steer the terminal nor begin a line: paths and arguments', async () => {
    const name = 'a\nok   all cases pass\x1b[2K\u2066';
    const file = await cli.run('sample', '--model', name);
    expect(file.stderr).toContain('CheckpointError: a\\nok   all cases pass\\x1b[2K\\u2066 cannot be read');
    for (const args of [[name], ['sample', `--${name}`], ['sample', '--labels', name], ['sample', '--steps', name]]) {
      const { code, stderr } = await cli.run(...args);
      expect(code).toBe(2);
      expect(stderr).not.toMatch(STEERING);
    }
  });
});

describe('help', () => {
  it('states the exit codes and the version is the package’s', async () => {
    const help = await cli.run('--help');
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/Exit codes: 0 done; 1 failed; 2 wrong arguments; 130 after Ctrl-C/);
    const { default: meta } = await import('../../package.json', { with: { type: 'json' } });
    expect((await cli.run('--version')).stdout).toBe(`${meta.version}\n`);
    expect((await cli.run('help', 'convert')).stdout).toContain('--dtype <type>');
    expect((await cli.run('stats', '--help')).stdout).toMatch(/^ {2}data +pictures \(default: the bundled ones\)$/m);
    expect((await cli.run('bench', 'memory', '--help')).stdout).toContain('--preset <name>');
  });

  it('and wrong arguments load neither the engine nor what it needs', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'odelt-cli-'));
    try {
      cpSync(cli.folder, join(folder, 'dist'), { recursive: true });
      cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
      mkdirSync(join(folder, 'node_modules'));
      const provide = (name: string) =>
        symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
      const odelt = (...args: string[]) => ended(process.execPath, [join(folder, 'dist', 'cli.js'), ...args]);
      for (const name of ['commander', 'picocolors']) provide(name);
      expect(await odelt('--help')).toMatchObject({ code: 0, stderr: '' });
      expect(await odelt('--version')).toMatchObject({ code: 0, stderr: '' });
      expect((await odelt('sampel')).stderr).toContain('Did you mean sample?');
      // Help and wrong flags of one command load its code, but no driver and no decoder of pictures.
      for (const name of ['valibot', 'fflate']) provide(name);
      expect(await odelt('sample', '--help')).toMatchObject({ code: 0, stderr: '' });
      expect((await odelt('train', '--stps', '3')).stderr).toContain('Did you mean --steps?');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
