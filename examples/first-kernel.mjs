/**
 * A kernel of your own in twenty lines: y = a x + y, recorded once and replayed with another `a` each time.
 *   npm run build && node examples/first-kernel.mjs
 */
import { ceilDiv, createEngine, defineKernel, Program, record, scalarInput, wgslLib } from 'odelt';

const saxpy = defineKernel(
  'saxpy',
  wgslLib,
  /* wgsl */ `
struct Params { size: u32, a: f32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn saxpy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, 64u);
  if (i < params.size) { y[i] += params.a * x[i]; }
}`,
);

const engine = await createEngine();
try {
  const size = 1000;
  const x = engine.tensor('x', [size], { data: Float32Array.from({ length: size }, (_, i) => i) });
  const y = engine.tensor('y', [size]);
  const a = scalarInput('a');
  const { recording } = record(engine, 'saxpy', (ctx) =>
    ctx.dispatch({
      kernel: saxpy,
      entry: 'saxpy',
      tensors: { x, y },
      params: { size, a },
      grid: ceilDiv(size, 64),
    }),
  );
  const program = await Program.compile(engine, recording);
  for (const value of [1, 10, 100]) program.run({ a: value });
  console.log(`y[3] = ${(await engine.read(y))[3]}`); // 3 * (1 + 10 + 100)
} finally {
  engine.dispose();
}
