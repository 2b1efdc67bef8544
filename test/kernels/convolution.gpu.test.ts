/** Convolutions in all their variants, their gradients in some, and what GPUs run of group norm and softmax, forced on whatever adapter there is; and refusals. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { UsageError } from '../../engine/errors.ts';
import { wideAttention } from '../../kernels/attention/wide.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { checkCase } from '../../kernels/check.ts';
import { convolutionCandidates } from '../../kernels/conv/candidates.ts';
import { type ConvolutionCase, convolution, convolutionContract } from '../../kernels/conv/convolution.ts';
import { convolutionHalfContract } from '../../kernels/conv/half-kernel.contract.ts';
import { type ConvolutionShape, convolutions } from '../../kernels/conv/variants.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { choose } from '../../kernels/family.ts';
import { groupnorm, groupnormContract } from '../../kernels/norm/groupnorm.ts';
import { softmaxContract } from '../../kernels/softmax.ts';
import { testEngine } from '../support/engine.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 600_000 });

let own: Engine;
/** The same device, taken for a GPU. */
let gpu: Engine;
beforeAll(async () => {
  own = await testEngine();
  gpu = new Engine(own.device, 'gpu', { ownsDevice: false });
});
afterAll(() => {
  gpu.dispose();
  own.dispose();
});

const shape: ConvolutionShape = { channels: 64, columns: 64, side: 3, weights: 'f32' };
const PORTABLE = ['register-8x32', 'register-32x4'];
const TILES = ['tile-64x64x16-8x4', 'tile-64x32x16-8x4', 'tile-128x64x16-8x4', 'tile-64x64x16-4x4'];

it('the variants tested here are all there are, and each kind of machine gets its own', () => {
  const ids = convolutionCandidates.candidates(own, shape).map((v) => v.id);
  expect(ids.filter((id) => !/^(subgroup|quad)-/.test(id))).toEqual([...PORTABLE, ...TILES]);
  expect(convolutionCandidates.candidates(gpu, shape).map((v) => v.id)).toEqual([...PORTABLE, ...TILES]);
  expect(choose(gpu, convolutions, shape).id).toBe(TILES[0]);
  expect(choose(gpu, convolutions, { ...shape, columns: 32 }).id).toBe(TILES[1]);
  for (const engine of [own, gpu]) expect(choose(engine, convolutions, { ...shape, columns: 3 }).id).toBe(PORTABLE[1]);
});

/**
 * Cases of the contract for each variant, few, as each kind of convolution is a pipeline that takes seconds to compile: odd channels out (2),
 * stride with the padding at the end and a residual (3), enlarged (5). What adapters here choose is held to all by the contracts' test.
 */
const CHECKED: Readonly<Record<string, readonly number[]>> = {
  'register-8x32': [3],
  'tile-64x64x16-8x4': [2, 3],
  'tile-64x32x16-8x4': [5],
  'tile-128x64x16-8x4': [3],
  'tile-64x64x16-4x4': [3],
  'quad-16x32': [5],
  'quad-16x64': [3],
  'subgroup-32x32': [3],
};

/** Whose gradients are checked as well: weights are then summed by the products' own tiles. */
const DIFFERENTIATED = 'register-8x32';

it.each(Object.entries(CHECKED))('convolution as %s agrees with float64', async (id, cases) => {
  if (!convolutionCandidates.candidates(own, shape).some((v) => v.id === id)) return;
  const engine = new Engine(own.device, own.adapterClass, { ownsDevice: false });
  let taken = 0;
  engine.tuning = tuningBy((name) => {
    if (name !== 'convolution') return undefined;
    taken++;
    return id;
  });
  const both = id === DIFFERENTIATED;
  const contract = both ? convolutionContract : { ...convolutionContract, differentiable: [] };
  for (const at of cases) await checkCase(engine, contract, convolutionContract.cases[at]!);
  if (id === TILES[0]) await checkCase(engine, convolutionHalfContract, convolutionHalfContract.cases[2]!);
  expect(taken).toBe((both ? 4 : 2) * cases.length + 2 * Number(id === TILES[0]));
  engine.dispose();
});

it('gradients as GPUs compute them agree with central differences, sums over more pixels than a slice has, too', async () => {
  const k: ConvolutionCase = { batch: 2, height: 6, width: 6, input: 3, output: 4, side: 3, upsample: true };
  await checkCase(gpu, convolutionContract, k);
});

it.each([groupnormContract, softmaxContract])('$name as GPUs compute it agrees with float64', async (contract) => {
  for (const k of contract.cases.slice(1)) await checkCase(gpu, contract, k);
});

it('more tiles than a dimension of a grid are folded, and none is lost', async () => {
  // 40,000 tiles of 32 pixels by one subgroup, or of 8.
  const [height, width] = [1280, 1000];
  const x = own.tensor('x', [1, height, width, 1], {
    data: Float32Array.from({ length: height * width }, (_, i) => i % 8191),
  });
  const kernel = own.tensor('kernel', [1, 1], { data: Float32Array.of(2) });
  const y = await eager(own, async (ctx) => own.read(convolution(ctx, x, { kernel })));
  expect(y.findIndex((v, i) => v !== 2 * (i % 8191))).toBe(-1);
  for (const t of [x, kernel]) own.release(t);
});

it('a picture has the same bits whatever else is in its batch', async () => {
  const seen = new Set<string>();
  for (const batch of [1, 3]) {
    const size = 6 * 9 * 8;
    const data = Float32Array.from({ length: batch * size }, (_, i) => Math.sin(1.7 * (i + (3 - batch) * size)));
    const x = own.tensor('x', [batch, 6, 9, 8], { data });
    const kernel = own.tensor('kernel', [72, 8], { data: Float32Array.from({ length: 576 }, (_, i) => Math.cos(i)) });
    const [gain, bias] = ['gain', 'bias'].map((name) =>
      own.tensor(name, [8], { data: Float32Array.from({ length: 8 }, (_, i) => i + 1) }),
    );
    const y = await eager(own, async (ctx) => {
      const normal = groupnorm(ctx, x, { gain: gain!, bias: bias! }, { groups: 2, eps: 1e-6 });
      return own.read(convolution(ctx, normal, { kernel }));
    });
    seen.add(bits(y.subarray((batch - 1) * size)));
    for (const t of [x, kernel, gain!, bias!]) own.release(t);
  }
  expect(seen.size).toBe(1);
});

it('shapes that do not fit and gradients through halves are refused', async () => {
  const x = own.tensor('x', [1, 4, 4, 6]);
  const five = own.tensor('five', [150, 8]);
  const three = own.tensor('three', [54, 8]);
  const eight = own.tensor('eight', [8]);
  const row = own.tensor('row', [2, 5, 8]);
  await eager(own, async (ctx) => {
    expect(() => convolution(ctx, x, { kernel: five })).toThrow(
      'a convolution of [1, 4, 4, 6] of f32 by [150, 8]: kernels of 1 or 3 taps a side are supported',
    );
    expect(() => convolution(ctx, x, { kernel: three }, { residual: x })).toThrow(
      'a convolution gives [1, 4, 4, 8], to which [1, 4, 4, 6] cannot be added',
    );
    expect(() => groupnorm(ctx, x, { gain: eight, bias: eight }, { groups: 2, eps: 1 })).toThrow(
      'group norm of 6 channels by [8] and [8]',
    );
    expect(() => groupnorm(ctx, x, { gain: eight, bias: eight }, { groups: 4, eps: 1 })).toThrow('in 4 groups');
    expect(() => wideAttention(ctx, row, row, row, 1)).toThrow('one picture, all alike');
    const tape = createTape();
    tape.watch(x, own.tensor('dx', x.shape));
    ctx.tape = tape;
    const half = { ...three, dtype: 'f16' as const };
    expect(() => convolution(ctx, x, { kernel: half })).toThrow(UsageError);
    expect(() => convolution(ctx, x, { kernel: half })).toThrow("no gradient passes 'three', which is stored as f16");
  });
});
