/** A run of the tab *Train* on workers of the test's: what begins, ends and comes late, in every order. */
import { describe, expect, it } from 'vitest';
import { UnsupportedError, UsageError } from '../../engine/errors.ts';
import { createRun } from '../../studio/train-run.ts';
import { createWorker } from '../../web/client.ts';
import type { CallName } from '../../web/protocol.ts';
import { silentPort } from '../support/silent-port.ts';

/** A run whose workers answer when the test says so. */
function runOf(onShown: () => void = () => {}) {
  const log: string[] = [];
  const ports: ReturnType<typeof silentPort>[] = [];
  const start = () => {
    const port = silentPort();
    ports.push(port);
    return createWorker(port);
  };
  const run = createRun(start, {
    onPhase: (phase) => log.push(phase),
    onBegun: () => log.push('begun'),
    onUpdate: ({ step }) => log.push(`update ${step}`),
    onShown(step) {
      log.push(`shown ${step}`);
      onShown();
    },
    onRecovered: () => {},
    onFailure: (error) => log.push(`failure: ${(error as Error).message}`),
  });
  /** The number of the last call of a name, as soon as there is one after the `before`-th. */
  const asked = async (name: CallName, before = 0) => {
    const calls = () => (ports.at(-1)?.sent ?? []).filter((message) => 'call' in message && message.call === name);
    await expect.poll(() => calls().length).toBeGreaterThan(before);
    return calls().at(-1)!.id;
  };
  const answer = (id: number, result: unknown) => ports.at(-1)!.answer({ id, result });
  const step = (id: number, step: number) => ports.at(-1)!.answer({ id, progress: { type: 'step', step } });
  return { run, log, ports, asked, answer, step };
}

const checkpoint = (step: number) => ({ step, checkpoint: new Uint8Array(step), model: new Uint8Array(1) });
/** What `load` says of a checkpoint of points after `step` updates of 20. */
const loaded = (step: number) => ({
  config: { imageSize: 1, channels: 2 },
  lengths: [],
  run: { step, train: { steps: 20 } },
});
const file = new Blob([new Uint8Array(4)]);
const show = { every: 1, flow: { cells: [], noise: new Float32Array(2) } };

describe('a checkpoint that is opened', () => {
  it('while a run trains is refused, and the run ends as it would', async () => {
    const { run, asked, answer, step, log } = runOf();
    const training = run.begin({});
    await expect(run.open(file)).rejects.toBeInstanceOf(UsageError);
    const id = await asked('train');
    step(id, 1);
    await expect.poll(() => run.phase).toBe('running');
    await expect(run.open(file)).rejects.toThrow(/^A run is under way/);
    answer(id, checkpoint(2));
    await training;
    expect([run.phase, run.kept!.step, run.updates.length]).toEqual(['done', 2, 1]);
    expect(log).toEqual(['starting', 'begun', 'running', 'update 1', 'done']);
  });

  it('is refused where a run has begun before it was read', async () => {
    const { run, asked, answer, step } = runOf();
    const opening = run.open(file).catch((error: unknown) => error);
    const load = await asked('load');
    const training = run.begin({});
    answer(load, loaded(7));
    expect(await opening).toBeInstanceOf(UsageError);
    const id = await asked('train');
    step(id, 1);
    answer(id, checkpoint(1));
    await training;
    expect([run.phase, run.kept!.step]).toEqual(['done', 1]);
  });

  it('takes the place of a run that rests', async () => {
    const { run, asked, answer } = runOf();
    const opening = run.open(file);
    answer(await asked('load'), loaded(7));
    await opening;
    expect([run.phase, run.kept!.step]).toEqual(['paused', 7]);
  });
});

describe('a drawing that comes late', () => {
  it('of the run before is dropped, and is no failure of the new one', async () => {
    const { run, asked, answer, step, log } = runOf(() => {
      throw new TypeError('the cells are those of another model');
    });
    const opening = run.open(file);
    answer(await asked('load'), loaded(7));
    await opening;
    const looking = run.look(show);
    answer(await asked('load', 1), loaded(7));
    const flow = await asked('flow');
    const training = run.begin({});
    answer(flow, []);
    await looking;
    const id = await asked('train');
    step(id, 1);
    step(id, 2);
    await expect.poll(() => log.at(-1)).toBe('update 2');
    answer(id, checkpoint(2));
    await training;
    expect(log).toEqual(['paused', 'starting', 'begun', 'running', 'update 1', 'update 2', 'done']);
  });

  it('of a run that was stopped is dropped with its worker, and the next one has another', async () => {
    const { run, ports, asked, answer, log } = runOf();
    const training = run.begin({});
    await asked('train');
    run.stop();
    await training;
    const again = run.begin({});
    expect(ports.length).toBe(2);
    answer(await asked('train'), checkpoint(2));
    await again;
    expect(log).toEqual(['starting', 'stopped', 'starting', 'done']);
  });
});

describe('what is kept', () => {
  it('stays where a new run fails before its first update, and goes with that', async () => {
    const { run, ports, asked, answer, step, log } = runOf();
    const opening = run.open(file);
    answer(await asked('load'), loaded(7));
    await opening;
    const failing = run.begin({});
    const error = { name: 'DataError', code: 'data', message: 'no pictures', fields: {} };
    ports[0]!.answer({ id: await asked('train'), error });
    await failing;
    expect([run.phase, run.kept!.step]).toEqual(['failed', 7]);
    const training = run.begin({});
    const id = await asked('train', 1);
    step(id, 1);
    await expect.poll(() => log.at(-1)).toBe('update 1');
    expect([run.kept, run.updates.length]).toEqual([null, 1]);
    answer(id, checkpoint(1));
    await training;
    expect(log).toEqual([
      ...['paused', 'starting', 'failed', 'failure: no pictures'],
      ...['starting', 'begun', 'running', 'update 1', 'done'],
    ]);
  });

  it('is not drawn where a new run is paused before its first update', async () => {
    const { run, ports, asked, answer } = runOf();
    const opening = run.open(file);
    answer(await asked('load'), loaded(7));
    await opening;
    void run.begin({ show });
    run.pause();
    const error = { name: 'InterruptedError', code: 'interrupted', message: 'interrupted', fields: {} };
    ports[0]!.answer({ id: await asked('train'), error });
    await expect.poll(() => run.phase).toBe('paused');
    expect(run.kept!.step).toBe(7);
    expect(ports[0]!.sent.filter((message) => 'call' in message).length).toBe(2);
  });
});

describe('a worker that cannot be started', () => {
  it('is replaced at the next attempt to train, to draw or to open', async () => {
    const { run, ports, answer, asked, log } = runOf();
    const broken = () => ports.at(-1)!.tell(new Event('error'));
    const training = run.begin({});
    await asked('train');
    broken();
    await training;
    expect(log.at(-1)).toMatch(/^failure: the worker could not be started/);
    const opening = run.open(file).catch((error: unknown) => error);
    await expect.poll(() => ports.length).toBe(2);
    broken();
    expect(await opening).toBeInstanceOf(UnsupportedError);
    const again = run.begin({});
    expect(ports.length).toBe(3);
    answer(await asked('train'), checkpoint(2));
    await again;
    expect([run.phase, ...ports.map(({ ends }) => ends)]).toEqual(['done', 1, 1, 0]);
  });

  it('stays where the run itself fails', async () => {
    const { run, ports, asked } = runOf();
    const training = run.begin({});
    const error = { name: 'DataError', code: 'data', message: 'no pictures', fields: {} };
    ports[0]!.answer({ id: await asked('train'), error });
    await training;
    void run.begin({});
    expect([run.phase, ports.length]).toEqual(['starting', 1]);
  });
});
