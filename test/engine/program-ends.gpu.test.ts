/** How programs and engines end: compilations that fail free what they took, lost devices are named, dispose is final. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Engine } from '../../engine/engine.ts';
import { DeviceLostError, InterruptedError, LimitError, OutOfMemoryError, UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { type CompileOptions, Program, record } from '../../engine/program.ts';
import { testEngine } from '../support/engine.ts';
import { floats, range, rejection, siluProgram } from '../support/programs.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

describe('a compilation that fails frees what it took', () => {
  const attempt = async (options: CompileOptions, spare: number) => {
    const x = engine.tensor('x', [5000]);
    const before = engine.memory.report();
    engine.memory.limit = before.live + spare;
    const error = await rejection(siluProgram(engine, x, 3, options), OutOfMemoryError);
    engine.memory.limit = Number.POSITIVE_INFINITY;
    expect(engine.memory.report()).toMatchObject({ live: before.live, buffers: before.buffers, byKind: before.byKind });
    engine.release(x);
    return error.message;
  };

  it('for want of memory for its slab, for its second tensor, and for its parameters', async () => {
    expect(await attempt({}, 30_000)).toMatch(/^buffer 'silu3\/slab0' needs 40448 bytes/);
    expect(await attempt({ separate: true }, 30_000)).toMatch(/^buffer 'silu' needs 20000 bytes/);
    expect(await attempt({}, 40_448)).toMatch(/^buffer 'silu3\/params' needs 256 bytes/);
  });

  it('for a wrong parameter, a shader that does not compile, and an abort', async () => {
    const kernel = (name: string, body: string) =>
      defineKernel(
        name,
        `struct Params { k: f32 }\n@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { ${body} }`,
      );
    const good = kernel('good', 'y[0] = params.k;');
    const bad = kernel('bad', 'y[0] = params.k + nowhere;');
    const compile = (k: typeof good, value: number, options: CompileOptions = {}) => {
      const { recording } = record(engine, 'one', (ctx) =>
        ctx.dispatch({ kernel: k, entry: 'main', tensors: { y: ctx.empty('y', [1]) }, params: { k: value }, grid: 1 }),
      );
      return Program.compile(engine, recording, options);
    };
    const { live, buffers } = engine.memory.report();
    expect((await rejection(compile(good, Number.NaN), UsageError)).message).toBe('good/main: parameter k is NaN');
    expect((await rejection(compile(bad, 1), Error)).message).toMatch(/kernel bad\/main does not compile:\n.*nowhere/s);
    await rejection(compile(good, 1, { signal: AbortSignal.abort() }), InterruptedError);
    const controller = new AbortController();
    const late = compile(kernel('late', 'y[0] = 2.0 * params.k;'), 1, { signal: controller.signal });
    controller.abort();
    await rejection(late, InterruptedError);
    expect(engine.memory.report()).toMatchObject({ live, buffers });
  });

  it('for a driver without memory to compile, which may be tried again', async () => {
    let failures = 1;
    const device = new Proxy(engine.device, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name === 'createComputePipelineAsync' && failures-- > 0)
          return () => Promise.reject(new Error('no memory'));
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const other = new Engine(device, engine.adapterClass, { ownsDevice: false });
    const x = floats(other, 'x', range(4));
    await rejection(siluProgram(other, x, 1), Error);
    const program = await siluProgram(other, x, 1);
    program.program.run();
    other.dispose();
    expect(failures).toBeLessThan(0);
  });

  it('for a tensor too large for one binding, which is named', async () => {
    const most = engine.device.limits.maxStorageBufferBindingSize;
    const { live, buffers } = engine.memory.report();
    const { recording } = record(engine, 'huge', (ctx) => {
      const y = ctx.empty('hidden', [most / 4 + 1]);
      const kernel = defineKernel(
        'touch',
        '@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n@compute @workgroup_size(1) fn main() { y[0] = 1.0; }',
      );
      ctx.dispatch({ kernel, entry: 'main', tensors: { y }, grid: 1 });
    });
    const error = await rejection(Program.compile(engine, recording), LimitError);
    // Where a buffer holds no more than a binding, the planner says it first, of the aligned size.
    expect(error.asked).toBeGreaterThan(most);
    expect(error.available).toBe(most);
    expect(error.message).toContain("'hidden'");
    expect(engine.memory.report()).toMatchObject({ live, buffers });
  });
});

describe('ends', () => {
  it('a lost device throws DeviceLostError from run, read and compile', async () => {
    const own = await testEngine();
    const x = floats(own, 'x', range(8));
    const { program, y } = await siluProgram(own, x, 1);
    program.run();
    own.device.destroy();
    await rejection(program.read(y), DeviceLostError);
    await own.device.lost;
    expect(() => program.run()).toThrow(DeviceLostError);
    await rejection(own.read(x), DeviceLostError);
    await rejection(own.idle(), DeviceLostError);
    await rejection(siluProgram(own, x, 2), DeviceLostError);
    program.dispose();
    own.dispose();
  });

  it('dispose may be called again; a disposed program refuses to run', async () => {
    const { live, buffers } = engine.memory.report();
    const x = floats(engine, 'x', range(8));
    const { program, y } = await siluProgram(engine, x, 2);
    program.run();
    program.dispose();
    program.dispose();
    expect(() => program.run()).toThrow("program 'silu2' has been disposed");
    await rejection(program.read(y), UsageError);
    await rejection(engine.read(y), UsageError);
    engine.release(x);
    engine.release(x);
    expect(engine.memory.report().live).toBe(live);
    expect(engine.memory.report().buffers).toBe(buffers);
  });

  it("an engine on a caller's device frees its buffers and leaves the device working", async () => {
    const owner = await testEngine();
    const { device } = owner;
    const [added, removed] = [vi.spyOn(device, 'addEventListener'), vi.spyOn(device, 'removeEventListener')];
    const guest = new Engine(device, owner.adapterClass, { ownsDevice: false });
    const { program } = await siluProgram(guest, floats(guest, 'x', range(8)), 1);
    program.run();
    await guest.idle();
    guest.dispose();
    guest.dispose();
    expect(added.mock.calls).toHaveLength(1);
    expect(removed.mock.calls).toEqual(added.mock.calls);
    expect(guest.memory.report()).toMatchObject({ live: 0, buffers: 0 });
    expect(() => program.run()).toThrow('this engine has been disposed');
    const t = floats(owner, 't', [1, 2, 3]);
    expect([...(await owner.read(t))]).toEqual([1, 2, 3]);
    owner.dispose();
    expect((await device.lost).reason).toBe('destroyed');
  });
});

it('fails with what a callback of its progress throws, once, and frees all', async () => {
  const x = engine.tensor('x', [100]);
  const before = engine.memory.report();
  let told = 0;
  const compiling = siluProgram(engine, x, 3, {
    onProgress: () => {
      told++;
      throw new RangeError('of the callback');
    },
  });
  await expect(compiling).rejects.toThrow(new RangeError('of the callback'));
  expect(told).toBeGreaterThan(0);
  expect(engine.memory.report()).toMatchObject({ live: before.live, buffers: before.buffers });
  engine.release(x);
});
