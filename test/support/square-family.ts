/** A family of kernels for tests of tuning: squares and their gradients, by variants that are right, wrong in one element, or no WGSL. */
import type { Context } from '../../engine/context.ts';
import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import { ceilDiv } from '../../engine/scalar.ts';
import { sizeOf, type Tensor } from '../../engine/tensor.ts';
import type { ShapeClass } from '../../engine/tuning.ts';
import { contract } from '../../kernels/contract.ts';
import type { TunedFamily } from '../../kernels/families.ts';
import { choose, type Family, type Variant } from '../../kernels/family.ts';
import lib from '../../kernels/lib.wgsl';
import type { TuningProblem } from '../../tuning/problem.ts';

const source = (statement: string, other = ''): string => `
struct Params { size: u32, backward: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
${other}
@compute @workgroup_size(64)
fn square(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, 64u);
  if (i >= params.size) { return; }
  let slope = 2.0 * x[i] * dy[i];
  ${statement}
}
`;

const SOURCES: Readonly<Record<string, string>> = {
  plain: source('y[i] = select(x[i] * x[i], slope, params.backward > 0u);'),
  power: source('y[i] = select((x[i] + 1.0) * (x[i] - 1.0) + 1.0, slope, params.backward > 0u);'),
  'plain-too': source('y[i] = select(abs(x[i]) * abs(x[i]), slope, params.backward > 0u);'),
  slow: source(`
    var far = x[i];
    for (var j = 0u; j < 30000u; j++) { far = select(far, 0.5 * far + f32(j), far > 1e9); }
    y[i] = select(x[i] * x[i], slope, params.backward > 0u) + select(0.0, far, far > 1e9);`),
  'one-element-off': source('y[i] = select(x[i] * x[i] + select(0.0, 0.01, i == 17u), slope, params.backward > 0u);'),
  'late-element-off': source(
    'y[i] = select(x[i] * x[i] + select(0.0, 0.01, i == 3000u), slope, params.backward > 0u);',
  ),
  'gradient-off': source('y[i] = select(x[i] * x[i], select(slope, 0.5 * slope, i == 36u), params.backward > 0u);'),
  unwritten: source(
    'if (i != 40u || params.backward == 0u) { y[i] = select(x[i] * x[i], slope, params.backward > 0u); }',
  ),
  'no-wgsl': source('y[i] = x[i] * undeclared;'),
  'too-large': source('much[lid] = x[i]; y[i] = much[lid];', 'var<workgroup> much: array<f32, 1048576>;'),
};

const kernels: Readonly<Record<string, Kernel>> = Object.fromEntries(
  Object.entries(SOURCES).map(([id, text]) => [id, defineKernel(`square-${id}`, lib, text)]),
);

/** What exercises it. */
export interface SquareFamily {
  readonly tuned: TunedFamily;
  readonly problem: TuningProblem;
}

/** A family of these variants, the first of which is the reviewed one. */
export function squareFamily(ids: readonly string[], width = 24): SquareFamily {
  const variants: readonly Variant[] = ids.map((id) => ({ id }));
  const family: Family = { name: 'square', reviewed: () => variants[0]! };
  const shape: ShapeClass = { width };
  const launch = (ctx: Context, x: Tensor, dy: Tensor | null, y: Tensor): void => {
    const { id } = choose(ctx.engine, family, shape);
    const size = sizeOf(y);
    ctx.dispatch({
      kernel: kernels[id]!,
      entry: 'square',
      tensors: { x, dy: dy ?? x, y },
      params: { size, backward: dy ? 1 : 0 },
      grid: ceilDiv(size, 64),
    });
  };
  const c = contract<{ rows: number }>({
    name: 'square',
    cases: [{ rows: 3 }],
    inputs: ({ rows }) => ({ x: { shape: [rows, width] } }),
    run(ctx, { x }) {
      const y = ctx.empty('square', x!.shape);
      launch(ctx, x!, null, y);
      ctx.tape?.add({
        name: 'square',
        inputs: [x!],
        outputs: [y],
        backward: (g) => launch(ctx, x!, g.dy(0), g.out(0)),
      });
      return { y };
    },
    reference: ({ x }) => ({ y: x!.map((v) => v * v) }),
    differentiable: ['x'],
    reduction: () => 1,
  });
  return {
    tuned: {
      family,
      candidates: () => variants,
      trial: (_shape, { samples, tokens }) => ({ contract: c, case: { rows: samples * tokens } }),
    },
    problem: { family: 'square', shape, tokens: 8, uses: 1 },
  };
}
