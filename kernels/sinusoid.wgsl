// Sinusoidal features: out[b, i] = cos(scale values[b] f_i), out[b, HALF + i] = sin(scale values[b] f_i), f_i = 10000^(-i / HALF).
// One invocation per (sample, frequency).

override WG: u32 = 64;
override HALF: u32 = 128;

const LN_10000 = 9.210340371976184;

struct Params { rows: u32, scale: f32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> values: array<f32>;  // [rows]
@group(0) @binding(1) var<storage, read_write> features: array<f32>;  // [rows, 2 HALF]

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let id = linear_id(wid, groups, lid, WG);
  if (id >= params.rows * HALF) { return; }
  let b = id / HALF;
  let i = id % HALF;
  let angle = params.scale * values[b] * exp(-LN_10000 * f32(i) / f32(HALF));
  // To within pi/4 of a multiple of pi/2, which is subtracted in three exact pieces.
  let q = round(angle * 0.63661977);
  let rest = ((angle - q * 1.5703125) - q * 4.837512969970703e-4) - q * 7.549789954891882e-8;
  let cs = precise_cos_sin(rest, i32(q));
  features[b * 2u * HALF + i] = cs.x;
  features[b * 2u * HALF + HALF + i] = cs.y;
}
