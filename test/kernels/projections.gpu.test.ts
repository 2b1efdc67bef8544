/** Queries, keys and values in one product: to the bit what each layer gives by itself, however weights are stored and wherever they lie. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AdapterKind } from '../../engine/device.ts';
import { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import { copyInto } from '../../kernels/add.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { productCandidates } from '../../kernels/matmul/candidates.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { projections } from '../../kernels/matmul/projections.ts';
import { dense, denseRow } from '../../model/condition.ts';
import { blockDrafts, layoutOf, placed } from '../../model/params.ts';
import type { Precision } from '../../model/weights/quantize.ts';
import { Weights } from '../../model/weights/weights.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { emulatingMatrixUnits } from '../support/subgroup-matrix.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 300_000 });

let own: Engine;
beforeAll(async () => {
  own = await unoptimisedEngine();
});
afterAll(() => own.dispose());

const NAMES = ['DiTBlock_0/Dense_1', 'DiTBlock_0/Dense_2', 'DiTBlock_0/Dense_3'] as const;
/** More than a tile has, and no multiple of one. */
const [SAMPLES, TOKENS] = [2, 37];

/** A block's weights, with NaN in the gaps between them where they are floats. */
function blockWeights(engine: Engine, width: number, precision: Precision): Weights {
  const layout = layoutOf([placed('block0', blockDrafts(0, { width, mlpRatio: 1 }))]);
  const [group] = layout.groups;
  const weights = new Weights(engine, layout, 'test', { precision });
  if (precision === 'f32')
    engine.write(weights.partsOf(0)[0]!, new Float32Array(weights.bytesOf(0) / 4).fill(Number.NaN));
  const normal = normals(3);
  const values = new Float32Array(group!.length);
  for (const { offset, size } of group!.specs) for (let i = 0; i < size; i++) values[offset + i] = normal();
  weights.place(0, values);
  return weights;
}

async function agrees(engine: Engine, weights: Weights, stored: 'f32' | 'f16', tuned?: string) {
  const width = weights.get(`${NAMES[0]}/bias`).shape[0] as number;
  const normal = normals(5);
  const data = Float32Array.from({ length: SAMPLES * TOKENS * width }, normal);
  const given = engine.tensor('x', [SAMPLES, TOKENS, width], { data });
  engine.tuning = tuningBy(() => tuned);
  const { recording, result } = record(engine, 'projections', (ctx, keep) => {
    const x = copyInto(ctx, given, ctx.empty('stored', given.shape, stored));
    const alone = NAMES.map((name) => linear(ctx, x, dense(weights, name)));
    return [...projections(ctx, x, denseRow(weights, NAMES)!), ...alone].map((y) => {
      const floats = copyInto(ctx, y, ctx.empty('out', y.shape));
      keep(floats);
      return floats;
    });
  });
  engine.tuning = undefined;
  const program = await Program.compile(engine, recording);
  program.run();
  const values = (await program.read(...result)) as Float32Array[];
  program.dispose();
  engine.release(given);
  NAMES.forEach((name, i) => {
    const together = values[i]!;
    expect(together.every(Number.isFinite), `${name}: a gap was read`).toBe(true);
    expect(together.some((v) => v !== 0)).toBe(true);
    expect(bits(together) === bits(values[3 + i]!), `${name}, ${tuned ?? 'as usual'}`).toBe(true);
  });
  expect(new Set(values.map(bits)).size).toBe(3);
}

describe.each(['f32', 'f16', 'int8'] as const)('weights in %s', (precision) => {
  // 64 leaves no gap between biases; 13 is no multiple of four.
  it.each([36, 64, 13])('of width %i', async (width) => {
    const weights = blockWeights(own, width, precision);
    await agrees(own, weights, 'f32');
    if (width % 4 === 0 && precision === 'f16') await agrees(own, weights, 'f16');
    weights.release();
  });
});

it('by every make of variant, those of GPUs too', async () => {
  const tried: string[] = [];
  for (const kind of new Set<AdapterKind>([own.adapterClass, 'gpu'])) {
    const engine = new Engine(own.device, kind, { ownsDevice: false });
    const weights = blockWeights(engine, 36, 'f32');
    const shape = { layout: 'NN', vec: true, weights: 'f32', activations: 'f32', rows: 'many', n: 36, k: 36 } as const;
    const makes = new Map(productCandidates.candidates(engine, shape).map((v) => [v.kernel.name, v.id]));
    tried.push(...makes.keys());
    for (const id of makes.values()) await agrees(engine, weights, 'f32', id);
    weights.release();
    engine.dispose();
  }
  if (own.adapterClass !== 'gpu') expect(tried).toContain('matmul.register');
  expect(tried).toContain('matmul.tile');
});

it('by matrix units, emulated', async () => {
  const device = emulatingMatrixUnits(own.device, [{ M: 8, N: 8, K: 8 }]);
  const engine = new Engine(device, 'gpu', { ownsDevice: false });
  const weights = blockWeights(engine, 36, 'f16');
  await agrees(engine, weights, 'f16', 'units-8x8x8-2x2');
  weights.release();
  engine.dispose();
});

it('is only for weights that lie in a row, and for inference', () => {
  const weights = blockWeights(own, 36, 'f32');
  expect(denseRow(weights, [NAMES[0], NAMES[2], NAMES[1]])).toBeNull();
  expect(denseRow(weights, [NAMES[0], NAMES[1], 'DiTBlock_0/Dense_4'])).toBeNull();
  const row = denseRow(weights, NAMES)!;
  record(own, 'refused', (ctx) => {
    const x = ctx.empty('x', [1, 2, 36]);
    expect(() => projections(ctx, ctx.empty('x', [1, 2, 40]), row)).toThrow(/cannot take \[1, 2, 40\]/);
    const tape = createTape();
    tape.watch(x, ctx.empty('dx', x.shape));
    ctx.tape = tape;
    expect(() => projections(ctx, x, row)).toThrow(/no gradient passes/);
    ctx.tape = null;
  });
  weights.release();
});
