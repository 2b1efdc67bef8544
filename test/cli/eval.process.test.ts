/** What `odelt eval` refuses before an adapter is asked for, and its help. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeSafetensors } from '../../formats/safetensors.node.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelMetadata, modelTensors } from '../../model/weights/model-file.ts';
import { lockFolder } from '../../training/lock.node.ts';
import { buildCli, type Cli } from '../support/cli.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  mkdirSync(join(cli.folder, 'damaged'));
  for (const [name, fields] of Object.entries({ latents: { channels: 4 }, classes: { classes: 11 } })) {
    const config = preset('tiny', { width: 16, heads: 2, depth: 2, patch: 7, lengths: null, ...fields });
    const file = join(cli.folder, `${name}.safetensors`);
    await writeSafetensors(file, modelTensors(initParams(config, 1)), modelMetadata(config));
  }
  writeFileSync(join(cli.folder, 'damaged/results.json'), '{"cells":');
});
afterAll(() => cli?.remove());

// No adapter has this name: a command that got as far as asking for one would say so instead.
const run = (...args: string[]) => cli.run('eval', '--adapter', 'none', ...args);

it.each([
  [['--steps', '1,3'], '3 steps are none of them'],
  [['--steps', '1,'], "--steps is ''; it must be an integer at least 1"],
  [['--blocks', '5'], '5'],
  [['--guidance', 'much'], "--guidance is 'much'; it must be a number"],
  [['--solver', 'dopri5', '--steps', '4'], '--solver dopri5 chooses its own steps; --steps 4 were asked for'],
  [['--tolerance', '0.1'], '--tolerance is for adaptive solvers; euler takes fixed steps'],
  [['--solver', 'tsit5', '--tolerance', '0'], 'tolerance is 0; it must be above 0'],
  [['--level', '0,9'], 'level is 9; this model was trained for levels 0 to 7'],
  [['--loss-map', '--level', '0'], '--loss-map draws no samples, and --level says how they are drawn'],
  [['--shard', '4/4'], '--shard 4/4 is part 4 of 4'],
  [['--shard', '0/9', '--count', '64', '--batch', '8'], '64 samples in batches of 8 are 8, which cannot be 9 parts'],
  [['--reference', 's.npz', '--data', 'd'], '--data and --reference both say what samples are compared with'],
  [['--linear-algebra', 'mkl'], "--linear-algebra is 'mkl'; it must be one of auto, own, openblas"],
  [['--replicates', '1'], '--replicates is 1; an interval takes two or more'],
  [['--replicates', '-1'], "--replicates is '-1'; it must be an integer at least 0"],
  [['--refresh', '4:2', '--blocks', '4'], 'refresh 4:2 makes no cell'],
  [['--along', '4@0,8@0'], 'blocks is 4@0,8@0: 0 is not later than 0'],
  [['--first-blocks', '5'], 'the first 5 blocks were asked for; the model never runs so many'],
  [['--solver', 'eular'], "--solver is 'eular'; it must be one of"],
  [['--features', 'inception'], "--features is 'inception'; it must be one of pca64, pixels, random, classifier"],
  [['--features', 'onnx'], '--features onnx names no file'],
  [['--weights', 'best'], "--weights is 'best'; it must be one of ema, raw"],
  [['--count', '5'], '5 samples cannot be judged; it takes 8'],
  [['latents.safetensors'], 'latents.safetensors makes latents of 4 channels'],
  [['classes.safetensors'], "'Fashion-MNIST test' has 10 classes; the model draws 11"],
  [['--out', ''], '--out is empty'],
  [['--out', 'damaged'], 'damaged/results.json is no JSON'],
])('%j is a wrong argument', async (args, message) => {
  const { code, stdout, stderr } = await run(...args);
  expect(stderr).toContain(`ConfigError: `);
  expect(stderr).toContain(message);
  expect([code, stdout]).toEqual([2, '']);
  expect(readdirSync(join(cli.folder, 'damaged'))).toEqual(['results.json']);
});

it.each([
  [['--variants', 'method,cut,groups-4'], 'the variant groups-4 is the method itself with these settings'],
  [['--variants', 'cit'], "there is no variant 'cit' of this model"],
  [['--variants', 'cut,cut'], '--variants has a name twice: cut, cut'],
  [['--seeds', '1,1'], '--seeds has a number twice: 1, 1'],
  [['--updates', '5', '--samples', '10'], '--updates 5 and --samples 10 both say how long runs are'],
  [['--steps', '3'], '3 steps are none of them'],
  [['--count', '5'], '5 samples cannot be judged; it takes 8'],
  [['--lr', '0'], "--lr is '0'; it must be a number above 0"],
  [['--lr', '-1'], "--lr is '-1'; it must be a number above 0"],
  [['--beta1', '1'], "--beta1 is '1'; it must be a number at least 0 and below 1"],
  [['--set', 'model.lengths=null'], 'the model runs 12 blocks and no other number'],
  [['--objective', 'progressive'], '--objective progressive needs a teacher'],
])('an ablation with %j is a wrong argument', async (args, message) => {
  const { code, stdout, stderr } = await cli.run('ablation', '--adapter', 'none', ...args);
  expect(stderr).toContain('ConfigError: ');
  expect(stderr).toContain(message);
  expect([code, stdout]).toEqual([2, '']);
});

it('a folder that cannot be written, a model or data that are not there, are told before the work', async () => {
  expect((await run('--out', 'cli.js')).stderr).toContain(`--out 'cli.js' cannot be written`);
  const model = await run('nowhere.safetensors');
  expect(model).toMatchObject({ code: 1, stderr: expect.stringContaining('CheckpointError: nowhere.safetensors') });
  const data = await run('--data', 'nowhere');
  expect(data).toMatchObject({ code: 1, stderr: expect.stringContaining('DataError: nowhere: no such file') });
  const network = await run('--features', 'onnx:cli.js');
  expect(network).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('CheckpointError: cli.js is no whole ONNX model: it '),
  });
  const classifier = await run('--features', 'classifier:nowhere.safetensors');
  expect(classifier).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('CheckpointError: nowhere.safetensors cannot be read'),
  });
});

it('a folder that another process writes into is refused; what a killed one left is not in the way', async () => {
  const taken = join(cli.folder, 'taken');
  mkdirSync(taken);
  const unlock = await lockFolder(taken);
  const refusal = `ConfigError: process ${process.pid} is writing into taken\n  hint: wait for it, stop it`;
  expect(await run('--out', 'taken')).toMatchObject({ code: 2, stderr: expect.stringContaining(refusal) });
  await unlock();
  // A pid that is none, so its owner is dead: the evaluation comes to the adapter that is not there.
  mkdirSync(join(taken, 'lock'));
  writeFileSync(join(taken, 'lock', `pid-${2 ** 22 + 1}-start-1-00`), '');
  for (const out of ['taken', 'fresh']) {
    expect((await run('--out', out)).stderr).toContain("adapter 'none' is unknown");
  }
  // Nothing came of either: a folder that was made for it is gone, too.
  expect(readdirSync(taken)).toEqual([]);
  expect(existsSync(join(cli.folder, 'fresh'))).toBe(false);
});

it('the help says what every figure is', async () => {
  const { code, stdout } = await cli.run('eval', '--help');
  expect(code).toBe(0);
  for (const word of ['FD', 'KID', 'precision', 'recall', 'density', 'coverage', 'agreement', 'nearer', 'Intervals'])
    expect(stdout).toContain(word);
});
