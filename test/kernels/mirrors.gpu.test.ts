/**
 * Kernels that read mirrors (lavapipe's) give the same bits as without, forward and backward; and an engine that is to have none has none.
 * Runs wherever lavapipe's kernels do: on devices with subgroups of eight lanes.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eager } from '../../engine/eager.ts';
import { Engine } from '../../engine/engine.ts';
import { record } from '../../engine/program.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { inFloats, uploadCase } from '../../kernels/check.ts';
import type { Contract } from '../../kernels/contract.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { caseInputs } from '../../kernels/expected.ts';
import { contracts } from '../../kernels/registry.ts';
import { unoptimisedEngine } from '../support/engine.ts';
import { bits } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 600_000 });

let own: Engine;
let engine: Engine | null = null;
beforeAll(async () => {
  own = await unoptimisedEngine();
  const { features, adapterInfo } = own.device;
  if (!features.has('subgroups') || (adapterInfo.subgroupMinSize ?? 0) < 8) return;
  engine = new Engine(own.device, 'lavapipe', { ownsDevice: false });
});
afterAll(() => {
  engine?.dispose();
  own.dispose();
});

/** Outputs of a case and the gradients of their sum, by name, as bits; and the bindings that were mirrored. */
async function computed(on: Engine, c: Contract, k: object, mirrors: Engine['mirrors']) {
  on.mirrors = mirrors;
  const inputs = uploadCase(on, c, k, caseInputs(c, k));
  const gradients = Object.fromEntries(
    c.differentiable.map((name) => [`d(${name})`, on.tensor(`d(${name})`, inputs[name]!.shape)]),
  );
  const found: Record<string, string> = {};
  const mirrored = new Set<string>();
  const body = (ctx: Parameters<Contract['run']>[0]): Record<string, Tensor> => {
    const tape = c.differentiable.length > 0 ? createTape() : null;
    for (const name of c.differentiable) tape?.watch(inputs[name]!, gradients[`d(${name})`]!);
    ctx.tape = tape;
    const outputs = c.run(ctx, inputs, k);
    const seeds = Object.values(outputs).map((y) => [y, y] as const);
    tape?.backward(ctx, seeds);
    return inFloats(ctx, outputs);
  };
  for (const { entry, bindings } of record(on, c.name, body).recording.nodes)
    for (const b of bindings) if (b.mirror) mirrored.add(`${entry.name} ${b.name} ${b.mirror.format}`);
  await eager(on, async (ctx) => {
    const outputs = body(ctx);
    for (const [name, t] of Object.entries({ ...outputs, ...gradients })) found[name] = bits(await on.read(t));
  });
  for (const t of [...Object.values(inputs), ...Object.values(gradients)]) on.release(t);
  return { found, mirrored: [...mirrored].sort() };
}

const F32 = 'rgba32float';
const PRODUCT = [`matmul a ${F32}`, `matmul b ${F32}`];
const expected: Readonly<Record<string, readonly string[]>> = {
  linear: PRODUCT,
  linearHalf: [`matmul a ${F32}`, 'matmul b rgba16float'],
  linearHalfF16: ['matmul a rgba16float', 'matmul b rgba16float'],
  linearInt8: [`matmul a ${F32}`, 'matmul b rgba8sint'],
  attention: [
    ...[`backward_kv dout ${F32}`, `backward_kv q ${F32}`, `backward_q k ${F32}`, `backward_q v ${F32}`],
    ...[`forward k ${F32}`, `forward v ${F32}`],
  ],
  convolution: [`convolve w ${F32}`, `convolve x ${F32}`, ...PRODUCT],
  convolutionHalf: ['convolve w rgba16float', `convolve x ${F32}`],
};

describe('with and without mirrors', () => {
  for (const [name, mirrors] of Object.entries(expected)) {
    const c = contracts.find((each) => each.name === name)!;
    it(name, async (test) => {
      if (!engine) return test.skip('subgroups of eight lanes are needed');
      const seen = new Set<string>();
      // Large heads take longest to compile.
      for (const k of c.cases.filter((one) => !('head' in one && Number(one.head) > 24))) {
        const [on, off] = [await computed(engine, c, k, 'always'), await computed(engine, c, k, false)];
        expect(off.mirrored, JSON.stringify(k)).toEqual([]);
        expect(Object.keys(on.found).length).toBeGreaterThan(0);
        expect(on.found, JSON.stringify(k)).toEqual(off.found);
        for (const each of on.mirrored) seen.add(each);
      }
      expect([...seen].sort()).toEqual(mirrors);
      engine.mirrors = true;
    });
  }
});
