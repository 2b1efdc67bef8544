/** Cases of networks, the work that contracts state for them, their parts, and ceilings: against numbers worked out by hand. */
import { describe, expect, it } from 'vitest';
import { blockShape, casesOf, parseShapes } from '../../bench/cases.ts';
import { roofOf } from '../../bench/roofline.ts';
import { caseInputs } from '../../kernels/expected.ts';
import { contracts } from '../../kernels/registry.ts';
import { subjectReport } from '../support/bench-report.ts';

const named = (name: string) => contracts.find((c) => c.name === name)!;
const costOf = (name: string, k: object) => named(name).bench!.cost(k);

describe('references', () => {
  /** Above so many operations a reference takes seconds; those are of families whose smaller cases are here. */
  const QUICK_FLOPS = 2e8;
  const quick = contracts.flatMap((c) =>
    casesOf(c)
      .filter((k) => c.bench!.cost(k).flops <= QUICK_FLOPS)
      .map((k) => [`${c.name} ${JSON.stringify(k)}`, c, k] as const),
  );

  it.each(quick)('can be computed at the size that is timed: %s', (_, c, k) => {
    const outputs = Object.values(c.reference(caseInputs(c, k), k));
    expect(outputs.length).toBeGreaterThan(0);
    for (const values of outputs) expect(values.every(Number.isFinite)).toBe(true);
  });

  it('are those of nearly all contracts', () => {
    const timed = contracts.filter((c) => casesOf(c).length > 0).map(({ name }) => name);
    const left = timed.filter((name) => !quick.some(([, c]) => c.name === name));
    expect(left).toEqual(['linearHalf', 'linearInt8', 'gatedLinear', 'convolution', 'convolutionHalf']);
  });
});

describe('work', () => {
  it('of a dense layer: 2 M N K, backward twice that', () => {
    const k = { rows: 2, tokens: 3, input: 5, output: 7 };
    // x 30, W 35, b 7, y 42; backward x 30, W 35, dy 42 in, dx 30, dW 35, db 7 out.
    expect(costOf('linear', k)).toEqual({ flops: 420, bytes: 4 * 114, backward: { flops: 840, bytes: 4 * 179 } });
    // What is before the activation is read, too.
    expect(costOf('linear', { ...k, activation: 'gelu' }).backward!.bytes).toBe(4 * (179 + 42));
  });

  it('of a gated dense layer, used twice', () => {
    // x 30, W 35, b 7, gate 14, residual 42, y 42; backward x 30, W 35, dy 42, branch 42, gate 14 in, dx 30, dW 35, db 7, dgate 14 out.
    const cost = costOf('gatedLinear', { rows: 2, tokens: 3, input: 5, output: 7 });
    expect(cost).toEqual({ flops: 840, bytes: 2 * 4 * 170, backward: { flops: 1680, bytes: 2 * 4 * 249 } });
  });

  it('of packed dense layers: fewer bytes of weights', () => {
    const k = { rows: 1, tokens: 3, input: 8, output: 4 };
    expect(costOf('linearHalf', k)).toEqual({ flops: 192, bytes: 4 * (24 + 12 + 4) + 64 });
    expect(costOf('linearInt8', k)).toEqual({ flops: 192, bytes: 4 * (24 + 12 + 4) + 32 + 16 }); // a scale per column
  });

  it('of attention: two products of T x T x D per head, backward five', () => {
    const cost = costOf('attention', { batch: 2, tokens: 10, heads: 3, head: 4, scale: 'd' });
    const product = 2 * 2 * 3 * 10 * 10 * 4;
    const values = 2 * 10 * 12;
    expect(cost).toEqual({
      flops: 2 * product,
      bytes: 4 * 4 * values,
      backward: { flops: 5 * product, bytes: 4 * 8 * values },
    });
  });

  it('of what moves memory', () => {
    expect(costOf('layernorm', { batch: 2, tokens: 3, width: 5 })).toEqual({
      flops: 7 * 30,
      bytes: 4 * (60 + 20),
      backward: { flops: 13 * 30, bytes: 4 * (90 + 30) }, // scale in, dshift and dscale out
    });
    expect(costOf('gather', { rows: 10, count: 4, width: 5 })).toEqual({
      flops: 0,
      bytes: 4 * 44,
      backward: { flops: 20, bytes: 4 * (4 + 20 + 50) },
    });
    expect(costOf('mse', { batch: 2, width: 5 })).toEqual({
      flops: 30,
      bytes: 4 * 21,
      backward: { flops: 20, bytes: 4 * 31 },
    });
    expect(costOf('crossEntropy', { batch: 2, classes: 5 })).toEqual({
      flops: 40,
      bytes: 4 * 13,
      backward: { flops: 40, bytes: 4 * (20 + 2 + 4 + 1) }, // largest score and sum of each sample, and the loss's gradient
    });
    expect(costOf('adamw', { size: 10, count: 1 })).toEqual({ flops: 320, bytes: 4 * 210 });
    expect(costOf('dropout', { size: 10, rate: 0.5 }).backward).toEqual({ flops: 10, bytes: 80 });
    expect(costOf('globalNorm', { sizes: [3, 5] })).toEqual({ flops: 26, bytes: 4 * 15 });
  });

  it('is stated for the backward of everything that is differentiable and timed', () => {
    for (const c of contracts) {
      for (const k of casesOf(c, { shapes: ['small', 's', 'xl', 'decoder'], batches: [2] })) {
        expect(c.bench!.cost(k).backward !== undefined, c.name).toBe(c.differentiable.length > 0);
      }
    }
  });
});

describe('cases', () => {
  it('of more operations than asked for are left out', () => {
    const small = (mostFlops?: number) => casesOf(named('linear'), { shapes: ['small'], mostFlops });
    expect(small().length).toBe(3);
    // rows 64 x tokens 49 x input 96 x output 96, twice, is 58 million; the next has four times as many.
    expect(small(1e8)).toEqual([{ rows: 64, tokens: 49, input: 96, output: 96 }]);
    expect(small(1e6)).toEqual([]);
  });

  it('of DiT-XL/2 at batch 4 are those of a block', () => {
    expect(blockShape('xl', 4)).toEqual({ batch: 4, tokens: 256, width: 1152, heads: 16, hidden: 4608 });
    expect(casesOf(named('linear'), { shapes: ['xl'], batches: [4] })).toEqual([
      { rows: 4, tokens: 256, input: 1152, output: 1152 },
      { rows: 4, tokens: 256, input: 1152, output: 4608, activation: 'gelu' },
      { rows: 4, tokens: 256, input: 4608, output: 1152 },
      { rows: 4, tokens: 1, input: 1152, output: 6912 },
    ]);
    expect(casesOf(named('attention'), { shapes: ['xl'], batches: [4] })).toEqual([
      { batch: 4, tokens: 256, heads: 16, head: 72, scale: 'd' },
    ]);
  });

  it('are small ones and DiT-B/2 at batch 1 unless asked, each once', () => {
    const cases = casesOf(named('linear'));
    expect(cases.slice(0, 3)).toEqual(named('linear').bench!.cases);
    expect(cases).toContainEqual({ rows: 1, tokens: 256, input: 3072, output: 768 });
    expect(new Set(cases.map((k) => JSON.stringify(k))).size).toBe(cases.length);
    expect(cases.length).toBe(6); // into the MLP is among both
    expect(casesOf(named('silu'))).toEqual([]);
  });

  it('of decoders are what they run for 256 pixels, each once', () => {
    const of = (name: string) => casesOf(named(name), { shapes: ['decoder'] });
    expect(of('wideAttention')).toEqual([{ tokens: 1024, width: 512 }]);
    const convolutions = of('convolution');
    const picture = (side: number) => ({ batch: 1, height: side, width: side });
    expect(convolutions[0]).toEqual({ ...picture(32), input: 4, output: 4, side: 1 });
    expect(convolutions).toContainEqual({ ...picture(128), input: 256, output: 256, side: 3, upsample: true });
    expect(convolutions).toContainEqual({ ...picture(256), input: 256, output: 128, side: 1 });
    expect(convolutions.at(-1)).toEqual({ ...picture(256), input: 64, output: 3, side: 3 });
    expect(of('groupnorm').at(-1)).toEqual({ ...picture(32), channels: 256, groups: 4, activation: 'relu' });
    // The attention's query, key, value and output, each once.
    expect(of('linear')).toEqual([{ rows: 1, tokens: 1024, input: 512, output: 512 }]);
    expect(of('layernorm')).toEqual([]);
  });

  it('of unknown shapes are refused', () => {
    expect(() => parseShapes(['b', 'huge'])).toThrow(
      expect.objectContaining({
        code: 'config',
        message: "there are no shapes 'huge'",
        hint: 'shapes: small, s, b, l, xl, decoder, square',
      }),
    );
  });
});

describe('parts of large cases', () => {
  const pick = (count: number, of: number) =>
    Array.from({ length: Math.min(count, of) }, (_, i) => Math.floor((i * of) / Math.min(count, of)));
  it.each([
    ['linear', { rows: 5, tokens: 7, input: 12, output: 9, activation: 'gelu' }],
    ['linearHalf', { rows: 5, tokens: 7, input: 12, output: 8 }],
    ['linearInt8', { rows: 5, tokens: 7, input: 12, output: 8 }],
    ['gatedLinear', { rows: 5, tokens: 7, input: 12, output: 9 }],
    ['attention', { batch: 3, tokens: 7, heads: 5, head: 4, scale: 'd' }],
  ])('of %s have the outputs that the whole has there', (name, k) => {
    const c = named(name);
    const inputs = caseInputs(c, k);
    const whole = c.reference(inputs, k).y!;
    const { case: small, inputs: picked, places } = c.bench!.part!(k, inputs, pick);
    const part = c.reference(picked, small).y!;
    const at = Array.from(part, (_, i) => places.y!(i));
    expect(part.length).toBeLessThan(whole.length);
    expect(new Set(at).size).toBe(part.length);
    for (const [i, place] of at.entries()) expect(part[i]).toBeCloseTo(whole[place]!, 12);
  });
});

describe('roofOf', () => {
  const { ceilings } = subjectReport(); // 10 GB/s, 100 GFLOP/s: ten operations per byte
  it('is the ceiling that takes longer', () => {
    expect(roofOf({ flops: 2e11, bytes: 1e9 }, ceilings)).toEqual({ bound: 'compute', seconds: 2 });
    expect(roofOf({ flops: 1e9, bytes: 5e9 }, ceilings)).toEqual({ bound: 'memory', seconds: 0.5 });
    expect(roofOf({ flops: 0, bytes: 5e9 }, ceilings).bound).toBe('memory');
  });
});
