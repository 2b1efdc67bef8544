/** Loading onto the GPU: halves as they are, sampling while later blocks arrive, nothing half-made; `odelt sample` from a URL. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ProgressLine } from '../../cli/output.node.ts';
import type { Engine } from '../../engine/engine.ts';
import { CheckpointError, NonFiniteError, OutOfMemoryError } from '../../engine/errors.ts';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { parseModelFile } from '../../model/weights/model-file.ts';
import { PRECISIONS } from '../../model/weights/quantize.ts';
import { groupsFor, ResidentModel } from '../../model/weights/residency.ts';
import { type GroupSource, memorySource, prefetching, rangeSource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';
import {
  asRange,
  block,
  config,
  FIRST,
  metadata,
  ofFour,
  ofTheRest,
  partOf,
  rangeOf,
  serve,
  type Trick,
  tensorsAs,
  whole,
} from '../support/weights.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());
afterEach(() => void vi.restoreAllMocks());

const strong = formulaParams(config, 5, { strong: true });
const request = { labels: [1, 7], steps: 2, seed: 3 };

/** The strong model's values; notes what is read, and what `wait` says has to be waited for. */
function noted(wait: (group: number) => Promise<void> = async () => {}) {
  const asked: number[] = [];
  const source: GroupSource = {
    ...memorySource(strong),
    read: async (group) => {
      asked.push(group);
      await wait(group);
      return strong.groups[group]!;
    },
  };
  return { asked, source };
}

const wordsOf = async (model: ResidentModel): Promise<Buffer[]> => {
  const words: Buffer[] = [];
  for (const group of model.weights.parts) words.push(Buffer.from((await engine.readU32(group)).buffer));
  return words;
};

for (const precision of PRECISIONS) {
  it(`halves of a file become the same bits on the GPU as their floats (${precision})`, async () => {
    const bytes = serializeSafetensors(tensorsAs('F16'), metadata);
    const halves = rangeSource(parseSafetensors(bytes).header, config, async (b, e) => bytes.subarray(b, e), 'w');
    const floats = memorySource((await parseModelFile(bytes, 'w')).params);
    expect(await halves.read(block(2))).toBeInstanceOf(Uint16Array);
    expect(await floats.read(block(2))).toBeInstanceOf(Float32Array);
    const [found, expected] = await Promise.all(
      [halves, floats].map(async (source) => {
        const model = new ResidentModel(engine, config, source, { precision });
        await model.require(groupsFor(config, 12));
        const words = await wordsOf(model);
        model.dispose();
        return words;
      }),
    );
    for (const [group, words] of expected!.entries()) {
      expect(words.some((byte) => byte !== 0)).toBe(true);
      expect(found![group]!.equals(words), `group ${group}`).toBe(true);
    }
  });
}

describe('sampling while weights arrive', () => {
  for (const options of [{ ahead: false }, { ahead: true }]) {
    it(`four blocks are drawn before the others are there, then eight (${JSON.stringify(options)})`, async () => {
      let release = () => {};
      const released = new Promise<void>((resolve) => {
        release = resolve;
      });
      const { asked, source } = noted(async (group) => {
        if (ofTheRest.includes(group)) await released;
      });
      const ahead = prefetching(source, { keep: true });
      const model = new ResidentModel(engine, config, ahead);
      const sampler = new Sampler(engine, model, { batch: 2, ...options });
      const groups = [...model.groupsFor(4), ...ofTheRest];
      ahead.prefetch(groups);
      const first = await sampler.sample({ ...request, blocks: 4 });
      // Group by group: of the others, the first is on its way and the rest not even asked for.
      expect(asked).toEqual(groups.slice(0, ofFour.length + 1));
      let done = false;
      const second = sampler.sample({ ...request, blocks: 8 }).finally(() => {
        done = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(done).toBe(false);
      release();
      const inMemory = new Sampler(engine, new ResidentModel(engine, config, memorySource(strong)), {
        ...{ batch: 2, ...options },
      });
      expect((await second).values).toEqual((await inMemory.sample({ ...request, blocks: 8 })).values);
      expect(first.values).toEqual((await inMemory.sample({ ...request, blocks: 4 })).values);
      await vi.waitFor(() => expect(asked).toEqual(groups));
      inMemory.dispose();
      inMemory.model.dispose();
      sampler.dispose();
      model.dispose();
    });
  }

  it('going down in blocks frees bytes, with keepBlocks keeps them, and coming back up then reads nothing', async () => {
    const { asked, source } = noted();
    const model = new ResidentModel(engine, config, source);
    const sampler = new Sampler(engine, model, { batch: 2, ahead: false });
    const bytesOf = (groups: number[]) => groups.reduce((sum, g) => sum + 4 * strong.layout.groups[g]!.length, 0);
    const at = async (blocks: number, keepBlocks = false) => {
      const { values } = await sampler.sample({ ...request, blocks, keepBlocks });
      return { values, read: asked.splice(0), bytes: model.weights.bytes, live: engine.memory.report().live };
    };
    for (const blocks of [4, 12]) await at(blocks); // programs are made when first used, and stay
    const up = await at(12);
    expect(up.read).toEqual([]);
    expect(up.bytes).toBe(bytesOf([...ofFour, ...ofTheRest]));
    const down = await at(4);
    expect(down.bytes).toBe(bytesOf(ofFour));
    expect(up.live - down.live).toBe(bytesOf(ofTheRest));
    const again = await at(12);
    expect(again.read).toEqual(ofTheRest);
    const kept = await at(4, true);
    expect([kept.bytes, kept.live]).toEqual([up.bytes, up.live]);
    const back = await at(12, true);
    expect(back.read).toEqual([]);
    expect(kept.values).toEqual(down.values);
    for (const { values } of [again, back]) expect(values).toEqual(up.values);
    sampler.dispose();
    model.dispose();
  });
});

describe('what cannot be placed leaves nothing half-made', () => {
  const noMemory = () => new OutOfMemoryError('no memory for it');
  const [a, b, c] = [block(0), block(1), block(2)];

  it('require: groups before it stay, it is not there, and asking again goes on', async () => {
    const { asked, source } = noted();
    const model = new ResidentModel(engine, config, source);
    const { live } = engine.memory.report();
    const real = engine.allocated.bind(engine);
    let calls = 0;
    vi.spyOn(engine, 'allocated').mockImplementation(async () => {
      await real();
      if (++calls === 2) throw noMemory();
    });
    await expect(model.require([a, b, c])).rejects.toThrow(OutOfMemoryError);
    expect([a, b, c].map((g) => model.weights.isResident(g))).toEqual([true, false, false]);
    expect(engine.memory.report().live - live).toBe(model.weights.bytesOf(a));
    await model.require([a, b, c]);
    expect(asked).toEqual([a, b, b, c]);
    expect(await engine.read(model.weights.parts[b]!)).toEqual(strong.groups[b]);
    model.dispose();
  });

  it('require and withGroup: the limit of bytes, too', async () => {
    const model = new ResidentModel(engine, config, noted().source);
    const { live } = engine.memory.report();
    const size = model.weights.bytesOf(a);
    engine.memory.limit = live + size;
    try {
      await expect(model.require([a, b])).rejects.toThrow(OutOfMemoryError);
      const body = vi.fn(async () => {});
      await expect(model.withGroup(b, undefined, body)).rejects.toThrow(OutOfMemoryError);
      expect(body).not.toHaveBeenCalled();
      expect([a, b].map((g) => model.weights.isResident(g))).toEqual([true, false]);
      expect(engine.memory.report().live).toBe(live + size);
    } finally {
      engine.memory.limit = Number.POSITIVE_INFINITY;
    }
    model.dispose();
  });

  it('exchange: the one that came is not there; the one that went is, if nothing had been touched', async () => {
    let broken = false;
    const { source } = noted(async () => {
      if (broken) throw new CheckpointError('broken');
    });
    const model = new ResidentModel(engine, config, source);
    const { live } = engine.memory.report();
    const resident = () => [a, b].map((g) => model.weights.isResident(g));
    await model.require([a]);
    broken = true;
    await expect(model.exchange(a, b)).rejects.toThrow(CheckpointError);
    expect(resident()).toEqual([true, false]);
    expect(await engine.read(model.weights.parts[a]!)).toEqual(strong.groups[a]);
    broken = false;
    const failing = vi.spyOn(engine, 'allocated').mockRejectedValue(noMemory());
    await expect(model.exchange(a, b)).rejects.toThrow(OutOfMemoryError);
    failing.mockRestore();
    expect(resident()).toEqual([false, false]);
    expect(engine.memory.report().live).toBe(live);
    await model.require([b]);
    await model.exchange(b, a);
    expect(resident()).toEqual([true, false]);
    expect(await engine.read(model.weights.parts[a]!)).toEqual(strong.groups[a]);
    model.dispose();
  });

  it('values that the precision cannot hold, and streaming goes on after a failure', async () => {
    let bad = true;
    const { source } = noted();
    const spoilt: GroupSource = {
      ...source,
      read: async (group) => (bad && group === b ? strong.groups[b]!.map(() => 1e6) : strong.groups[group]!),
    };
    const model = new ResidentModel(engine, config, spoilt, { precision: 'f16' });
    await model.require([a]);
    const { live } = engine.memory.report();
    await expect(model.require([b], { keep: true })).rejects.toThrow(NonFiniteError);
    expect(model.weights.isResident(b)).toBe(false);
    expect(engine.memory.report().live).toBe(live);
    await expect(model.exchange(a, b)).rejects.toThrow(NonFiniteError);
    expect(model.weights.isResident(b)).toBe(false);
    const sampler = new Sampler(engine, model, { batch: 2, residentBlocks: 1 });
    await expect(sampler.sample({ ...request, blocks: 4 })).rejects.toThrow(NonFiniteError);
    bad = false;
    const fresh = new Sampler(engine, new ResidentModel(engine, config, memorySource(strong), { precision: 'f16' }), {
      batch: 2,
      residentBlocks: 1,
    });
    const found = await sampler.sample({ ...request, blocks: 4 });
    expect(found.values).toEqual((await fresh.sample({ ...request, blocks: 4 })).values);
    for (const each of [sampler, fresh]) {
      each.dispose();
      each.model.dispose();
    }
  });
});

describe('odelt sample from a URL', () => {
  let cli: Cli;
  beforeAll(async () => {
    cli = await buildCli();
  });
  afterAll(() => cli.remove());

  interface Ended {
    readonly code: number | null;
    readonly stderr: string;
  }
  function start(...parameters: string[]): { child: ChildProcess; ended: Promise<Ended> } {
    const env = { ...process.env, NO_COLOR: '1' }; // CI services ask for colours
    const child = spawn(process.execPath, [cli.path, 'sample', ...parameters], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr!.on('data', (chunk) => {
      stderr += chunk;
    });
    return { child, ended: new Promise((resolve) => child.on('close', (code) => resolve({ code, stderr }))) };
  }
  const ranges = (groups: number[]) => groups.map((group) => asRange(rangeOf(whole, group)));
  const restRanges = new Set(ranges(ofTheRest));
  /** Answers late, and requests for the last eight blocks never. */
  const slow: Trick = (request, response) => {
    if (restRanges.has(request.headers.range!)) return true;
    setTimeout(() => response.end(partOf(whole, request, response)), 50);
    return true;
  };
  const common = ['--labels', '1', '--count', '2', '--steps', '2', '--guidance', '1', '--blocks', '4'];

  for (const flags of [[], ['--resident-blocks', '1'], ['--max-memory', '100MB']]) {
    it(`L=4 asks for four blocks and nothing else of a slow server (${flags.join(' ')})`, async () => {
      const served = await serve(whole, { trick: slow });
      const out = join(cli.folder, 'slow.png');
      const { code, stderr } = await start('--model', served.url, ...common, ...flags, '--out', out).ended;
      expect(stderr).toContain(`wrote ${out}`);
      expect(code).toBe(0);
      expect(existsSync(out)).toBe(true);
      const [first, ...groups] = served.asked;
      expect(first).toBe(FIRST);
      expect(groups.filter((range) => restRanges.has(range!))).toEqual([]);
      expect(new Set(groups)).toEqual(new Set(ranges(ofFour)));
      // Blocks that pass through a single buffer are read again at every step; otherwise nothing is read twice.
      if (!flags.includes('--resident-blocks')) expect(groups).toEqual(ranges(groupsFor(config, 4)));
      rmSync(out);
    });
  }

  for (const [what, hangs] of [
    ['the header', 0],
    ['a block', 6],
  ] as const) {
    it(`Ctrl-C while it waits for ${what} ends it at once`, async () => {
      let interrupt = () => {};
      const served = await serve(whole, {
        trick: (_, __, index) => {
          // Some time later, so that the reader, if there is one yet, waits.
          if (index === hangs) setTimeout(() => interrupt(), 3000);
          return index >= hangs;
        },
      });
      const { child, ended } = start('--model', served.url, ...common, '--out', join(cli.folder, 'never.png'));
      let interrupted = Number.POSITIVE_INFINITY;
      interrupt = () => {
        interrupted = performance.now();
        child.kill('SIGINT');
      };
      const { code, stderr } = await ended;
      expect(performance.now() - interrupted).toBeLessThan(2000);
      expect(code).toBe(130);
      expect(stderr).toContain('stopping (press Ctrl-C again to stop at once)');
      expect(stderr).toMatch(/InterruptedError: .*(reading|weights).* was interrupted/);
      expect(stderr).not.toContain('internal error');
      expect(served.asked.length).toBe(hangs + 1);
    });
  }
});

describe('the progress of reading', () => {
  /** What a line writes while groups are waited for, one every so many milliseconds. */
  function written(terminal: boolean, interval: number): string[] {
    vi.useFakeTimers({ now: 1e6 });
    const before = process.stderr.isTTY;
    const texts: string[] = [];
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => texts.push(String(text)) > 0);
    try {
      process.stderr.isTTY = terminal;
      const line = new ProgressLine();
      for (let i = 0; i < 5; i++) {
        line.reading({ name: `block${i}`, bytes: 8.02e6 * i, totalBytes: 40.1e6 });
        vi.advanceTimersByTime(interval);
      }
      line.update('step 1/2');
      line.reading({ name: 'block9', bytes: 0, totalBytes: 1 });
    } finally {
      process.stderr.isTTY = before;
      vi.useRealTimers();
    }
    return texts;
  }

  it('is shown at once on a terminal, every group, and after two seconds elsewhere', () => {
    const line = (i: number) => `reading block${i}: ${(8.02 * i).toFixed(1)} of 40.1 MB`;
    expect(written(true, 10).slice(0, 5)).toEqual([0, 1, 2, 3, 4].map((i) => `\r${line(i)}`));
    expect(written(false, 400)).toEqual(['step 1/2\n']);
    expect(written(false, 700)).toEqual([`${line(3)}\n`]);
    // Reading that is taken up after something else has its own two seconds.
    expect(written(false, 15_000)).toEqual([1, 2, 3, 4].map((i) => `${line(i)}\n`).concat('step 1/2\n'));
  });
});
