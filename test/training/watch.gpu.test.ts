/**
 * What is shown of a run while it trains: norms and histograms against the host's own, the loss on held-out pictures, files that TensorBoard
 * reads, sheets of samples. None of it may change a bit of the training, or end it.
 */
import { existsSync, mkdirSync, readlinkSync, rmSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, OutputError } from '../../engine/errors.ts';
import { sampleSheet } from '../../evaluation/sample-sheet.ts';
import { histogramEdges } from '../../kernels/histogram.ts';
import { parseModelConfig } from '../../model/config.ts';
import type { ParamSet } from '../../model/params.ts';
import { encodePng } from '../../pictures/png.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { holdOut } from '../../training/held-out.ts';
import { readMetrics } from '../../training/metrics.node.ts';
import { type RunOptions, runTraining } from '../../training/run.node.ts';
import { createTrainer, type TrainEvent } from '../../training/trainer.ts';
import type { ValidationOptions } from '../../training/validation.ts';
import { testEngine } from '../support/engine.ts';
import { eventFiles } from '../support/events.ts';
import { tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';
import { ranksTogether } from '../support/together.ts';

vi.setConfig({ testTimeout: 900_000 });

/** Everything that draws random numbers, accumulates and clips is on. */
const model = parseModelConfig({ ...tinyModel, dropout: 0.1 });
const train = parseTrainConfig({ ...tinyTrain, steps: 12, flip: true, accumulate: 2, clip: 0.5 });
const { train: data, held } = holdOut(tinyData(40), 0.4);
const validation: ValidationOptions = { data: held, every: 4, pictures: 16 };

let engine: Engine;
let folder: string;
let notices: string[];
const scratch: string[] = [];
beforeAll(async () => {
  engine = await testEngine();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'odelt-watch-'));
  scratch.push(folder);
  notices = [];
});
afterEach(() => vi.restoreAllMocks());
afterAll(async () => {
  engine.dispose();
  for (const path of scratch) await rm(path, { recursive: true, force: true });
});

const run = (options: Partial<RunOptions> = {}, change: Partial<TrainConfig> = {}, at = folder) =>
  runTraining(engine, {
    folder: at,
    config: { model, train: { ...train, ...change }, data: 'tiny' },
    data,
    resume: false,
    saveEvery: 100,
    environment: {},
    onNotice: (text) => notices.push(text),
    ...options,
  });

async function everything(): Promise<Partial<RunOptions>> {
  const sheet = await sampleSheet(engine, model, { steps: [1, 2], count: 3 });
  const draw = async (average: ParamSet, step: number) => {
    const picture = await sheet.draw(average, `${step} updates`);
    return { png: encodePng(picture), width: picture.width, height: picture.height };
  };
  return { validation, watch: { tensorboard: { logEvery: 2, histogramEvery: 4 }, samples: { every: 4, draw } } };
}

/** The files of a checkpoint, by name. */
async function checkpoint(at: string): Promise<Record<string, string>> {
  const files = await readdir(at);
  return Object.fromEntries(
    await Promise.all(files.map(async (name) => [name, await readFile(join(at, name), 'hex')])),
  );
}

const lines = async (at = folder) => (await readMetrics(join(at, 'metrics.jsonl')))!.events;
const plain = (events: readonly TrainEvent[]) => events.map(({ seconds, validation, ...event }) => event);

it('a run that is watched in every way has the checkpoint and the losses of one that is not', async () => {
  const other = join(folder, 'plain');
  const watched = await run(await everything());
  const alone = await run({}, {}, other);
  expect(await checkpoint(watched)).toEqual(await checkpoint(alone));
  expect(plain(await lines())).toEqual(plain(await lines(other)));
  expect(notices).toEqual([]);

  // What it wrote meanwhile.
  const events = eventFiles(folder).flat();
  const steps = (of: (event: (typeof events)[number]) => unknown) => events.filter(of).map(({ step }) => step);
  expect(steps(({ scalars }) => 'loss/loss' in scalars)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  expect(steps(({ scalars }) => 'memory/live bytes' in scalars)).toEqual([2, 4, 6, 8, 10, 12]);
  expect(steps(({ histograms }) => 'parameters/block0' in histograms)).toEqual([4, 8, 12]);
  expect(steps(({ scalars }) => 'validation/flow' in scalars)).toEqual([4, 8, 12]);
  expect(steps(({ images }) => 'samples' in images)).toEqual([4, 8, 12]);
  const last = (await lines()).at(-1)!;
  const of = (tag: string) => events.findLast(({ scalars }) => tag in scalars)!.scalars[tag];
  expect(of('loss/flow')).toBe(Math.fround(last.losses.flow!));
  expect(of('training/learning rate')).toBe(Math.fround(last.lr));
  expect(of('training/samples per second')).toBe(Math.fround(16 / last.seconds));
  expect(of('validation raw/loss')).toBe(Math.fround(last.validation!.raw.loss));
  const losses = events.findLast(({ histograms }) => 'loss of samples' in histograms)!.histograms['loss of samples']!;
  expect(losses.num).toBe(16);
  expect(losses.sum / 16).toBeCloseTo(last.losses.loss, 6);
  const image = events.findLast(({ images }) => 'samples' in images)!.images.samples!;
  expect(Buffer.from(image.png)).toEqual(await readFile(join(folder, 'samples', '12.png')));
  // Other weights, other samples.
  expect(await readFile(join(folder, 'samples', '4.png'))).not.toEqual(Buffer.from(image.png));
});

/** The values of a group of the board, padding left out. */
function valuesOf(set: ParamSet): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  for (const [g, group] of set.layout.groups.entries()) {
    const block = /^(block\d+|head)/.exec(group.name)?.[1] ?? 'embed';
    const values = groups.get(block) ?? [];
    for (const { offset, size } of group.specs) values.push(...set.groups[g]!.subarray(offset, offset + size));
    groups.set(block, values);
  }
  return groups;
}
const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

it('norms and histograms are those of what is read back, and nothing is allocated for them while training', async () => {
  const trainer = await createTrainer(engine, { model, train, data, inspect: true });
  await expect(trainer.inspect()).rejects.toThrow('there has been no update to inspect');
  let before = (await trainer.snapshot()).params;
  for await (const event of trainer.run()) {
    const created = engine.memory.report().created;
    const { norms, histograms } = await trainer.inspect({ histograms: true });
    if (event.step > 1) expect(engine.memory.report().created).toBe(created);
    const { params } = await trainer.snapshot();
    const [old, now] = [valuesOf(before), valuesOf(params)];
    expect(Object.keys(norms)).toEqual(['embed', 'block0', 'block1', 'block2', 'block3', 'head']);
    for (const [group, values] of now) {
      const found = norms[group]!;
      expect(Math.abs(found.parameters - norm(values))).toBeLessThanOrEqual(1e-5 * norm(values));
      const taken = norm(values.map((x, i) => old.get(group)![i]! - x));
      // Parameters near 1 are rounded to 6e-8, the host's difference with them.
      expect(Math.abs(found.update! - taken)).toBeLessThan(1e-4 * taken + 1e-7 * Math.sqrt(values.length));
      const edges = histogramEdges();
      const counts = edges.slice(1).map(() => 0);
      for (const x of values) {
        const size = Math.abs(x);
        // Edges belong to the bin on their side away from zero.
        const bin = edges.findLastIndex((edge) => edge <= size || edge < 0);
        const zero = (counts.length - 1) / 2;
        counts[size < 2 ** -24 ? zero : x > 0 ? bin : counts.length - 1 - bin]!++;
      }
      expect(histograms![group], group).toEqual(counts);
    }
    // All groups together have the gradient's norm, which AdamW is told.
    expect(norm(Object.values(norms).map(({ gradient }) => gradient)) / event.gradNorm).toBeCloseTo(1, 5);
    before = params;
    if (event.step === 4) break;
  }
  trainer.dispose();
});

it('the loss on held-out pictures is the same for the same weights, and tells pictures and weights apart', async () => {
  const losses = async (options: Partial<ValidationOptions>, change: Partial<TrainConfig> = {}) => {
    const of = { model, train: { ...train, ...change }, data, validation: { ...validation, ...options } };
    const trainer = await createTrainer(engine, of);
    const found: (TrainEvent['validation'] | undefined)[] = [];
    for await (const { validation } of trainer.run()) {
      found.push(validation);
      if (found.length === 2) break;
    }
    trainer.dispose();
    return found;
  };
  const [first, second] = await losses({ every: 1 });
  // The rate of the first update is 0, so that the average still is the weights.
  expect(first!.raw).toEqual(first!.average);
  expect(second!.raw).not.toEqual(second!.average);
  expect(second!.raw).not.toEqual(first!.raw);
  expect(first!.pictures).toBe(16);
  expect(first!.raw.flow).toBeGreaterThan(0);
  expect(await losses({ every: 1 })).toEqual([first, second]);
  // Every second update, and the same then: an earlier validation leaves nothing behind.
  expect(await losses({ every: 2 })).toEqual([undefined, second]);
  expect((await losses({ every: 1, pictures: 8 }))[0]!.raw.flow).not.toBe(first!.raw.flow);
  const others = holdOut(tinyData(60), 0.4).held;
  expect((await losses({ every: 1, data: others }))[0]!.raw.flow).not.toBe(first!.raw.flow);
  // Ten for a batch of sixteen: some are in it twice.
  const few = await losses({ every: 1, data: tinyData(10) }, { batch: 16 });
  expect(few[0]!.pictures).toBe(10);
  // The initial weights differ by the seed, times and pictures of the validation do not.
  const [other] = await losses({ every: 1 }, { seed: 2 });
  expect(Object.keys(other!.raw.byLevel)).toEqual(Object.keys(first!.raw.byLevel));
  expect(Object.keys(other!.raw.byTime)).toEqual(Object.keys(first!.raw.byTime));
  await expect(losses({ every: 0 })).rejects.toThrow('validation.every is 0; it must be a positive integer');
});

it('a run that goes on begins a new event file, from the update after its checkpoint', async () => {
  const controller = new AbortController();
  const watch = { tensorboard: { logEvery: 1 } };
  const onStep = ({ step }: TrainEvent) => step === 5 && controller.abort();
  const stopped = run({ watch, signal: controller.signal, onStep, saveEvery: 3, keep: 9 });
  await expect(stopped).rejects.toBeInstanceOf(InterruptedError);
  await run({ watch, resume: 3 }, { steps: 12 });
  const files = eventFiles(folder);
  expect(files.map((events) => events.map(({ step }) => step))).toEqual([
    [0, 1, 1, 2, 3, 4, 5],
    [0, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12],
  ]);
  for (const [version, start] of files) expect([version!.version, start!.session]).toEqual(['brain.Event:2', 1]);
  // The updates that were done twice are the same ones.
  expect(files[0]!.at(-1)!.scalars['loss/loss']).toBe(files[1]!.find(({ step }) => step === 5)!.scalars['loss/loss']);
});

it('several processes end after the same update when the first is interrupted while it draws', async () => {
  const controller = new AbortController();
  const draw = async () => {
    controller.abort();
    throw new InterruptedError('the drawing was interrupted');
  };
  const ends = await Promise.all(
    ranksTogether(2).map((communicator) => {
      const watch = communicator.rank === 0 ? { samples: { every: 2, draw } } : undefined;
      const signal = communicator.rank === 0 ? controller.signal : undefined;
      return run({ communicator, watch, signal }).catch((error: unknown) => error);
    }),
  );
  for (const end of ends)
    expect(end).toMatchObject({ code: 'interrupted', message: 'training was interrupted after 3 steps' });
  expect((await lines()).length).toBe(3);
  expect(await readdir(join(folder, 'checkpoints'))).toEqual(['step-3']);
});

it('an event file and samples that cannot be written are told once, and the run goes on to its checkpoint', async () => {
  const handle: FileHandle = await open(join(folder, 'any'), 'w');
  const prototype: FileHandle = Object.getPrototypeOf(handle);
  await handle.close();
  const write = prototype.write;
  let written = 0;
  vi.spyOn(prototype, 'write').mockImplementation(function (this: FileHandle, ...args: unknown[]) {
    const full = readlinkSync(`/proc/self/fd/${this.fd}`).includes('tfevents') && ++written > 4;
    if (full) return Promise.reject(Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }));
    return (write as (...all: unknown[]) => Promise<never>).apply(this, args);
  });
  const options = await everything();
  // A folder in the place of the second sheet.
  mkdirSync(join(folder, 'samples', '8.png', 'in'), { recursive: true });
  const saved = await run(options);
  const [event] = (await readdir(folder)).filter((name) => name.includes('tfevents'));
  expect(notices).toEqual([
    `${join(folder, event!)} cannot be written: TensorBoard gets nothing more of this run`,
    `${join(folder, 'samples', '8.png')} cannot be written: no more samples are drawn in this run`,
  ]);
  expect((await lines()).length).toBe(12);
  expect(Object.keys(await checkpoint(saved))).toContain('optim.safetensors');
  // What is there can be read: version, start, two updates.
  expect(eventFiles(folder).flat().length).toBe(4);
});

it('what can be known beforehand is refused before anything is trained', async () => {
  const options = await everything();
  await writeFile(join(folder, 'samples'), 'a file in the place of the folder');
  await expect(run(options)).rejects.toBeInstanceOf(OutputError);
  expect(await readMetrics(join(folder, 'metrics.jsonl'))).toBeNull();
  rmSync(join(folder, 'samples'));
  await expect(run({ watch: { tensorboard: { logEvery: 0 } } })).rejects.toThrow('watch.logEvery is 0');
  const at = join(folder, 'new');
  await expect(run({ validation: { ...validation, every: 0 } }, {}, at)).rejects.toThrow('validation.every is 0');
  expect(existsSync(at)).toBe(false);
  const latents = parseModelConfig({ ...tinyModel, channels: 4 });
  await expect(sampleSheet(engine, latents)).rejects.toThrow('the model makes latents of 4 channels');
  await expect(sampleSheet(engine, model, { blocks: [3] })).rejects.toBeInstanceOf(ConfigError);
  await expect(sampleSheet(engine, model, { steps: [3] })).rejects.toBeInstanceOf(ConfigError);
});

it('the memory of a sheet is what it says, and free again afterwards', async () => {
  const sheet = await sampleSheet(engine, model, { steps: [2], count: 3, guidance: 2 });
  expect([sheet.blocks, sheet.steps]).toEqual([[2, 4], [2]]);
  const trainer = await createTrainer(engine, { model, train, data });
  const average = await trainer.average();
  trainer.dispose();
  const kinds = () => ({ ...engine.memory.report().byKind, staging: 0 });
  await sheet.draw(average, 'warm');
  const [before, { live }] = [kinds(), engine.memory.report()];
  engine.memory.resetPeak();
  const picture = await sheet.draw(average, 'again');
  expect(kinds()).toEqual(before);
  expect(engine.memory.report().peak - live).toBeLessThanOrEqual(sheet.peakBytes);
  expect(engine.memory.report().peak - live).toBeGreaterThan(0.9 * sheet.peakBytes);
  expect(picture).toEqual(await sheet.draw(average, 'again'));
});
