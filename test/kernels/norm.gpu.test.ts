/** Layer norm and sums over tokens in all their variants, on whatever adapter there is: values, and the same bits in every batch. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import type { Tensor } from '../../engine/tensor.ts';
import type { ShapeClass } from '../../engine/tuning.ts';
import { tuningBy } from '../../kernels/candidates.ts';
import { checkCase, worstElement } from '../../kernels/check.ts';
import { chunk } from '../../kernels/chunk.ts';
import { type Candidates, choose } from '../../kernels/family.ts';
import { layernormHalfContract } from '../../kernels/half-activations.contracts.ts';
import { gatedLinearContract, gatedResidualContract } from '../../kernels/matmul/linear.contract.ts';
import { normCandidates } from '../../kernels/norm/candidates.ts';
import { layernormContract } from '../../kernels/norm/layernorm.contract.ts';
import { layernorm } from '../../kernels/norm/layernorm.ts';
import { type NormShape, norms } from '../../kernels/norm/variants.ts';
import { columnSumContract, countNonFiniteContract, globalNormContract } from '../../kernels/reduce.contract.ts';
import { type TokenSumShape, tokenSumCandidates, tokenSums } from '../../kernels/token-sums.ts';
import { testEngine } from '../support/engine.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 900_000 });

let own: Engine;
let engine: Engine;
beforeAll(async () => {
  own = await testEngine();
  engine = new Engine(own.device, own.adapterClass, { ownsDevice: false });
});
afterAll(() => {
  engine.dispose();
  own.dispose();
});

/** Makes the engine take the variant `id` of a family wherever it is one; returns how often it was taken. */
function force<S extends ShapeClass>({ family, candidates }: Candidates<S>, id: string): () => number {
  let taken = 0;
  engine.tuning = tuningBy((name, shape) => {
    if (name !== family.name || !candidates(engine, shape as S).some((v) => v.id === id)) return undefined;
    taken++;
    return id;
  });
  return () => taken;
}

/** Layer norm of x, modulated by the shifts and then the scales of each row. */
const normed = (x: Tensor, modulation: Tensor): Promise<Float32Array> =>
  eager(engine, async (ctx) => {
    const [shift, scale] = chunk(ctx, modulation, 2) as [Tensor, Tensor];
    return engine.read(layernorm(ctx, x, shift, scale));
  });

const NORMS = ['invocation', 'workgroup-32', 'workgroup-128', 'subgroup'];
const TOKEN_SUMS = ['64x1', '32x8', '16x16', 'vec-16x1', 'vec-16x16'];
const norm: NormShape = { width: 64, vec: true, activations: 'f32' };
const tokenSum: TokenSumShape = { width: 64, vec: true, tokens: 9 };

it('the variants tested here are all there are', () => {
  const known = own.device.features.has('subgroups') ? NORMS : NORMS.slice(0, -1);
  expect(normCandidates.candidates(own, norm).map((v) => v.id)).toEqual(known);
  expect(tokenSumCandidates.candidates(own, tokenSum).map((v) => v.id)).toEqual(TOKEN_SUMS);
});

it('GPUs share a row and a channel among invocations, wide rows among more; CPU drivers share neither', () => {
  for (const kind of ['gpu', 'software'] as const) {
    const other = new Engine(own.device, kind, { ownsDevice: false });
    const chosen = [norm, { ...norm, width: 1540 }].map((shape) => choose(other, norms, shape).id);
    expect(chosen).toEqual(kind === 'gpu' ? ['workgroup-32', 'workgroup-128'] : ['invocation', 'invocation']);
    expect(choose(other, tokenSums, tokenSum).id).toBe(kind === 'gpu' ? '32x8' : 'vec-16x1');
    expect(choose(other, tokenSums, { ...tokenSum, tokens: 0 }).id).toBe(kind === 'gpu' ? '16x16' : 'vec-16x1');
    other.dispose();
  }
});

describe.each(NORMS)('norm as %s', (id) => {
  it.each([layernormContract, layernormHalfContract])('$name agrees with float64', async (contract) => {
    if (id === 'subgroup' && !own.device.features.has('subgroups')) return;
    const taken = force(normCandidates, id);
    for (const k of contract.cases) await checkCase(engine, contract, k);
    expect(taken()).toBeGreaterThan(0);
  });

  it('loses no more where rows lie a thousand deviations from zero, or begin with a value that does, than their numbers do', async () => {
    if (id === 'subgroup' && !own.device.features.has('subgroups')) return;
    force(normCandidates, id);
    for (const away of [(_: number) => 1000, (c: number) => (c === 0 ? 1000 : 0)]) {
      const [rows, width] = [9, 96];
      const data = Float32Array.from({ length: rows * width }, (_, i) => away(i % width) + Math.sin(i * i));
      const x = engine.tensor('x', [1, rows, width], { data });
      const modulation = engine.tensor('modulation', [1, 2 * width], { data: new Float32Array(2 * width) });
      const y = await normed(x, modulation);
      const arrays = { x: Float64Array.from(data), modulation: new Float64Array(2 * width) };
      const { y: want } = layernormContract.reference(arrays, { batch: 1, tokens: rows, width });
      // Half the distance of floats near 1000 is 3e-5, which a mean and a difference from it may each be off by.
      expect(worstElement(y, want!).error).toBeLessThan(2 * 2 ** -15);
    }
  });

  it('gives a sample the same bits in every batch', async () => {
    if (id === 'subgroup' && !own.device.features.has('subgroups')) return;
    force(normCandidates, id);
    const [tokens, width] = [17, 24];
    const seen = new Set<string>();
    for (const batch of [1, 3, 70]) {
      const data = (columns: number) =>
        Float32Array.from({ length: batch * columns }, (_, i) => Math.sin((i + (70 - batch) * columns) * 1.7));
      const x = engine.tensor('x', [batch, tokens, width], { data: data(tokens * width) });
      const modulation = engine.tensor('modulation', [batch, 2 * width], { data: data(2 * width) });
      const y = await normed(x, modulation);
      expect(y.every(Number.isFinite)).toBe(true);
      seen.add(bits(y.subarray((batch - 1) * tokens * width)));
    }
    expect(seen.size).toBe(1);
  });
});

describe('where subgroups are of several widths', () => {
  /** The device, saying that they are. */
  const wavering = (features: (has: string) => boolean) => {
    const device = new Proxy(own.device, {
      get(of, name) {
        if (name === 'adapterInfo') return { ...NO_INFO, subgroupMinSize: 4, subgroupMaxSize: 8 };
        if (name === 'features') return { has: features };
        const value: unknown = Reflect.get(of, name);
        return typeof value === 'function' ? value.bind(of) : value;
      },
    });
    return new Engine(device, own.adapterClass, { ownsDevice: false });
  };
  const NO_INFO = { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: false };

  it('no subgroup takes a row unless a width can be asked for: sums would follow what the driver takes', () => {
    const ids = (features: readonly string[]) =>
      normCandidates
        .candidates(
          wavering((name) => features.includes(name)),
          norm,
        )
        .map((v) => v.id);
    expect(ids(['subgroups'])).toEqual(NORMS.slice(0, -1));
    expect(ids(['subgroups', 'subgroup-size-control'])).toEqual(NORMS);
  });

  it('kernels with a width asked for compute right, forward and backward', async () => {
    if (!(own.device.features as ReadonlySet<string>).has('subgroup-size-control')) return;
    const [lanes] = [own.device.adapterInfo.subgroupMaxSize];
    for (const c of [layernormContract, layernormHalfContract]) {
      const taken: unknown[] = [];
      engine.tuning = {
        variant(_, family, shape) {
          if (family !== 'norm') return undefined;
          const all = normCandidates.candidates(
            wavering(() => true),
            shape as NormShape,
          );
          const { constants, ...rest } = all.find(({ id }) => id === 'subgroup')!;
          expect(constants.PINNED).toBe(8);
          taken.push(rest);
          return { ...rest, constants: { ...constants, PINNED: lanes, KEEP: 0 } };
        },
      };
      for (const k of c.cases) await checkCase(engine, c, k);
      expect(taken.length).toBeGreaterThan(0);
    }
  });
});

describe.each(TOKEN_SUMS)('sums over tokens as %s', (id) => {
  it.each([layernormContract, gatedLinearContract, gatedResidualContract, columnSumContract])(
    '$name agrees with float64',
    async (c) => {
      const taken = force(tokenSumCandidates, id);
      for (const k of c.cases) await checkCase(engine, c, k);
      expect(taken()).toBeGreaterThan(0);
    },
  );
});

describe('sums over everything', () => {
  it.each([globalNormContract, countNonFiniteContract])('$name agrees with float64 as GPUs make it', async (c) => {
    const gpu = new Engine(own.device, 'gpu', { ownsDevice: false });
    for (const k of c.cases) await checkCase(gpu, c, k);
    gpu.dispose();
  });
});
