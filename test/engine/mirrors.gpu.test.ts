/** Tensors that kernels read through textures: whatever their size and place, as they are when the dispatch comes, counted as memory. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Context } from '../../engine/context.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { OutOfMemoryError, UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { Arena } from '../../engine/memory/arena.ts';
import { Program, record } from '../../engine/program.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { profile, repeat, timed } from '../../engine/timed.ts';
import { fromHalf } from '../../formats/half.ts';
import mirror from '../../kernels/mirror.wgsl';
import { testEngine } from '../support/engine.ts';
import { rejection } from '../support/programs.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

// y = 2 a + b, a and b through mirrors.
const kernel = defineKernel(
  'test/mirrored',
  `@group(0) @binding(0) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var b: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&y)) { y[id.x] = 2.0 * textureLoad(a, texel_of(id.x)) + textureLoad(b, texel_of(id.x)); }
}`,
  mirror,
);

function sum(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const n = a.storage.bytes / 4;
  const y = ctx.empty('y', [n]);
  ctx.dispatch({ kernel, entry: 'main', tensors: { a, b, y }, grid: Math.ceil(n / 256) });
  return y;
}

const numbers = (n: number, from: number) => Float32Array.from({ length: n }, (_, i) => from + i);
/** Bytes of a line of a mirror's texels. */
const LINE = 16384;

it.each([4, 4092, 4096, 4100, 3 * 4096 + 8])('%i numbers, from the middle of a buffer, eagerly', async (n) => {
  const room = Math.ceil((64 + n) / 64) * 64;
  const whole = engine.tensor('whole', [room], { data: numbers(room, -64) });
  const a = engine.slice(whole, 64, 'a', [n]);
  const b = engine.tensor('b', [n], { data: numbers(n, 1) });
  const y = await eager(engine, (ctx) => engine.read(sum(ctx, a, b)));
  expect(y).toEqual(Float32Array.from({ length: n }, (_, i) => 2 * i + 1 + i));
  expect(engine.memory.report().byKind.mirrors ?? 0).toBe(0);
  for (const t of [whole, b]) engine.release(t);
});

it('a program copies what a dispatch reads just before it, and shares its mirrors with others of its arena', async () => {
  const arena = new Arena(engine);
  const made = new Map<number, { program: Program; y: Tensor; x: Tensor }>();
  for (const n of [16, 8192, 64]) {
    const x = engine.tensor('x', [n], { data: numbers(n, 1) });
    const { recording, result } = record(engine, `mirrored ${n}`, (ctx, keep) => {
      // Each reads what the one before it has written: 3 x, 9 x, 27 x; and x again.
      const y = sum(ctx, sum(ctx, sum(ctx, x, x), sum(ctx, x, x)), x);
      keep(y);
      return y;
    });
    made.set(n, { program: await Program.compile(engine, recording, { arena }), y: result, x });
    expect(engine.memory.report().byKind.mirrors).toBe(n === 16 ? 2 * LINE : 4 * LINE);
  }
  for (const [n, { program, y, x }] of [...made, ...made]) {
    program.run();
    const want = numbers(n, 1).map((v) => 19 * v);
    expect((await program.read(y))[0]).toEqual(want);
    if (engine.device.features.has('timestamp-query')) {
      engine.write(x, numbers(n, 2));
      expect(await timed(engine, program)).toBeGreaterThanOrEqual(0);
      expect((await program.read(y))[0]).toEqual(numbers(n, 2).map((v) => 19 * v));
      engine.write(x, numbers(n, 1));
      expect(await profile(engine, program)).toHaveLength(4);
      expect((await program.read(y))[0]).toEqual(want);
    }
    repeat(engine, program, { index: 0, times: 3 });
  }
  for (const { program, x } of made.values()) {
    program.dispose();
    engine.release(x);
  }
  expect(engine.memory.report().byKind.mirrors).toBe(4 * LINE);
  arena.dispose();
  expect(engine.memory.report().byKind.mirrors ?? 0).toBe(0);
});

it('mirrors beyond the memory limit are an OutOfMemoryError, and nothing stays', async () => {
  const [x, other] = [engine.tensor('x', [16]), engine.tensor('other', [16])];
  const before = engine.memory.report().live;
  const { recording } = record(engine, 'no room', (ctx, keep) => keep(sum(ctx, x, other)));
  engine.memory.limit = before + LINE + 1000;
  const error = await rejection(Program.compile(engine, recording), OutOfMemoryError);
  engine.memory.limit = Number.POSITIVE_INFINITY;
  expect(error.message).toMatch(/^texture 'no room\/rgba32float\/1' needs 16384 bytes with \d+ live; the limit is/);
  expect(engine.memory.report().live).toBe(before);
  for (const t of [x, other]) engine.release(t);
});

const packed = (format: 'rgba16float' | 'rgba8sint') =>
  defineKernel(
    `test/${format}`,
    `@group(0) @binding(0) var a: texture_storage_2d<${format}, read>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&y)) { y[id.x] = vec4f(textureLoad(a, texel_of(id.x))); }
}`,
    mirror,
  );

/** What a kernel reads through a mirror in `format` of a tensor of these words. */
async function read(format: 'rgba16float' | 'rgba8sint', words: Uint32Array): Promise<Float32Array> {
  const a = engine.tensor('a', [words.length], { dtype: 'u32', data: words });
  const n = (4 * 4 * words.length) / (format === 'rgba8sint' ? 4 : 8);
  const y = await eager(engine, async (ctx) => {
    const out = ctx.empty('y', [n]);
    ctx.dispatch({ kernel: packed(format), entry: 'main', tensors: { a, y: out }, grid: Math.ceil(n / 256) });
    return engine.read(out);
  });
  engine.release(a);
  return y;
}

it('halves are read as they are, all of them', async () => {
  const words = Uint32Array.from({ length: 32768 }, (_, i) => (2 * i) | ((2 * i + 1) << 16));
  const y = await read('rgba16float', words);
  const want = fromHalf(new Uint16Array(words.buffer));
  for (const i of want.keys())
    if (!Object.is(y[i], want[i])) expect(`half ${i}: ${y[i]}`).toBe(`half ${i}: ${want[i]}`);
});

it('signed bytes are read as they are', async () => {
  const bytes = Int8Array.from({ length: 256 }, (_, i) => i - 128);
  expect(await read('rgba8sint', new Uint32Array(bytes.buffer))).toEqual(Float32Array.from(bytes));
});

it('lines may lie apart, in a texture of their own', async () => {
  const n = 2 * 4096 + 8;
  const x = engine.tensor('x', [n], { data: numbers(n, 1) });
  const arena = new Arena(engine);
  const { recording, result } = record(engine, 'apart', (ctx, keep) => {
    const [y, z] = [ctx.empty('y', [n]), ctx.empty('z', [n])];
    const grid = Math.ceil(n / 256);
    ctx.dispatch({ kernel, entry: 'main', tensors: { a: x, b: x, y }, apart: ['a'], grid });
    ctx.dispatch({ kernel, entry: 'main', tensors: { a: y, b: x, y: z }, apart: ['a', 'b'], grid });
    keep(z);
    return z;
  });
  const program = await Program.compile(engine, recording, { arena });
  program.run();
  expect((await program.read(result))[0]).toEqual(numbers(n, 1).map((v) => 7 * v));
  // First and second texture with lines apart, and the second, of x, close together.
  expect(engine.memory.report().byKind.mirrors).toBe(3 * (LINE + 128) + 3 * (LINE + 128) + 3 * LINE);
  program.dispose();
  arena.dispose();
  engine.release(x);
});

it('a tensor bound twice has one mirror', async () => {
  const x = engine.tensor('x', [16], { data: numbers(16, 1) });
  const arena = new Arena(engine);
  const { recording, result } = record(engine, 'twice', (ctx, keep) => {
    const y = sum(ctx, x, x);
    keep(y);
    return y;
  });
  const program = await Program.compile(engine, recording, { arena });
  program.run();
  expect((await program.read(result))[0]).toEqual(numbers(16, 1).map((v) => 3 * v));
  expect(engine.memory.report().byKind.mirrors).toBe(LINE);
  program.dispose();
  arena.dispose();
  engine.release(x);
});

it('what is no whole number of texels has no mirror', async () => {
  const x = engine.tensor('x', [6]);
  const { recording } = record(engine, 'odd', (ctx, keep) => keep(sum(ctx, x, x)));
  const error = await rejection(Program.compile(engine, recording), UsageError);
  expect(error.message).toBe(
    "'x' has 24 bytes; a mirror in rgba32float holds whole texels of 16 bytes, 8388608 at most",
  );
  engine.release(x);
});
