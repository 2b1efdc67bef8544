/** Training on pictures that are read from disk: the weights of training from memory, and of an uninterrupted run after a resume. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, DataError } from '../../engine/errors.ts';
import {
  type Dataset,
  isStreamed,
  type PictureDraw,
  type StreamedDataset,
  type TrainingData,
} from '../../training/data/dataset.ts';
import { openTrainingData } from '../../training/data/open.ts';
import { type RunOptions, runTraining } from '../../training/run.node.ts';
import { createTrainer, type TrainerOptions } from '../../training/trainer.ts';
import { tar } from '../support/archives.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyModel, tinyTrain } from '../support/tiny.ts';
import { ranksTogether } from '../support/together.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-streamed-run-'));
const shards = join(scratch, 'set.tar');
const train = { ...tinyTrain, steps: 4, flip: true };
let engine: Engine;
let disk: TrainingData;
let memory: TrainingData;
beforeAll(async () => {
  engine = await testEngine();
  const raw = { width: 8, height: 8, channels: 1 } as const;
  const noise = (i: number) => Uint8Array.from({ length: 64 }, (_, k) => (k * 37 + i * 91) % 256);
  const pngs = await Promise.all(Array.from({ length: 12 }, (_, i) => sharp(noise(i), { raw }).png().toBuffer()));
  writeFileSync(shards, tar(pngs.flatMap((png, i) => [[`${i}.png`, png] as const, [`${i}.cls`, `${i % 3}`] as const])));
  disk = await openTrainingData(shards, { size: 8, channels: 1, maxBytes: 100 });
  memory = await openTrainingData(shards, { size: 8, channels: 1 });
  expect([isStreamed(disk), isStreamed(memory)]).toEqual([true, false]);
});
afterAll(() => {
  engine.dispose();
  rmSync(scratch, { recursive: true });
});

/** The state after training on, at most to `last` updates. */
async function trained(data: TrainingData, last: number, from?: TrainerOptions['from']) {
  const trainer = await createTrainer(engine, { model: tinyModel, train, data, from });
  try {
    for await (const { step } of trainer.run()) if (step === last) break;
    return await trainer.snapshot();
  } finally {
    trainer.dispose();
  }
}

it('gives the bits of memory, and of an uninterrupted run after a resume', async () => {
  const whole = setBits({ ...(await trained(disk, 4)) });
  expect(setBits({ ...(await trained(memory, 4)) })).toEqual(whole);
  const sets = await trained(disk, 2);
  expect(setBits({ ...(await trained(disk, 4, { sets, step: 2 })) })).toEqual(whole);
});

const bad = new DataError('9.png is damaged');
/** The pictures, of which some reads fail. */
const failingWhere = (isBad: (i: number, draw: PictureDraw) => boolean): StreamedDataset => {
  const data = disk as StreamedDataset;
  return {
    ...data,
    open() {
      const reader = data.open();
      return { ...reader, read: (i, draw) => (isBad(i, draw!) ? Promise.reject(bad) : reader.read(i, draw)) };
    },
  };
};
/** The pictures, of which that of sample `n` is bad, but good enough for other samples. */
const failing = (n: number): StreamedDataset => {
  let own: number | undefined;
  return failingWhere((i, { position }) => {
    if (position === n) own ??= i;
    return position === n && own === i;
  });
};
const run = (name: string, data: TrainingData, { config, ...change }: Partial<RunOptions> = {}) => {
  const own = { model: tinyModel, train: { ...train, accumulate: 2 }, data: shards };
  const options = { folder: join(scratch, name), resume: false, saveEvery: 100, environment: {} };
  return runTraining(engine, { ...options, config: { ...own, ...config }, data, ...change });
};
const saved = (name: string) => readdirSync(join(scratch, name, 'checkpoints'));
const sums = (name: string) => readFileSync(join(scratch, name, 'checkpoints', 'step-4', 'SHA256SUMS'), 'utf8');
const steps = (name: string) =>
  readFileSync(join(scratch, name, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { step: number }).step);

it('what is done is saved when a picture cannot be read, before an update, within it or after it', async () => {
  await run('whole', disk);
  // Two batches of eight pictures are an update.
  for (const [name, n, done] of [
    ['between', 48, 3],
    ['within', 40, 2],
    ['first', 0, 0],
  ] as const) {
    const error = (await run(name, failing(n)).catch((e: unknown) => e)) as DataError;
    expect([error.message, error.cause]).toEqual([bad.message, bad]);
    expect(error.hint).toContain('--resume --bad-pictures skip');
    expect(saved(name), name).toEqual(done > 0 ? [`step-${done}`] : []);
    if (name !== 'within') continue;
    await run(name, disk, { resume: true });
    expect(sums(name)).toBe(sums('whole'));
  }
  // A validation comes after its update, which stands without it.
  const validation = { data: failing(0), every: 3, pictures: 8 };
  await expect(run('held', disk, { validation })).rejects.toThrow(bad.message);
  expect([saved('held'), steps('held')]).toEqual([['step-3'], [1, 2, 3]]);
  await run('held', disk, { resume: true, validation: { ...validation, data: disk } });
  expect(sums('held')).toBe(sums('whole'));
});

it.each([
  ['kept whole', false],
  ['divided', true],
])(
  'what several processes have done is saved when one of them cannot read a picture: state %s',
  async (name, shardState) => {
    const config = { model: tinyModel, train: { ...train, accumulate: 2, shardState }, data: shards };
    const all = (folder: string, data: TrainingData, change: Partial<RunOptions> = {}) =>
      Promise.all(
        ranksTogether(2).map((communicator) =>
          run(folder, data, { config, communicator, ...change }).catch((error: Error) => error.message),
        ),
      );
    const told = ['rank 1 could not read its pictures of this batch', bad.message];
    if (!shardState) await all('unharmed', disk);
    // Sample 41 is of update 3, in its second batch.
    expect(await all(name, failing(41))).toEqual(told);
    expect([saved(name), steps(name)]).toEqual([['step-2'], [1, 2]]);
    const validation = { data: failing(1), every: 3, pictures: 8 };
    expect(await all(name, disk, { resume: true, validation })).toEqual(told);
    expect([saved(name), steps(name)]).toEqual([
      ['step-2', 'step-3'],
      [1, 2, 3],
    ]);
    await all(name, disk, { resume: true });
    expect(sums(name)).toBe(sums('unharmed'));
  },
);

it('a picture that cannot be read is skipped where that is asked for: the run is that of data with the next one in its place', async () => {
  const pictures = memory as Dataset;
  const place = (i: number) => (i === 4 || i === 5 ? 6 : i);
  const substituted = {
    ...pictures,
    image: (i: number) => pictures.image(place(i)),
    label: (i: number) => pictures.label(place(i)),
  };
  const config = { model: tinyModel, train: { ...train, badPictures: 'skip' as const }, data: shards };
  const told: [Error, number][] = [];
  const onBadPicture = (error: Error, count: number) => told.push([error, count]);
  const all = (name: string, data: TrainingData) =>
    Promise.all(
      ranksTogether(2).map((communicator) =>
        run(name, data, { config, communicator, ...(communicator.rank === 0 ? { onBadPicture } : {}) }),
      ),
    );
  await all('substituted', substituted);
  const broken = failingWhere((i) => i === 4 || i === 5);
  await all('skipped', broken);
  expect(sums('skipped')).toBe(sums('substituted'));
  // Both pictures have the same name here, and are read in every epoch.
  expect(told).toEqual([[bad, 1]]);
  const gone = failingWhere(() => true);
  await expect(run('gone', gone, { config })).rejects.toThrow('9.png is damaged; nor can the 16 after it be read');
});

it('a run that ended at a picture goes on without it, and remembers that', async () => {
  const validation = { data: failing(0), every: 4, pictures: 8 };
  const data = failing(41);
  await expect(run('later', data)).rejects.toThrow(bad.message);
  const { readRunConfig } = await import('../../training/run-config.node.ts');
  const before = await readRunConfig(join(scratch, 'later'));
  const config = { ...before, train: { ...before.train, badPictures: 'skip' as const } };
  const told: string[] = [];
  const onBadPicture = ({ message }: Error, count: number) => told.push(`${message} ${count}`);
  await run('later', data, { resume: true, config, validation, onBadPicture });
  expect([saved('later').at(-1), told]).toEqual(['step-4', ['9.png is damaged 1']]);
  const { history } = await readRunConfig(join(scratch, 'later'));
  expect(history).toMatchObject([{ step: 2, changed: { 'training.badPictures': { from: 'stop', to: 'skip' } } }]);
});

it('a run knows its files again, and others when it sees them', async () => {
  const folder = join(scratch, 'run');
  const options = { folder, resume: false, saveEvery: 100, environment: {} } as const;
  const config = { model: tinyModel, train: { ...train, steps: 1 }, data: shards };
  await runTraining(engine, { ...options, config, data: disk });
  const { readRunConfig } = await import('../../training/run-config.node.ts');
  const kept = await readRunConfig(folder);
  const again = { ...options, resume: true, config: { ...kept, train: { ...kept.train, steps: 2 } } };
  const other = { ...disk, identity: '0' } as TrainingData;
  const error = await runTraining(engine, { ...again, data: other }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).message).toMatch(/trained on other data \(set\): contents of the pictures$/);
  expect(await runTraining(engine, { ...again, data: disk })).toMatch(/step-2$/);
});
