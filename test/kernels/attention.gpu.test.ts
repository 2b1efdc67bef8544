/**
 * Every way to compute attention, those for other machines included: against float64 and central differences, with the same bits in
 * every batch, and over chunks of one fused tensor with the same bits as over three tensors.
 */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AdapterKind } from '../../engine/device.ts';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { attentionContract } from '../../kernels/attention/attention.contract.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { attentionCandidates } from '../../kernels/attention/candidates.ts';
import { type AttentionShape, attentions } from '../../kernels/attention/variants.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { checkCase } from '../../kernels/check.ts';
import { chunk } from '../../kernels/chunk.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { attentionHalfContract } from '../../kernels/half-activations.contracts.ts';
import { randomArrays } from '../support/block.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { bits } from '../support/tiny.ts';

// CPU drivers take long to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let own: Engine;
let engine: Engine;
beforeAll(async () => {
  own = await unoptimisedEngine();
  engine = new Engine(own.device, own.adapterClass, { ownsDevice: false });
});
afterAll(() => {
  engine.dispose();
  own.dispose();
});

const shapeOf = (head: number, tokens: number, heads = 1): AttentionShape => ({
  ...{ tokens, heads, head, activations: 'f32' },
});

/** All variants that the device has for the shape. */
const idsOf = (shape: AttentionShape) => attentionCandidates.candidates(engine, shape).map((v) => v.id);

/** What an adapter of that kind takes untuned. */
function reviewedAs(kind: AdapterKind, shape: AttentionShape): string {
  const other = new Engine(own.device, kind, { ownsDevice: false });
  const { id } = attentions.reviewed(other, shape);
  other.dispose();
  return id;
}

it('a driver with subgroups of four is given none that needs eight lanes, and one without subgroups none at all', () => {
  const { device } = own;
  const having = (lanes: number | null): GPUDevice =>
    new Proxy(device, {
      get(target, name) {
        if (name === 'features') return new Set(lanes === null ? [] : ['subgroups']);
        if (name === 'adapterInfo') return { subgroupMinSize: lanes ?? undefined, subgroupMaxSize: lanes ?? undefined };
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  const taken = (lanes: number | null, tokens: number) => {
    const other = new Engine(having(lanes), 'lavapipe', { ownsDevice: false });
    const { id } = attentions.reviewed(other, shapeOf(64, tokens));
    expect(attentionCandidates.candidates(other, shapeOf(64, tokens)).map((v) => v.id)).toContain(id);
    other.dispose();
    return id;
  };
  expect([8, 9, 16, 17, 256].map((tokens) => taken(8, tokens))).toEqual(
    [1, 2, 2, 4, 4].map((each) => `subgroup-${each}`),
  );
  expect(taken(4, 256)).toBe('quad-8');
  expect(taken(null, 256)).toBe('arrays-4');
});

/** What adapters of each kind take, where this device can run it. */
function reviewedIds(shape: AttentionShape): string[] {
  const can = idsOf(shape);
  const kinds: readonly AdapterKind[] = ['gpu', 'lavapipe', 'swiftshader'];
  return [...new Set(kinds.map((kind) => reviewedAs(kind, shape)))].filter((id) => can.includes(id));
}

/** Makes the engine take the variant for attention, and nothing else. */
function force(id: string) {
  engine.tuning = tuningBy((family) => (family === 'attention' ? id : undefined));
}

/** Holds each variant to the contract. */
async function checkEach(ids: readonly string[], c: object) {
  for (const id of ids) {
    force(id);
    await checkCase(engine, attentionContract, { ...c, scale: 'sqrt' }).catch((cause) =>
      expect.fail(`${id}: ${cause.message}`),
    );
  }
}

describe('against float64 and central differences, replayed bit for bit', () => {
  it('every variant: heads of one vector, tokens that end within a tile', async () => {
    const ids = idsOf(shapeOf(4, 37));
    expect(ids).toContain('tiled-64x16-1x2');
    if (own.adapterClass !== 'gpu') expect(ids).toContain('arrays-4');
    await checkEach(ids, { batch: 1, tokens: 38, heads: 2, head: 4 });
  });

  // How many vectors a head has is no matter of how many rows an invocation has: one variant for each source of rows. Of those that share
  // rows among themselves, what each kind of adapter takes is below.
  it('each source of rows, heads of two vectors', async () => {
    const ids = ['tiled-64x16-1x2', ...(own.adapterClass === 'gpu' ? [] : ['arrays-4'])];
    await checkEach(ids, { batch: 1, tokens: 39, heads: 2, head: 8 });
  });

  // Four that shuffle are below, with heads of 64.
  it('rows that two, four and eight invocations share, not all with as many vectors', async () => {
    const ids = idsOf(shapeOf(36, 37)).filter((id) => /^tiled-64x16-(4x2-memory|8x2)/.test(id));
    expect(ids).toContain('tiled-64x16-4x2-memory');
    expect(ids.join()).toContain('-8x2');
    await checkEach(ids, { batch: 1, tokens: 39, heads: 1, head: 36 });
    await checkEach(['tiled-64x16-2x2'], { batch: 1, tokens: 38, heads: 1, head: 12 });
  });

  for (const c of [
    { batch: 1, tokens: 1, heads: 1, head: 4 },
    { batch: 2, tokens: 6, heads: 3, head: 12 },
    { batch: 1, tokens: 19, heads: 2, head: 5 },
  ]) {
    it(`what each kind of adapter takes, and CPU drivers without subgroups: ${JSON.stringify(c)}`, () => {
      const alone = own.adapterClass === 'gpu' ? [] : ['arrays-2'];
      return checkEach([...reviewedIds(shapeOf(c.head, c.tokens, c.heads)), ...alone], c);
    });
  }

  // What this adapter takes is in the contract's cases; the rest of what software takes, in the small heads above.
  // What this adapter takes for large heads is in the contract's cases.
  it('what GPUs take: heads of 64', () =>
    checkEach([reviewedAs('gpu', shapeOf(64, 17, 2))], { batch: 1, tokens: 17, heads: 2, head: 64 }));

  it('over f16: what each kind takes, and by arrays', async () => {
    const others = own.adapterClass === 'gpu' ? [] : ['arrays-2'];
    for (const id of new Set([...reviewedIds(shapeOf(12, 21)), ...others])) {
      force(id);
      const k = { batch: 2, tokens: 21, heads: 2, head: 12, scale: 'd' };
      await checkCase(engine, attentionHalfContract, k).catch((cause) => expect.fail(`${id}: ${cause.message}`));
    }
  });
});

/** Results of attention with its gradients, of the last sample: q, k, v as three tensors, or as chunks of one. */
async function results(
  { batch, tokens, heads, head }: { batch: number; tokens: number; heads: number; head: number },
  fused: boolean,
): Promise<string[]> {
  const [most, width] = [3, heads * head];
  const shapes = { qkv: [most, tokens, 3 * width], dy: [most, tokens, width] } as Record<string, [number, ...number[]]>;
  const arrays = randomArrays(shapes, 5, 1);
  const rows = batch * tokens;
  const last = (name: string) =>
    Float32Array.from(arrays[name]!.subarray((arrays[name]!.length / most) * (most - batch)));
  const qkv = last('qkv');
  const part = (n: number) =>
    Float32Array.from({ length: rows * width }, (_, i) => {
      return qkv[Math.floor(i / width) * 3 * width + n * width + (i % width)]!;
    });
  const make = (label: string, columns: number, data?: Float32Array) =>
    engine.tensor(label, [batch, tokens, columns], data ? { data } : {});
  const inputs = fused ? [make('qkv', 3 * width, qkv)] : [0, 1, 2].map((n) => make(`part${n}`, width, part(n)));
  const gradients = inputs.map((t) => engine.tensor(`d${t.label}`, t.shape));
  const dy = make('dy', width, last('dy'));
  try {
    return await eager(engine, async (ctx) => {
      const tape = createTape();
      for (const [i, t] of inputs.entries()) tape.watch(t, gradients[i]!);
      ctx.tape = tape;
      const [q, k, v] = fused ? chunk(ctx, inputs[0]!, 3) : inputs;
      const y = attention(ctx, q!, k!, v!, { heads, scale: 1 / head });
      tape.backward(ctx, [[y, dy]]);
      const read = await engine.readAll([y, ...gradients]);
      const [out, ...d] = read.map((values) => values.subarray((values.length / batch) * (batch - 1)));
      const columns = (x: Float32Array, n: number) => x.filter((_, i) => Math.floor((i % (3 * width)) / width) === n);
      const each = fused ? [0, 1, 2].map((n) => columns(d[0] as Float32Array, n)) : d;
      return [out!, ...each].map((values) => bits(values));
    });
  } finally {
    for (const t of [...inputs, ...gradients, dy]) engine.release(t);
  }
}

describe('bits', () => {
  // Heads as above, so that no more has to be compiled.
  for (const head of [12, 5]) {
    it(`a sample's are the same in every batch, and over chunks of a fused tensor: heads of ${head}`, async () => {
      const c = { tokens: 21, heads: 2, head };
      for (const id of reviewedIds(shapeOf(head, 21, 2))) {
        force(id);
        const alone = await results({ ...c, batch: 1 }, false);
        expect(new Set(alone).size, id).toBe(4);
        expect(await results({ ...c, batch: 3 }, false), id).toEqual(alone);
        expect(await results({ ...c, batch: 1 }, true), id).toEqual(alone);
        expect(await results({ ...c, batch: 3 }, true), id).toEqual(alone);
      }
    });
  }
});

describe('the choice', () => {
  const as = (kind: AdapterKind) => reviewedAs(kind, shapeOf(64, 256, 12));

  it('is a tile on GPUs and rows in private arrays on software', () => {
    expect(as('gpu')).toBe('tiled-64x16-4x2');
    expect(as('software')).toBe('quad-8');
    expect(as('swiftshader')).toBe('quad-8');
    const wide = (own.device.adapterInfo.subgroupMinSize ?? 0) >= 8;
    expect(as('lavapipe')).toBe(wide ? 'subgroup-4' : 'quad-8');
  });

  it('fits the guaranteed limits: every tile needs at most 16 KiB and 256 invocations', () => {
    const { limits, features, adapterInfo } = own.device;
    const least = {
      maxComputeWorkgroupStorageSize: 16384,
      maxComputeInvocationsPerWorkgroup: 256,
      maxComputeWorkgroupSizeX: 256,
    };
    const device = {
      features: new Set([...features].filter((f) => f !== 'subgroups')),
      adapterInfo,
      limits: { ...limits, ...least },
    };
    const small = { adapterClass: 'gpu', device } as unknown as Engine;
    for (const head of [4, 5, 24, 64, 72, 128]) {
      for (const tokens of [1, 49, 256]) {
        const { id, constants } = attentions.reviewed(small, shapeOf(head, tokens));
        expect(id).toMatch(/^tiled-/);
        expect(constants.SHUFFLE).toBe(false);
        const { WG, EACH, SPLIT, PART, ROWS, BLOCK } = constants as Record<string, number>;
        const exchange = SPLIT! > 1 ? 2 * EACH! * BLOCK! * WG! : 0;
        expect(16 * (2 * ROWS! * SPLIT! * PART! + exchange), `${head}: ${id}`).toBeLessThanOrEqual(16384);
        expect(WG).toBeLessThanOrEqual(256);
      }
    }
  });
});
