import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { CheckpointError, ConfigError, InterruptedError, NonFiniteError } from '../../engine/errors.ts';
import type { Tuning, TuningChoice } from '../../engine/tuning.ts';
import { OWN_NAME } from '../../formats/files.node.ts';
import { tuningBy, tuningOf } from '../../kernels/candidates.ts';
import { families } from '../../kernels/families.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import { initParams, paramLayout } from '../../model/params.ts';
import { classNamesOf, parseModelFile } from '../../model/weights/model-file.ts';
import { drawStep, skippedShare } from '../../training/batch.ts';
import { checkpointSteps, loadCheckpoint, saveCheckpoint } from '../../training/checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import type { Dataset } from '../../training/data/dataset.ts';
import { fingerprint } from '../../training/data/fingerprint.node.ts';
import { runTraining } from '../../training/run.node.ts';
import { readRunConfig } from '../../training/run-config.node.ts';
import { learningRate } from '../../training/schedule.ts';
import type { TrainEvent } from '../../training/trainer.ts';
import { subjectOf } from '../../tuning/problem.ts';
import { problemsOf } from '../../tuning/problems.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
let folder: string;
const scratch: string[] = [];
beforeAll(async () => {
  engine = await unoptimisedEngine();
});
beforeEach(async () => {
  folder = await temporary();
  notices = [];
});
afterAll(async () => {
  engine.dispose();
  for (const path of scratch) await rm(path, { recursive: true, force: true });
});

async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'odelt-run-'));
  scratch.push(path);
  return path;
}

/** Everything that draws random numbers is on, so that a resumed run must continue each of them. */
const model: ModelConfig = parseModelConfig({ ...tinyModel, dropout: 0.1 });
const train: TrainConfig = parseTrainConfig({ ...tinyTrain, steps: 6, flip: true });

interface Options {
  readonly in?: string;
  readonly resume?: boolean | number;
  readonly model?: ModelConfig;
  readonly saveEvery?: number;
  readonly signal?: AbortSignal;
  readonly otherTuning?: boolean;
  readonly change?: Partial<TrainConfig>;
  readonly onStep?: (event: TrainEvent) => void;
  readonly onSave?: (folder: string) => void;
  readonly onReady?: () => void;
}

/** What runs said of their folder since the test began. */
let notices: string[] = [];

const run = ({ in: at = folder, resume = false, saveEvery = 100, change, ...options }: Options = {}) =>
  runTraining(engine, {
    ...options,
    folder: at,
    config: { model: options.model ?? model, train: { ...train, ...change }, data: 'tiny' },
    data: tinyData(),
    resume,
    saveEvery,
    environment: { test: true },
    onNotice: (text) => notices.push(text),
  });

/** Runs until update `step` is done, then interrupts. */
async function interrupted(step: number, options: Options = {}): Promise<unknown> {
  const controller = new AbortController();
  const onStep = (event: TrainEvent) => event.step === step && controller.abort();
  return rejection(run({ ...options, signal: controller.signal, onStep }));
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error,
  );
}

const load = (at = folder) => loadCheckpoint(join(at, 'checkpoints'), paramLayout(model));
const steps = (at = folder) => checkpointSteps(join(at, 'checkpoints'));
/** The lines of metrics.jsonl but for what a clock says. */
async function metrics(at = folder): Promise<Omit<TrainEvent, 'seconds'>[]> {
  const text = await readFile(join(at, 'metrics.jsonl'), 'utf8');
  expect(text.endsWith('\n')).toBe(true);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const { seconds, ...rest } = JSON.parse(line) as TrainEvent;
      expect(seconds).toBeGreaterThan(0);
      return rest;
    });
}

describe('resuming', () => {
  let whole: string;
  beforeAll(async () => {
    whole = await temporary();
    await run({ in: whole });
  });

  it('six updates equal three, a checkpoint, and three more, bit for bit', async () => {
    const error = await interrupted(3);
    expect(error).toBeInstanceOf(InterruptedError);
    expect((error as Error).message).toBe('training was interrupted after 3 steps');
    expect(await steps()).toEqual([3]);
    expect(await run({ resume: true })).toBe(join(folder, 'checkpoints', 'step-6'));
    const [a, b] = [await load(whole), await load()];
    expect(b.state).toEqual(a.state);
    expect(setBits({ ...b.sets })).toEqual(setBits({ ...a.sets }));
    expect(await metrics()).toEqual(await metrics(whole));
    const lines = await metrics();
    expect(lines.map((line) => line.step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(new Set(lines.map((line) => line.losses.loss)).size).toBe(6);
    for (const { losses, step, lr, skipped } of lines) {
      expect(lr).toBe(learningRate(step - 1, train));
      expect(skipped).toBe(skippedShare(model, drawStep(model, train, step - 1).lengths));
      // Two rows of time, two of length, four of flow: the shares of a batch of eight.
      expect(losses.loss).toBeCloseTo((2 * losses.time! + 2 * losses.length! + 4 * losses.flow!) / 8, 5);
    }
  });

  it('the moving average and the moments are saved and differ from the parameters', async () => {
    const { sets } = await load(whole);
    const packed = setBits({ ...sets });
    expect(new Set(Object.values(packed).map((groups) => groups.join())).size).toBe(4);
    expect(setBits({ p: initParams(model, train.seed) }).p).not.toEqual(packed.params);
  });

  it('metrics beyond the checkpoint, and a torn last line, are dropped and made again', async () => {
    await interrupted(3);
    const three = await readFile(join(folder, 'metrics.jsonl'), 'utf8');
    await appendFile(join(folder, 'metrics.jsonl'), '{"step":4,"lr":9,"losses":{}}\n{"step":5,"lr":0.0');
    await interrupted(4, { resume: true });
    expect((await readFile(join(folder, 'metrics.jsonl'), 'utf8')).startsWith(three)).toBe(true);
    await appendFile(join(folder, 'metrics.jsonl'), '{"st');
    await run({ resume: true });
    expect(await metrics()).toEqual(await metrics(whole));
  });

  it('an abort before the first update saves the start; from there the run is the same', async () => {
    const error = await rejection(run({ signal: abortedAtReady() }));
    expect(error).toBeInstanceOf(InterruptedError);
    if ((await steps()).length > 0) expect(await steps()).toEqual([0]);
    await run({ resume: (await steps()).length > 0 });
    expect(await metrics()).toEqual(await metrics(whole));
  });

  /** A signal that is aborted from its first look after compilation on. */
  function abortedAtReady(): AbortSignal {
    let looks = 0;
    return {
      get aborted() {
        return ++looks > 2;
      },
    } as AbortSignal;
  }

  it('keeps the newest two checkpoints, and a finished run resumes to nothing', async () => {
    await run({ saveEvery: 1 });
    expect(await steps()).toEqual([5, 6]);
    const before = await metrics();
    expect(await run({ resume: true })).toBe(join(folder, 'checkpoints', 'step-6'));
    expect(await metrics()).toEqual(before);
  });

  it('a run is not overwritten, and one that is not there is not resumed', async () => {
    await interrupted(1);
    const began = await readFile(join(folder, 'config.json'), 'utf8');
    const again = (await rejection(run({ change: { lr: 1 } }))) as ConfigError;
    expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe(began);
    expect(again).toBeInstanceOf(ConfigError);
    expect(again.message).toBe(`${folder} already holds a run`);
    const empty = await temporary();
    expect(await rejection(run({ in: empty, resume: true }))).toBeInstanceOf(CheckpointError);
    expect(await rejection(readRunConfig(empty))).toBeInstanceOf(ConfigError);
    const pictures = fingerprint(tinyData());
    expect(await readRunConfig(folder)).toEqual({ model, train, data: 'tiny', pictures });
  });

  it('other data than the run began with are refused, and class names are in the weights', async () => {
    await interrupted(1);
    const config = await readRunConfig(folder);
    const goOn = (data: Dataset) =>
      runTraining(engine, { folder, config, data, resume: true, saveEvery: 2, environment: {} });
    const error = (await rejection(goOn(tinyData(15)))) as ConfigError;
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('the run was trained on other data (tiny): pictures: 12, now 15');
    // What the folder says counts where the caller says nothing.
    const own = { ...tinyData(), image: (i: number) => tinyData().image(11 - i) };
    const unsaid = { ...config, pictures: undefined };
    const other = runTraining(engine, {
      ...{ folder, config: unsaid, data: own, resume: true, saveEvery: 2, environment: {} },
    });
    expect(await rejection(other)).toMatchObject({
      code: 'config',
      message: 'the run was trained on other data (tiny): contents of the pictures',
    });
    expect((await readRunConfig(folder)).pictures).toEqual(fingerprint(tinyData()));
    expect(await steps()).toEqual([1]);
    // Of earlier versions: nothing is recorded, so nothing is compared, and from now on it is.
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, pictures: undefined }));
    const named = { ...tinyData(), classNames: ['a', 'b', 'c\n'] };
    await runTraining(engine, {
      ...{ folder, config: await readRunConfig(folder), data: named, resume: true, saveEvery: 2, environment: {} },
    });
    expect((await readRunConfig(folder)).pictures).toEqual(fingerprint(named));
    for (const name of ['ema', 'model']) {
      const path = join(folder, 'checkpoints', 'step-6', `${name}.safetensors`);
      expect(classNamesOf(await parseModelFile(await readFile(path), path), path)).toEqual(['a', 'b', 'c\n']);
    }
  });

  it('metrics without a checkpoint, and the config.json of something else, are not written over', async () => {
    const started = await readFile(join(whole, 'metrics.jsonl'), 'utf8');
    await writeFile(join(folder, 'metrics.jsonl'), started);
    const error = (await rejection(run())) as ConfigError;
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe(`${folder} already holds a run of 6 updates and no checkpoint`);
    expect(await readFile(join(folder, 'metrics.jsonl'), 'utf8')).toBe(started);
    await rm(join(folder, 'metrics.jsonl'));
    await writeFile(join(folder, 'config.json'), '{"model_type":"bert"}');
    expect(await rejection(run())).toBeInstanceOf(ConfigError);
    expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe('{"model_type":"bert"}');
    expect(await readdir(folder)).toEqual(['config.json']);
  });

  it('files of something else, and a config.yaml of somebody, are not written over', async () => {
    const texts = { 'config.yaml': '# mine\ntrain:\n  lr: 1\n', 'env.json': '{}', 'metrics.jsonl': '{"loss":1}\n' };
    const refused = async (name: string, text: string) => {
      expect(await rejection(run())).toMatchObject({
        code: 'config',
        message: `${join(folder, name)} is of no run, and a new one would write over it`,
      });
      expect(await readFile(join(folder, name), 'utf8')).toBe(text);
    };
    for (const [name, text] of Object.entries(texts)) {
      await writeFile(join(folder, name), text);
      await refused(name, text);
      expect((await readdir(folder)).filter((each) => each !== 'checkpoints')).toEqual([name]);
      await rm(join(folder, name));
    }
    // A run that did no update begins again; what was written into its settings stays.
    const begun = async () => {
      const onReady = () => {
        throw new Error('not yet');
      };
      return rejection(run({ onReady }));
    };
    expect(await begun()).toMatchObject({ message: 'not yet' });
    expect(await begun()).toMatchObject({ message: 'not yet' });
    const yaml = `${await readFile(join(folder, 'config.yaml'), 'utf8')}# mine\n`;
    await writeFile(join(folder, 'config.yaml'), yaml);
    await refused('config.yaml', yaml);
  });

  it('takes a lower rate and more updates, and keeps a history of that', async () => {
    await interrupted(2);
    await interrupted(3, { resume: true, change: { lr: 1e-4 } });
    await run({ resume: true, change: { lr: 1e-4, steps: 7, recompute: 'blocks' } });
    const changed = parseTrainConfig({ ...train, lr: 1e-4, steps: 7 });
    const rates = [0, 1]
      .map((i) => learningRate(i, train))
      .concat([2, 3, 4, 5, 6].map((i) => learningRate(i, changed)));
    rates[2] = learningRate(2, { ...changed, steps: 6 });
    expect((await metrics()).map((line) => line.lr)).toEqual(rates);
    const { history, ...config } = await readRunConfig(folder);
    expect(config).toMatchObject({ model, train: { ...changed, recompute: 'blocks' }, data: 'tiny' });
    expect(history).toEqual([
      {
        step: 2,
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        changed: { 'training.lr': { from: 1e-2, to: 1e-4 } },
      },
      {
        step: 3,
        time: expect.any(String),
        changed: { 'training.recompute': { from: 'none', to: 'blocks' }, 'training.steps': { from: 6, to: 7 } },
      },
    ]);
  });

  it('refuses another batch, another model and fewer updates than are done', async () => {
    await interrupted(3);
    const batch = (await rejection(run({ resume: true, change: { batch: 16, seed: 9 } }))) as ConfigError;
    expect(batch).toBeInstanceOf(ConfigError);
    expect(batch.message).toBe(
      'the run has training.batch 8, training.seed 1; it cannot go on with training.batch 16, training.seed 9',
    );
    const wider = parseModelConfig({ ...model, width: 24 });
    const width = (await rejection(run({ resume: true, model: wider }))) as ConfigError;
    expect(width.message).toBe('the run has model.width 16; it cannot go on with model.width 24');
    const fewer = (await rejection(run({ resume: true, change: { steps: 2 } }))) as ConfigError;
    expect(fewer).toBeInstanceOf(ConfigError);
    expect(fewer.message).toBe('2 steps were asked for; the run has done 3');
    const kept = await readRunConfig(folder);
    expect(kept).toMatchObject({ model, train, data: 'tiny' });
    expect(kept.history).toBeUndefined();
    await run({ resume: true });
    expect(await metrics()).toEqual(await metrics(whole));
  });

  it('an error of a callback is thrown once what is done is saved', async () => {
    const broken = new Error('the pipe is broken');
    const onStep = ({ step }: TrainEvent) => {
      if (step === 2) throw broken;
    };
    expect(await rejection(run({ onStep }))).toBe(broken);
    expect(await steps()).toEqual([2]);
    let saves = 0;
    const onSave = () => {
      if (++saves === 1) throw broken;
    };
    expect(await rejection(run({ resume: true, saveEvery: 2, onSave }))).toBe(broken);
    expect(await steps()).toEqual([2, 4]);
    expect(saves).toBe(1);
    await run({ resume: true });
    expect(await metrics()).toEqual(await metrics(whole));
  });

  it('one process at a time; the lock goes with the run', async () => {
    let second: Promise<unknown> = Promise.resolve();
    const onStep = ({ step }: TrainEvent) => {
      if (step === 2) second = rejection(run({ resume: true }));
    };
    await run({ saveEvery: 1, onStep });
    const error = (await second) as ConfigError;
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe(`process ${process.pid} is writing into ${folder}`);
    expect((await readdir(folder)).sort()).toEqual([
      'checkpoints',
      'config.json',
      'config.yaml',
      'env.json',
      'metrics.jsonl',
    ]);
    expect(await metrics()).toEqual(await metrics(whole));
  });

  it('leaves nothing on the GPU', async () => {
    const { live } = engine.memory.report();
    await interrupted(2);
    const { byKind } = engine.memory.report();
    expect(byKind.weights).toBeUndefined();
    expect(byKind.activations).toBeUndefined();
    expect(engine.memory.report().live).toBe(live);
  });
});

describe('damaged folders', () => {
  let good: string;
  beforeAll(async () => {
    good = await temporary();
    await interrupted(2, { in: good });
  });
  /** A copy of the interrupted run to damage; `at` names a file of its checkpoint. */
  async function copy(): Promise<(name: string) => string> {
    const from = join(good, 'checkpoints', 'step-2');
    const to = join(folder, 'checkpoints', 'step-2');
    await mkdir(to, { recursive: true });
    for (const name of await readdir(from)) await writeFile(join(to, name), await readFile(join(from, name)));
    return (name) => join(to, name);
  }

  it.each(['model', 'ema', 'optim'])('a truncated or garbled %s.safetensors is named', async (name) => {
    const at = await copy();
    const file = at(`${name}.safetensors`);
    const bytes = await readFile(file);
    for (const size of [0, 5, 100, bytes.length - 1]) {
      await writeFile(file, bytes);
      await truncate(file, size);
      const error = (await rejection(run({ resume: true }))) as Error;
      expect(error, `${size} bytes`).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(file);
    }
    const garbled = Buffer.from(bytes);
    garbled.fill(0xff, 0, 64);
    await writeFile(file, garbled);
    expect(((await rejection(run({ resume: true }))) as Error).message).toContain(file);
    await rm(file);
    expect(((await rejection(run({ resume: true }))) as Error).message).toBe(
      `there is no checkpoint in ${join(folder, 'checkpoints')}: step-2 has no ${name}.safetensors`,
    );
    await writeFile(file, bytes);
    expect((await load()).state.step).toBe(2);
  });

  it.each(['', '{"step":', 'null', '{"step":7}', '[]'])('state.json of %j is named', async (text) => {
    const at = await copy();
    await writeFile(at('state.json'), text);
    const error = (await rejection(run({ resume: true }))) as Error;
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain('step-2/state.json');
  });

  it('weights of another model are refused, with the parameter', async () => {
    await copy();
    const wider = paramLayout(parseModelConfig({ ...model, width: 24 }));
    const error = (await rejection(loadCheckpoint(join(folder, 'checkpoints'), wider))) as Error;
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/PatchEmbed_0\/Conv_0\/kernel has shape \[2,2,1,16\], the model needs \[2,2,1,24\]/);
  });

  it('left-over temporary folders are ignored', async () => {
    await copy();
    const foreign = ['step-9.tmp', 'step-', 'step-1x', 'old-step-9'];
    for (const name of ['step-9.123.tmp', 'step-1.123.old.tmp', ...foreign]) {
      await mkdir(join(folder, 'checkpoints', name), { recursive: true });
    }
    expect(await steps()).toEqual([2]);
    expect((await load()).state.step).toBe(2);
    await run({ resume: true, change: { steps: 3 } });
    expect(await steps()).toEqual([2, 3]);
    expect((await readdir(join(folder, 'checkpoints'))).sort()).toEqual([...foreign, 'step-2', 'step-3'].sort());
    // The copy has no metrics.jsonl.
    expect(notices).toEqual([`${join(folder, 'metrics.jsonl')} has lines of 0 of the 2 updates`]);
  });

  it('a damaged newest checkpoint is refused; from the one before it the run is the same', async () => {
    await run({ saveEvery: 2 });
    const before = await metrics();
    const six = setBits({ ...(await load()).sets });
    const file = join(folder, 'checkpoints', 'step-6', 'ema.safetensors');
    const bytes = await readFile(file);
    bytes[bytes.length >> 1]! ^= 4;
    await writeFile(file, bytes);
    const error = (await rejection(run({ resume: true }))) as CheckpointError;
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(`${file} is damaged: its sha256 is `);
    expect(error.hint).toBe('go on from the checkpoint before it with --resume step-4');
    await run({ resume: 4 });
    const moved = 'step-6 is after step-4: moved to step-6.aside-1';
    expect(notices).toEqual([moved]);
    expect(setBits({ ...(await load()).sets })).toEqual(six);
    expect(await metrics()).toEqual(before);
  });

  it('folders and files called step-N that are no checkpoints do not stop a run, and are not lost', async () => {
    const at = join(folder, 'checkpoints');
    await mkdir(join(at, 'step-3'), { recursive: true });
    await mkdir(join(at, 'step-6'));
    await writeFile(join(at, 'step-6', 'notes.txt'), 'mine');
    await writeFile(join(at, 'step-9'), 'mine');
    await run({ saveEvery: 3 });
    expect(await steps()).toEqual([3, 6]);
    expect(await readFile(join(at, 'step-6.aside-1', 'notes.txt'), 'utf8')).toBe('mine');
    expect(notices.sort()).toEqual(
      [
        `${join(at, 'step-3')} has no model.safetensors: skipped, it is no checkpoint`,
        `${join(at, 'step-6')} has no model.safetensors: skipped, it is no checkpoint`,
        `${join(at, 'step-9')} is no folder: skipped, it is no checkpoint`,
        'step-6 is no checkpoint: moved to step-6.aside-1',
      ].sort(),
    );
  });

  it('a checkpoint of an earlier version is gone on from, and said to be one', async () => {
    const at = await copy();
    await rm(at('SHA256SUMS'));
    await run({ resume: true, change: { steps: 3 } });
    expect(notices[0]).toBe(`${join(folder, 'checkpoints', 'step-2')} is of an earlier version: it has no checksums`);
    expect((await load()).checked).toBe(true);
  });

  it.each(['config.json', 'metrics.jsonl'])('a pipe as %s is not waited for', async (name) => {
    await interrupted(2);
    await rm(join(folder, name));
    execFileSync('mkfifo', [join(folder, name)]);
    const error = (await rejection(run({ resume: true }))) as Error;
    expect(error.message).toBe(`${join(folder, name)} is no regular file`);
    expect(await steps()).toEqual([2]);
  });

  it.each(['', 'null', '{}', '{"model":{},"train":{},"data":"x"}', '{"train":null,"data":"x"}'])(
    'config.json of %j is a ConfigError',
    async (text) => {
      await writeFile(join(folder, 'config.json'), text);
      expect(await rejection(readRunConfig(folder))).toBeInstanceOf(ConfigError);
    },
  );
});

describe('a disk that refuses', () => {
  it('a folder that cannot be made is a CheckpointError', async () => {
    await writeFile(join(folder, 'checkpoints'), 'a file');
    const error = (await rejection(run())) as Error;
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toBe(`${folder} could not be written`);
    const file = join(folder, 'checkpoints');
    expect(await rejection(run({ in: join(file, 'deeper') }))).toBeInstanceOf(CheckpointError);
  });

  it.runIf(existsSync('/dev/full'))(
    'full while saving: the previous checkpoint stays whole and no rest is left',
    async () => {
      const blocked = join(folder, 'checkpoints', `step-4.${OWN_NAME}.tmp`);
      const onStep = ({ step }: TrainEvent) => {
        if (step !== 3) return;
        mkdirSync(blocked);
        symlinkSync('/dev/full', join(blocked, `optim.safetensors.${OWN_NAME}.tmp`));
      };
      const error = (await rejection(run({ saveEvery: 2, onStep }))) as CheckpointError;
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toBe(`the checkpoint ${join(folder, 'checkpoints', 'step-4')} could not be written`);
      expect(error.hint).toMatch(/free disk space/);
      const innermost = (e: unknown): unknown => (e instanceof Error && e.cause !== undefined ? innermost(e.cause) : e);
      expect(innermost(error)).toMatchObject({ code: 'ENOSPC' });
      expect(await readdir(join(folder, 'checkpoints'))).toEqual(['step-2']);
      expect((await load()).state.step).toBe(2);
      await run({ resume: true });
      expect((await metrics()).map((line) => line.step)).toEqual([1, 2, 3, 4, 5, 6]);
    },
  );

  it.runIf(existsSync('/dev/full'))('full while logging: a CheckpointError, and the run can be resumed', async () => {
    const log = join(folder, 'metrics.jsonl');
    const onStep = ({ step }: TrainEvent) => {
      if (step !== 4) return;
      renameSync(log, `${log}.kept`);
      symlinkSync('/dev/full', log);
    };
    const error = (await rejection(run({ saveEvery: 3, onStep, change: { steps: 40 } }))) as CheckpointError;
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toBe(`${log} could not be written`);
    expect(error.cause).toMatchObject({ code: 'ENOSPC' });
    // A checkpoint of updates that are not logged would leave a gap in the log.
    expect(await steps()).toEqual([3]);
    renameSync(`${log}.kept`, log);
    await run({ resume: true, change: { steps: 40 } });
    expect((await metrics()).map((line) => line.step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });
});

describe('tuning', () => {
  /** Variants that the engine would not take by itself, for all that the model asks for. */
  let others: Tuning;
  beforeAll(async () => {
    const problems = await problemsOf(engine, model, { sampling: false });
    const choices = problems.flatMap((problem): TuningChoice[] => {
      const { candidates, reviewed } = subjectOf(engine, families, problem);
      const other = candidates.find(({ id }) => id !== reviewed.id);
      return other ? [{ family: problem.family, shape: problem.shape, variant: other.id }] : [];
    });
    expect(choices.length).toBeGreaterThan(5);
    others = tuningOf(choices);
  });
  afterEach(() => {
    engine.tuning = undefined;
  });

  it('is kept in config.json, and a run goes on with the same, bit for bit', async () => {
    engine.tuning = others;
    const whole = await temporary();
    await run({ in: whole });
    await interrupted(3);
    const { tuning } = await readRunConfig(folder);
    expect(tuning).toEqual(others.choices);
    const again = tuningOf(tuning!);
    let made = 0;
    engine.tuning = {
      ...again,
      variant(...of) {
        const variant = again.variant(...of);
        if (variant) made++;
        return variant;
      },
    };
    await run({ resume: true });
    expect(made).toBeGreaterThan(tuning!.length);
    const [a, b] = [await load(whole), await load()];
    expect(setBits({ ...b.sets })).toEqual(setBits({ ...a.sets }));
    expect((await readRunConfig(folder)).history).toBeUndefined();
  });

  it('that is another is refused, unless that is asked for; the history says so', async () => {
    engine.tuning = others;
    await interrupted(3);
    engine.tuning = undefined;
    const refused = (await rejection(run({ resume: true }))) as ConfigError;
    expect(refused).toBeInstanceOf(ConfigError);
    expect(refused.message).toBe(
      `the run has a tuning of ${others.choices!.length} choices; this engine has no tuning`,
    );
    engine.tuning = tuningOf(others.choices!.slice(1));
    expect(((await rejection(run({ resume: true }))) as ConfigError).message).toMatch(/; this engine has another$/);
    expect(await steps()).toEqual([3]);
    engine.tuning = undefined;
    await run({ resume: true, otherTuning: true });
    const { tuning, history } = await readRunConfig(folder);
    expect(tuning).toBeUndefined();
    expect(history).toMatchObject([{ step: 3, changed: { 'engine.tuning': { from: others.choices } } }]);
    // A run without tuning goes on without.
    engine.tuning = others;
    expect(((await rejection(run({ resume: true }))) as ConfigError).message).toMatch(/^the run has no tuning; this /);
  });

  it('without a single choice is none; one that cannot be written down is refused', async () => {
    engine.tuning = tuningOf([]);
    await interrupted(1);
    expect(await readRunConfig(folder)).not.toHaveProperty('tuning');
    engine.tuning = tuningBy(() => undefined);
    const error = (await rejection(run({ resume: true }))) as ConfigError;
    expect(error.message).toMatch(/^the engine's tuning cannot be written down/);
  });
});

describe('numbers that are not finite', () => {
  it('a learning rate above the largest float32: nothing is saved over the last good checkpoint', async () => {
    const error = (await rejection(run({ saveEvery: 1, change: { lr: 1e39 } }))) as NonFiniteError;
    expect(error).toBeInstanceOf(NonFiniteError);
    expect(error.message).toMatch(/^step 2: params\/.* is no longer finite; nothing was saved$/);
    expect(error.hint).toMatch(/lower --lr/);
    expect(await steps()).toEqual([1]);
    const { sets } = await load();
    expect(sets.params.groups.every((g) => g.every(Number.isFinite))).toBe(true);
    await run({ resume: true });
    expect((await metrics()).length).toBe(6);
  });

  it('a loss that overflows names its update', async () => {
    const error = (await rejection(run({ change: { lr: 1e25 } }))) as NonFiniteError;
    expect(error).toBeInstanceOf(NonFiniteError);
    expect(error.message).toMatch(/^step 3: the loss is (NaN|Infinity) and the gradient norm (NaN|Infinity|[\d.e+]+)$/);
    expect((await metrics()).map((line) => line.step)).toEqual([1, 2]);
    expect(await steps()).toEqual([]);
  });

  it('a NaN in the weights stops the next update and leaves the files alone', async () => {
    await interrupted(2);
    const { state, sets } = await load();
    sets.params.groups.at(-1)!.fill(Number.NaN, 0, 1);
    await saveCheckpoint(join(folder, 'checkpoints'), { ...state, step: 3 }, sets);
    const error = (await rejection(run({ resume: true }))) as NonFiniteError;
    expect(error).toBeInstanceOf(NonFiniteError);
    expect(error.message).toMatch(/^step 4: the loss is NaN/);
    expect(await steps()).toEqual([2, 3]);
    expect((await load()).state.step).toBe(3);
  });
});
