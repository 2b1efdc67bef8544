/**
 * A kernel of your own with its backward, and the contract that it is held to:
 *   odelt bench kernels --contracts examples/square.mjs
 */
import { ceilDiv, defineKernel, sizeOf, wgslLib } from 'odelt';
import { contract } from 'odelt/bench';

const kernel = defineKernel(
  'square',
  wgslLib,
  /* wgsl */ `
struct Params { size: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, 64u);
  if (i < params.size) { y[i] = x[i] * x[i]; }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, 64u);
  if (i < params.size) { dx[i] = 2.0 * x[i] * dy[i]; }
}`,
);

/** x * x, of any shape. */
export function square(ctx, x) {
  const y = ctx.empty('square', x.shape);
  const [params, grid] = [{ size: sizeOf(x) }, ceilDiv(sizeOf(x), 64)];
  ctx.dispatch({ kernel, entry: 'forward', tensors: { x, y }, params, grid });
  ctx.tape?.add({
    name: 'square',
    inputs: [x],
    outputs: [y],
    backward: (g) =>
      ctx.dispatch({ kernel, entry: 'backward', tensors: { x, dy: g.dy(0), dx: g.out(0) }, params, grid }),
  });
  return y;
}

export const squareContract = contract({
  name: 'square',
  cases: [{ size: 1 }, { size: 63 }, { size: 4099 }],
  inputs: ({ size }) => ({ x: { shape: [size] } }),
  run: (ctx, { x }) => ({ y: square(ctx, x) }),
  reference: ({ x }) => ({ y: x.map((v) => v * v) }),
  differentiable: ['x'],
  reduction: () => 1,
  bench: {
    cases: [{ size: 1 << 20 }],
    // Reads x and writes y; backward reads x and dy and writes dx. Four bytes each.
    cost: ({ size }) => ({ flops: size, bytes: 8 * size, backward: { flops: 2 * size, bytes: 12 * size } }),
  },
});
