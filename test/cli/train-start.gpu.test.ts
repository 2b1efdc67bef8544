/** `odelt train` with objectives, teachers and weights to start from: what is written, what goes on, and what is refused. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { type ParamSet, paramEntries } from '../../model/params.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { npy } from '../support/archives.ts';
import { buildCli, type Cli, type Ended } from '../support/cli.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

const small = { width: 16, heads: 2, depth: 4, patch: 2 };
const model: ModelConfig = preset('tiny', { ...small, imageSize: 8, channels: 1, classes: 3, ignoreDt: true });
const teacher = formulaParams(model, 9);
const flags = Object.entries(small).flatMap(([name, value]) => [`--${name}`, String(value)]);

let cli: Cli;
const at = (...path: string[]) => join(cli.folder, ...path);
async function put(name: string, config: ModelConfig, params: ParamSet): Promise<void> {
  const { tensors, metadata } = await modelContents(config, params);
  writeFileSync(at(name), serializeSafetensors(tensors, metadata));
}
beforeAll(async () => {
  cli = await buildCli();
  mkdirSync(at('squares'));
  const pixels = Uint8Array.from({ length: 12 * 64 }, (_, i) => (i * 37 + Math.floor(i / 64) * 91) % 256);
  writeFileSync(at('squares', 'images.npy'), npy('|u1', [12, 8, 8, 1], pixels));
  writeFileSync(
    at('squares', 'labels.npy'),
    npy(
      '|u1',
      [12],
      Uint8Array.from({ length: 12 }, (_, i) => i % 3),
    ),
  );
  await put('teacher.safetensors', model, teacher);
});
afterAll(() => cli?.remove());

const train = (...args: string[]): Promise<Ended> =>
  cli.run('train', '--data', 'squares', '--preset', 'tiny', '--batch', '8', ...flags, ...args);
const resume = (...args: string[]): Promise<Ended> => cli.run('train', '--resume', ...args);
const file = (out: string, step: number, name: string) =>
  readFileSync(at(out, 'checkpoints', `step-${step}`, `${name}.safetensors`));

describe('a teacher', () => {
  const progressive = ['--objective', 'progressive', '--teacher', 'teacher.safetensors', '--steps', '4'];

  it('is kept with the run, replaced as its levels end, and gone on with bit for bit', async () => {
    // Four updates on a grid of four points: levels 1, 0, 0, 0; the teacher changes once, after the first, whose rate is not 0.
    const grid = ['--finest', '4', '--warmup', '0'];
    const whole = await train(...progressive, ...grid, '--save-every', '2', '--out', 'whole');
    expect(whole).toMatchObject({ code: 0 });
    const config = JSON.parse(readFileSync(at('whole', 'config.json'), 'utf8'));
    expect([config.train.objective, config.model.ignoreDt]).toEqual(['progressive', true]);
    const first = await train(...progressive, ...grid, '--max-time', '0.001s', '--out', 'parts');
    expect(first).toMatchObject({ code: 0, stderr: expect.stringContaining('the time is over after 1 of 4 updates') });
    expect(existsSync(at('parts', 'checkpoints', 'step-1', 'teacher.safetensors'))).toBe(true);
    const given = readFileSync(at('teacher.safetensors'));
    const tail = (bytes: Uint8Array) => Buffer.from(bytes).subarray(-1000);
    expect(tail(file('parts', 1, 'teacher')).equals(tail(file('parts', 1, 'ema')))).toBe(true);
    expect(tail(file('parts', 1, 'teacher')).equals(tail(given))).toBe(false);
    expect(await resume('--out', 'parts')).toMatchObject({ code: 0 });
    for (const name of ['teacher', 'model', 'ema', 'optim']) {
      expect(file('parts', 4, name).equals(file('whole', 4, name)), name).toBe(true);
    }
    // The teacher in the checkpoint is what the run goes on with: without it there is no going on.
    writeFileSync(at('parts', 'checkpoints', 'step-4', 'teacher.safetensors'), given);
    const damaged = await resume('--steps', '4', '--out', 'parts');
    expect(damaged.code).toBe(1);
    expect(damaged.stderr).toContain('teacher.safetensors');
  });

  it('that is missing, not wanted or not this model is refused with the remedy, and leaves no run', async () => {
    const broken = formulaParams(model, 9);
    broken.groups[0]![3] = Number.NaN;
    await put('nan.safetensors', model, broken);
    const wider = { ...model, width: 32 };
    await put('wider.safetensors', wider, formulaParams(wider, 9));
    const told = { ...model, ignoreDt: false };
    await put('told.safetensors', told, formulaParams(told, 9));
    const cases: [args: string[], code: number, message: string, hint: string][] = [
      [
        ['--objective', 'progressive'],
        2,
        'ConfigError: --objective progressive needs a teacher, and none was given',
        '--teacher FILE',
      ],
      [
        ['--objective', 'naive', '--teacher', 'teacher.safetensors'],
        2,
        'ConfigError: a teacher was given, and --objective naive has no use for one',
        'leave it out, or train with progressive and consistency-distillation',
      ],
      [
        ['--objective', 'progressive', '--teacher', 'none.safetensors'],
        1,
        'CheckpointError: none.safetensors cannot be read: there is no such file',
        'give a .safetensors file or a run folder',
      ],
      [
        ['--objective', 'consistency-distillation', '--teacher', 'wider.safetensors'],
        1,
        'CheckpointError: the teacher wider.safetensors has width 32; the model has width 16',
        'train the student as its teacher was, with its sizes and what it predicts',
      ],
      [
        ['--objective', 'progressive', '--teacher', 'told.safetensors'],
        1,
        'CheckpointError: the teacher told.safetensors has ignoreDt false; the model has ignoreDt true',
        'take a teacher that was trained without step levels: --objective naive, fm, icfm or rfm',
      ],
      [
        ['--objective', 'progressive', '--teacher', 'nan.safetensors'],
        1,
        'holds NaN at element 3',
        'the run that made them diverged: take an earlier checkpoint of it',
      ],
      [['--objective', 'shortcuts'], 2, "ConfigError: --objective has no 'shortcuts'", 'did you mean shortcut?'],
      [
        ['--set', 'train.objective=progresive'],
        2,
        'ConfigError: train.objective (--set) is "progresive"; it must be \'shortcut\'',
        'did you mean progressive?',
      ],
    ];
    for (const [args, code, message, hint] of cases) {
      const ended = await train(...args, '--steps', '2', '--out', 'refused');
      expect(ended.stderr).toContain(message);
      expect(ended.stderr).toMatch(/\n {2}hint: /);
      expect(ended.stderr).toContain(hint);
      expect([args, ended.code]).toEqual([args, code]);
      expect(existsSync(at('refused'))).toBe(false);
    }
    for (const name of ['teacher', 'init']) {
      const ended = await resume(`--${name}`, 'teacher.safetensors', '--out', 'whole');
      expect(ended).toMatchObject({
        code: 2,
        stderr: expect.stringContaining(`ConfigError: --${name} is for new runs; whole goes on with the weights`),
      });
    }
  });
});

it('--init says what was copied and what starts anew, and the run starts from it', async () => {
  const plain = { ...model, lengths: null };
  const given = formulaParams(plain, 9);
  await put('plain.safetensors', plain, given);
  const ended = await train('--init', 'plain.safetensors', '--lr', '1e-12', '--steps', '1', '--out', 'warm');
  expect(ended.code).toBe(0);
  const count = [...paramEntries(given)].length;
  expect(ended.stderr).toContain(`plain.safetensors: copied ${count} parameters\n`);
  expect(ended.stderr).toContain(
    'plain.safetensors: initialised 1 parameter: BlockEmbedder_0/Embed_0/embedding (not there)\n',
  );
  const started = parseSafetensors(file('warm', 1, 'model'));
  for (const { spec, values } of paramEntries(given)) {
    const found = started.floats(spec.name);
    // One update at a rate of next to nothing.
    expect(
      found.findIndex((x, i) => Math.abs(x - values[i]!) > 1e-7),
      spec.name,
    ).toBe(-1);
  }
});

it('--resume auto begins where there is no checkpoint, else goes on: one command, given again', async () => {
  const same = ['--resume', 'auto', '--steps', '3', '--init', 'teacher.safetensors', '--objective', 'naive'];
  const first = () => train(...same, '--out', 'auto', '--max-time', '0.001s');
  const begun = { code: 0, stderr: expect.stringContaining('the time is over after 1 of 3 updates') };
  expect(await first()).toMatchObject(begun);
  // As after a kill before the first checkpoint: an update in the log, which is done again.
  rmSync(at('auto', 'checkpoints', 'step-1'), { recursive: true });
  expect(await first()).toMatchObject(begun);
  const config = readFileSync(at('auto', 'config.json'), 'utf8');
  const went = await train(...same, '--out', 'auto');
  expect(went.code, went.stderr).toBe(0);
  expect(readFileSync(at('auto', 'config.json'), 'utf8')).toBe(config);
  const lines = readFileSync(at('auto', 'metrics.jsonl'), 'utf8').trim().split('\n');
  expect(lines.map((line) => JSON.parse(line).step)).toEqual([1, 2, 3]);
  expect(existsSync(at('auto', 'checkpoints', 'step-3'))).toBe(true);
});
