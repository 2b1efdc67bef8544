/**
 * Want of memory, as a device tells of it (late, through error scopes) and as the accountant's limit does (at once): an OutOfMemoryError
 * that names what was asked for, nothing leaked, and an engine that then computes what it computed before.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { randomSource } from '../../bench/memory.bench.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { OutOfMemoryError, UsageError } from '../../engine/errors.ts';
import { Arena } from '../../engine/memory/arena.ts';
import { type CompileOptions, Program, record } from '../../engine/program.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { profile } from '../../engine/timed.ts';
import { silu } from '../../kernels/elementwise.ts';
import { preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { estimateSampling } from '../../sampling/budget.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { testEngine } from '../support/engine.ts';
import { floats, range, rejection, siluProgram } from '../support/programs.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 300_000 });

class GPUOutOfMemoryError {
  readonly message = 'the test says so';
}

/**
 * Gives a device room for some live bytes only. Beyond them it behaves as a full one: the buffer is invalid, using it is a validation
 * error, and the error scope around its creation tells of an out-of-memory error.
 */
function small(engine: Engine): { room: number } {
  const { device } = engine;
  const [create, push, pop] = [
    device.createBuffer.bind(device),
    device.pushErrorScope.bind(device),
    device.popErrorScope.bind(device),
  ];
  const state = { room: Number.POSITIVE_INFINITY };
  let full = false;
  device.createBuffer = (descriptor) => {
    full = engine.memory.report().live + descriptor.size > state.room;
    if (!full) return create(descriptor);
    push('validation');
    const invalid = create({ ...descriptor, usage: 0x1 | 0x80 }); // MAP_READ and STORAGE: refused by every device
    void pop();
    return invalid;
  };
  device.popErrorScope = () => {
    const scope = pop();
    if (!full) return scope;
    full = false;
    return scope.then(() => new GPUOutOfMemoryError() as GPUError);
  };
  return state;
}

let engine: Engine;
let device: { room: number };
let x: Tensor;
let want: string;
beforeAll(async () => {
  engine = await testEngine();
  device = small(engine);
  x = floats(
    engine,
    'x',
    range(5000, (i) => i / 100),
  );
  want = await computed();
});
afterAll(() => engine.dispose());

/** What a program over x computes, compiled anew. */
async function computed(): Promise<string> {
  const { program, y } = await siluProgram(engine, x, 3);
  program.run();
  const [values] = await program.read(y);
  program.dispose();
  return bits(values!);
}

const live = () => {
  const { live, buffers, byKind } = engine.memory.report();
  return { live, buffers, byKind };
};

/** What of `spare` more bytes there is room for, as known to the device or to the accountant. */
const ways: Record<string, (spare: number) => void> = {
  'error scopes': (spare) => {
    device.room = engine.memory.report().live + spare;
  },
  'the limit': (spare) => {
    engine.memory.limit = engine.memory.report().live + spare;
  },
};

const roomAgain = () => {
  device.room = Number.POSITIVE_INFINITY;
  engine.memory.limit = Number.POSITIVE_INFINITY;
};

/** `attempt` fails for want of memory for `label`; afterwards all is as before. */
async function fails(narrow: (spare: number) => void, spare: number, label: string, attempt: () => Promise<unknown>) {
  const before = live();
  narrow(spare);
  const error = await rejection(
    (async () => attempt())().finally(() => roomAgain()),
    OutOfMemoryError,
  );
  const [, name, , held] =
    /^(?:buffer|texture) '(.+)' needs (\d+) bytes with (\d+) live; the (limit is \d+|device)/.exec(error.message)!;
  expect(name).toBe(label);
  expect(Number(held)).toBeLessThanOrEqual(before.live + spare);
  expect(error.hint).toMatch(/use a smaller batch/);
  expect(live()).toEqual(before);
  engine.check();
  expect(await computed()).toBe(want);
  expect(live()).toEqual(before);
  return error;
}

for (const [way, narrow] of Object.entries(ways)) {
  describe(`out of memory by ${way}`, () => {
    it('a tensor', async () => {
      const error = await fails(narrow, 1000, 'big', async () => {
        engine.tensor('big', [500], { data: new Float32Array(500).fill(1) });
        await engine.allocated();
      });
      expect(error.message).toContain('needs 2000 bytes');
    });

    it('a program with its own memory: its slab, its second tensor, its parameters', async () => {
      const compile = (options: CompileOptions) => () => siluProgram(engine, x, 3, options);
      const slab = await fails(narrow, 30_000, 'silu3/slab0', compile({}));
      expect(slab.message).toContain('needs 40448 bytes');
      await fails(narrow, 30_000, 'silu', compile({ separate: true }));
      await fails(narrow, 40_448, 'silu3/params', compile({}));
    });

    it('a program that would make shared memory grow; the others work on', async () => {
      const arena = new Arena(engine);
      const a = await siluProgram(engine, floats(engine, 'small', range(100)), 2, { arena });
      const run = async () => {
        a.program.run();
        return bits((await a.program.read(a.y))[0]!);
      };
      const first = await run();
      const before = live();
      narrow(1000);
      const error = await rejection(siluProgram(engine, x, 2, { arena }), OutOfMemoryError);
      expect(error.message).toMatch(/^buffer 'activations\/slab0' needs 40448 bytes with \d+ live/);
      // Still narrow: there is room for the slab that there was.
      expect(await run()).toBe(first);
      expect(live()).toEqual(before);
      const { created } = engine.memory.report();
      const groups = engine.counters.bindGroups;
      expect(await run()).toBe(first);
      expect(engine.counters.bindGroups).toBe(groups);
      expect(engine.memory.report().created).toBe(created);
      roomAgain();
      const b = await siluProgram(engine, x, 3, { arena });
      b.program.run();
      expect(bits((await b.program.read(b.y))[0]!)).toBe(want);
      expect(await run()).toBe(first);
      for (const { program } of [a, b]) program.dispose();
      arena.dispose();
    });

    it('reading back, again and again', async () => {
      // A size that nothing has been read back in before.
      const size = 1501 + 4 * Object.keys(ways).indexOf(way);
      const odd = floats(engine, 'odd', range(size));
      for (let i = 0; i < 2; i++) await fails(narrow, 1000, 'readback', () => engine.read(odd));
      expect([...(await engine.read(odd))]).toEqual(range(size));
      engine.release(odd);
    });

    it('eager execution', async () => {
      const attempt = () => eager(engine, async (ctx) => silu(ctx, silu(ctx, x)));
      const { message } = await fails(narrow, 30_000, 'silu', attempt);
      expect(message).toContain('needs 20000 bytes');
    });

    it('profiling', async ({ skip }) => {
      if (!engine.device.features.has('timestamp-query')) skip();
      const { program } = await siluProgram(engine, x, 3);
      await fails(narrow, 60, 'timestamps/read', () => profile(engine, program));
      expect((await profile(engine, program)).length).toBe(3);
      program.dispose();
    });

    const config = preset('tiny', { depth: 4, lengths: { min: 2, group: 2 } });
    const kinds: Record<string, SamplerOptions> = {
      whole: { ahead: false },
      ahead: { ahead: true },
      streamed: { residentBlocks: 1 },
    };
    for (const [kind, options] of Object.entries(kinds)) {
      it(`sampling (${kind}), whatever it is that does not fit`, async () => {
        const request = { labels: [3], steps: 2 };
        const sample = async () => {
          const model = new ResidentModel(engine, config, randomSource(config));
          try {
            const sampler = new Sampler(engine, model, { batch: 1, ...options });
            try {
              return bits((await sampler.sample(request)).values);
            } finally {
              sampler.dispose();
            }
          } finally {
            model.dispose();
          }
        };
        const picture = await sample();
        const before = live();
        const { peak } = await estimateSampling(
          engine,
          config,
          { blocks: 4, batch: 1, precision: 'f32', ...options },
          request,
        );
        const asked = new Set<string>();
        for (let part = 0; part < 24; part++) {
          narrow(Math.floor((peak * part) / 24));
          const error = await rejection(sample(), OutOfMemoryError);
          roomAgain();
          asked.add(/^(?:buffer|texture) '(.+)' needs \d+ bytes with \d+ live/.exec(error.message)![1]!);
          expect(live(), `part ${part}`).toEqual(before);
          engine.check();
        }
        expect(asked.size, [...asked].join()).toBeGreaterThan(2);
        expect(await sample()).toBe(picture);
        expect(live()).toEqual(before);
      });
    }
  });
}

describe('a sampler that ran out of memory', () => {
  for (const way of Object.keys(ways)) {
    it(`samples again when there is some (${way})`, async () => {
      const config = preset('tiny', { depth: 4, lengths: { min: 2, group: 2 } });
      const model = new ResidentModel(engine, config, randomSource(config));
      const sampler = new Sampler(engine, model, { batch: 1, ahead: true });
      const few = { labels: [3], steps: 1, blocks: 2 };
      const many = { labels: [3], steps: 4, blocks: 4 };
      const [first, second] = [bits((await sampler.sample(few)).values), bits((await sampler.sample(many)).values)];
      await sampler.sample(few);
      for (const room of [2000, 20_000, 100_000, 200_000]) {
        ways[way]!(room);
        await rejection(sampler.sample({ ...many, steps: 64 }), OutOfMemoryError);
        roomAgain();
        expect(bits((await sampler.sample(many)).values)).toBe(second);
        expect(bits((await sampler.sample(few)).values)).toBe(first);
      }
      sampler.dispose();
      model.dispose();
    });
  }
});

describe('what a device tells late', () => {
  const narrow = ways['error scopes']!;
  const big = () => engine.tensor('big', [500], { data: new Float32Array(500).fill(1) });

  it('is thrown by a read, by idle and by a program that is compiled next', async () => {
    await fails(narrow, 1000, 'big', () => engine.read(big()));
    await fails(narrow, 1000, 'big', async () => {
      big();
      await engine.idle();
    });
    await fails(narrow, 1000, 'big', () => siluProgram(engine, big(), 2));
  });

  it('is thrown by check before the validation errors that follow from it, and by nothing after that', async () => {
    const before = live();
    narrow(1000);
    const t = big();
    const two = engine.tensor('two', [600]);
    onTestFinished(roomAgain);
    engine.check(); // the write has failed already, but why is not known yet
    await engine.memory.settled();
    expect(() => engine.check()).toThrow(/^buffer 'big' needs 2000 bytes/);
    expect(live()).toEqual(before);
    for (const { storage } of [t, two]) expect(engine.memory.isLive(storage.place!.buffer)).toBe(false);
    await engine.device.queue.onSubmittedWorkDone();
    engine.check();
    // Whoever uses it all the same is told again.
    expect(() => engine.write(t, new Float32Array(1))).toThrow(/^buffer 'big' needs 2000 bytes/);
    await expect(engine.read(two)).rejects.toThrow(/^buffer 'two' needs 2400 bytes/);
    engine.check();
    engine.release(t);
    engine.release(two);
    expect(live()).toEqual(before);
  });

  it('does not hide a validation error that follows from nothing', async () => {
    narrow(1000);
    big();
    await rejection(engine.allocated(), OutOfMemoryError);
    roomAgain();
    engine.device.queue.writeBuffer(x.storage.place!.buffer, 1 << 20, new Float32Array(4));
    await engine.device.queue.onSubmittedWorkDone();
    expect(() => engine.check()).toThrow(/WebGPU validation failed/);
    engine.check();
  });

  it('never passes for values: a run in memory that turns out to be missing has no outputs', async () => {
    const arena = new Arena(engine);
    const a = await siluProgram(engine, floats(engine, 'small', range(100)), 2, { arena });
    a.program.run();
    const first = bits((await a.program.read(a.y))[0]!);
    narrow(1000);
    const growing = rejection(siluProgram(engine, x, 2, { arena }), OutOfMemoryError);
    a.program.run();
    await growing;
    await expect(a.program.read(a.y)).rejects.toThrow(/'silu2' has no outputs in memory/);
    roomAgain();
    a.program.run();
    expect(bits((await a.program.read(a.y))[0]!)).toBe(first);
    a.program.dispose();
    arena.dispose();
  });

  it('is told to the program that lacks it, of two that are compiled at once', async () => {
    const before = live();
    narrow(42_000); // for one of them
    const [a, b] = await Promise.allSettled([siluProgram(engine, x, 3), siluProgram(engine, x, 2)]);
    roomAgain();
    if (a.status === 'rejected') throw a.reason;
    expect(b.status === 'rejected' && String(b.reason)).toMatch(/buffer 'silu2\/slab0' needs 40448 bytes/);
    const { program, y } = a.value;
    program.run();
    expect(bits((await program.read(y))[0]!)).toBe(want);
    program.dispose();
    expect(live()).toEqual(before);
  });

  it('is an error at once where the runtime throws it', async () => {
    const { createBuffer } = engine.device;
    engine.device.createBuffer = () => {
      throw new RangeError('no room in the heap');
    };
    onTestFinished(() => {
      engine.device.createBuffer = createBuffer;
    });
    const before = live();
    expect(() => engine.tensor('big', [500])).toThrow(
      /^buffer 'big' needs 2000 bytes with \d+ live; the device has no memory for it: no room in the heap$/,
    );
    expect(live()).toEqual(before);
    engine.device.createBuffer = createBuffer;
    expect(await computed()).toBe(want);
  });
});

describe('a driver that really refuses', () => {
  // Software drivers refuse a buffer of the size that they allow at most, before they take any memory for it.
  const refuses = () => ['lavapipe', 'swiftshader'].includes(engine.adapterClass);
  beforeEach(({ skip }) => {
    if (!refuses()) skip();
    const { createBuffer, limits } = engine.device;
    engine.device.createBuffer = (d) =>
      createBuffer(d.label?.startsWith('huge') ? { ...d, size: limits.maxBufferSize } : d);
    onTestFinished(() => {
      engine.device.createBuffer = createBuffer;
    });
  });

  it('a tensor', async () => {
    const why = /vk(CreateBuffer|AllocateMemory) failed with VK_ERROR_OUT_OF_DEVICE_MEMORY/;
    const make = async () => {
      engine.tensor('huge', [500], { data: new Float32Array(500).fill(1) });
      await engine.allocated();
    };
    const error = await fails(() => {}, 0, 'huge', make);
    expect(error.message).toMatch(why);
  });

  it('a program', async () => {
    const compile = async () => {
      const { recording } = record(engine, 'huge', (ctx) => silu(ctx, silu(ctx, x)));
      return Program.compile(engine, recording);
    };
    await fails(() => {}, 0, 'huge/slab0', compile);
  });
});

describe('compiling without weights', () => {
  it('makes bind groups at the first run, which needs every tensor to have its place', async () => {
    const later: Tensor = { ...x, label: 'later', storage: { label: 'later', bytes: x.storage.bytes, place: null } };
    const groups = engine.counters.bindGroups;
    const { program, y } = await siluProgram(engine, later, 3);
    expect(engine.counters.bindGroups).toBe(groups);
    expect(() => program.run()).toThrow(UsageError);
    expect(() => program.run()).toThrow(/^'later' has no memory$/);
    await expect(program.read(y)).rejects.toThrow(/'silu3' has no outputs in memory/);
    later.storage.place = x.storage.place;
    engine.placements++;
    program.run();
    expect(bits((await program.read(y))[0]!)).toBe(want);
    const made = engine.counters.bindGroups;
    program.run();
    expect(engine.counters.bindGroups).toBe(made);
    program.dispose();
  });
});
