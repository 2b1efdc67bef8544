/** The memory planner: its promises for any lifetimes, and how tight it is on the network's own recordings. */

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { LimitError } from '../../engine/errors.ts';
import { type Lifetime, type Plan, plan } from '../../engine/memory/planner.ts';
import { planRecording, record } from '../../engine/program.ts';
import { type Scalar, scalarInput } from '../../engine/scalar.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { mse } from '../../kernels/mse.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { groupsOf, velocity } from '../../model/dit.ts';
import { allSpecs, initParams } from '../../model/params.ts';
import { uploadModel } from '../../model/weights/residency.ts';
import { Weights } from '../../model/weights/weights.ts';
import { testEngine } from '../support/engine.ts';
import { tinyModel, tinyStep } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

const LIMIT = 1 << 16;
const lifetimes = fc.array(
  fc.record({ bytes: fc.integer({ min: 1, max: LIMIT }), first: fc.nat(40), length: fc.nat(20) }),
  { maxLength: 60 },
);
const toLifetimes = (drawn: { bytes: number; first: number; length: number }[]): Lifetime[] =>
  drawn.map(({ bytes, first, length }, i) => ({ label: `t${i}`, bytes, first, last: first + length }));

/** Pairs that share memory while both are alive, found the slow way. */
function collisions(ts: readonly Lifetime[], { placements }: Plan): string[] {
  const found: string[] = [];
  for (let i = 0; i < ts.length; i++) {
    for (let j = 0; j < i; j++) {
      const [a, b, p, q] = [ts[i]!, ts[j]!, placements[i]!, placements[j]!];
      const together = a.first <= b.last && b.first <= a.last;
      const overlap = p.slab === q.slab && p.offset < q.offset + b.bytes && q.offset < p.offset + a.bytes;
      if (together && overlap) found.push(`${a.label} and ${b.label}`);
    }
  }
  return found;
}

describe('any lifetimes', () => {
  it('no two tensors that are alive at once overlap', () => {
    fc.assert(
      fc.property(
        lifetimes,
        (drawn) => void expect(collisions(toLifetimes(drawn), plan(toLifetimes(drawn), LIMIT))).toEqual([]),
      ),
    );
  });

  it('every tensor lies aligned inside its slab, and no slab exceeds the limit', () => {
    fc.assert(
      fc.property(lifetimes, fc.constantFrom(4, 256), (drawn, alignment) => {
        const ts = toLifetimes(drawn);
        const { placements, slabs, bytes } = plan(ts, LIMIT, alignment);
        expect(placements.length).toBe(ts.length);
        for (const [i, { slab, offset }] of placements.entries()) {
          expect(offset % alignment).toBe(0);
          expect(offset + ts[i]!.bytes).toBeLessThanOrEqual(slabs[slab]!);
        }
        for (const size of slabs) expect(size).toBeLessThanOrEqual(LIMIT);
        expect(slabs.every((size) => size > 0)).toBe(true);
        expect(bytes).toBe(slabs.reduce((a, b) => a + b, 0));
      }),
    );
  });

  it('the lower bound is the fullest moment, and no plan is below it', () => {
    fc.assert(
      fc.property(lifetimes, (drawn) => {
        const ts = toLifetimes(drawn);
        const { bytes, lowerBound } = plan(ts, LIMIT);
        const aligned = (t: Lifetime) => Math.ceil(t.bytes / 256) * 256;
        const alive = (at: number) =>
          ts.filter((t) => t.first <= at && at <= t.last).reduce((n, t) => n + aligned(t), 0);
        expect(lowerBound).toBe(Math.max(0, ...Array.from({ length: 62 }, (_, at) => alive(at))));
        expect(bytes).toBeGreaterThanOrEqual(lowerBound);
      }),
    );
  });

  it('the same lifetimes give the same plan', () => {
    fc.assert(
      fc.property(
        lifetimes,
        (drawn) => void expect(plan(toLifetimes(drawn), LIMIT)).toEqual(plan(toLifetimes(drawn), LIMIT)),
      ),
    );
  });
});

describe('by hand', () => {
  const t = (bytes: number, first: number, last: number): Lifetime => ({
    label: `${bytes}@${first}`,
    bytes,
    first,
    last,
  });

  it('memory is used again after its last reader, not by its last reader', () => {
    expect(plan([t(512, 0, 1), t(512, 2, 3)], LIMIT)).toMatchObject({
      bytes: 512,
      placements: [{ offset: 0 }, { offset: 0 }],
    });
    expect(plan([t(512, 0, 1), t(512, 1, 2)], LIMIT).bytes).toBe(1024);
  });

  it('a gap between two others is filled', () => {
    const { placements, bytes } = plan([t(1024, 0, 9), t(768, 0, 2), t(512, 0, 9), t(256, 3, 9), t(512, 3, 9)], LIMIT);
    expect(placements.map((p) => p.offset)).toEqual([0, 1024, 1792, 1536, 1024]);
    expect(bytes).toBe(2304);
  });

  it('what does not fit one slab starts another', () => {
    expect(plan([t(768, 0, 1), t(768, 0, 1), t(256, 0, 1)], 1024)).toMatchObject({
      slabs: [1024, 768],
      placements: [
        { slab: 0, offset: 0 },
        { slab: 1, offset: 0 },
        { slab: 0, offset: 768 },
      ],
    });
  });

  it('nothing to place takes nothing', () => {
    expect(plan([], LIMIT)).toEqual({ placements: [], slabs: [], bytes: 0, lowerBound: 0 });
  });

  it('a tensor above the limit is named, with what it needs and what there is', () => {
    const big = { label: 'block0/hidden', bytes: 2000, first: 0, last: 0 };
    expect(() => plan([big], 1024)).toThrow(LimitError);
    try {
      plan([big], 1024);
    } catch (error) {
      expect(error).toMatchObject({ asked: 2048, available: 1024 });
      expect((error as Error).message).toContain("'block0/hidden' needs 2048 bytes");
    }
  });
});

describe('recordings of the network', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await testEngine();
  });
  afterAll(() => engine.dispose());

  /** Plans a forward pass, with the loss and its gradient if `train`, without compiling it. */
  function planned(config: ModelConfig, B: number, train: boolean) {
    const model = uploadModel(engine, config, initParams(config, 1));
    const gradients = new Weights(engine, model.weights.layout, 'gradients', { kind: 'gradients' });
    const { imageSize, channels } = config;
    const image: [number, ...number[]] = [B, imageSize, imageSize, channels];
    const [x, goal] = [engine.tensor('x', image), engine.tensor('goal', image)];
    const [t, step, one] = [engine.tensor('t', [B]), engine.tensor('step', [B]), engine.tensor('one', [1])];
    const [labels, lengths] = [
      engine.tensor('labels', [B], { dtype: 'u32' }),
      engine.tensor('lengths', [B], { dtype: 'u32' }),
    ];
    const rows: Scalar[] = groupsOf(config).map((_, g) => (g === 0 ? B : scalarInput(`rows${g}`, B)));
    const { recording } = record(engine, 'network', (ctx, keep) => {
      const tape = createTape();
      if (train)
        for (const { name } of allSpecs(model.weights.layout)) tape.watch(model.weights.get(name), gradients.get(name));
      ctx.tape = train ? tape : null;
      const v = velocity(ctx, model, { x, t, step, labels }, { lengths, rows });
      keep(v);
      if (train) tape.backward(ctx, [[mse(ctx, v, goal).loss, one]]);
    });
    return planRecording(recording, engine.device.limits.maxBufferSize).plan;
  }

  it.each([
    ['the tiny model', tinyModel, 8],
    ["the preset 'tiny'", preset('tiny'), 16],
  ])('%s: sampling and training fit within 1.10 of the lower bound', (_name, config, batch) => {
    for (const train of [false, true]) {
      const { bytes, lowerBound } = planned(config, batch, train);
      expect(bytes / lowerBound, train ? 'training' : 'sampling').toBeLessThanOrEqual(1.1);
    }
  });

  it('a whole training step fits within 1.10 of the lower bound', async () => {
    const { step } = await tinyStep(engine);
    const { bytes, lowerBound } = step.program.plan;
    expect(lowerBound).toBeGreaterThan(0);
    expect(bytes / lowerBound).toBeLessThanOrEqual(1.1);
    step.dispose();
  });
});
