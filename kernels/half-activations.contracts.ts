/** Contracts of operations over activations stored as f16: those of the f32 operations, with some inputs and all outputs in halves. */
import type { Context } from '../engine/context.ts';
import type { Tensor } from '../engine/tensor.ts';
import { addContract, addEachContract, copyInto } from './add.ts';
import { attentionContract } from './attention/attention.contract.ts';
import type { Contract, InputSpec } from './contract.ts';
import { gatedLinearContract } from './matmul/linear.contract.ts';
import { layernormContract } from './norm/layernorm.contract.ts';

const toHalves = (ctx: Context, x: Tensor): Tensor => copyInto(ctx, x, ctx.empty('halves', x.shape, 'f16'));

/** A value near `v` that a half holds exactly: at most 11 binary digits. */
const representable = (v: number): number => Math.max(-8, Math.min(8, Math.round(v * 256) / 256));

/** Half's rounding unit is 2^13 times float32's, and a result is rounded once or twice. */
export const HALF_SLACK = 512;

/** `base` with the inputs `halves` and all outputs in f16, at those sizes whose rows are whole vectors of `each`. */
/* @__NO_SIDE_EFFECTS__ */
function overHalves(base: Contract, halves: readonly string[], each = 4): Contract {
  const rounded = (spec: InputSpec): InputSpec => ({
    ...spec,
    fill: (i, normal) => representable(spec.fill ? spec.fill(i, normal) : normal()),
  });
  const whole = (c: object) => Object.values(base.inputs(c)).every(({ shape }) => shape.at(-1)! % each === 0);
  return {
    ...base,
    name: `${base.name}F16`,
    cases: base.cases.filter(whole),
    inputs: (c) =>
      Object.fromEntries(
        Object.entries(base.inputs(c)).map(([name, spec]) => [name, halves.includes(name) ? rounded(spec) : spec]),
      ),
    run(ctx, inputs, c) {
      const stored = Object.entries(inputs).map(([name, x]) => [name, halves.includes(name) ? toHalves(ctx, x) : x]);
      return base.run(ctx, Object.fromEntries(stored), c);
    },
    differentiable: [],
    slack: HALF_SLACK,
    bench: undefined,
  };
}

const common = (c: object) => 'head' in c && [4, 12, 24, 64].includes(Number(c.head));

/** Attention over f16: forward only. Halves change how rows are read, not the loops over heads: few sizes of heads will do. */
export const attentionHalfContract = overHalves(
  { ...attentionContract, cases: attentionContract.cases.filter(common) },
  ['q', 'k', 'v'],
);
export const layernormHalfContract = overHalves(layernormContract, ['x'], 2);

export const halfContracts: readonly Contract[] = [
  overHalves(addContract, ['a', 'b']),
  overHalves(addEachContract, ['x']),
  layernormHalfContract,
  attentionHalfContract,
  overHalves(gatedLinearContract, ['x', 'residual']),
];
