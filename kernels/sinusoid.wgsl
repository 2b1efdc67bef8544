// Sinusoidal features: out[b, i] = cos(scale values[b] f_i), out[b, HALF + i] = sin(scale values[b] f_i), f_i = 10000^(-i / HALF).
// One invocation per (sample, frequency).

override WG: u32 = 64;
override HALF: u32 = 128;

struct Params { rows: u32, scale: f32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> values: array<f32>;  // [rows]
@group(0) @binding(1) var<storage, read_write> features: array<f32>;  // [rows, 2 HALF]

/// 10000^-u for u in [0, 1), correctly rounded but for a quarter of a unit: exp() may be off by several, which angles of up to 1000 multiply.
/// By fma(), as compilers that may reassociate (Metal's do, unless told not to) would add what is kept apart to be exact.
fn frequency(u: f32) -> f32 {
  // log2(10000) = 13.28125 + 0.00646238, of which the first times u is exact.
  let n = round(u * 13.28125);
  let x = -0.69314718 * fma(u, 0.0064623795, fma(u, 13.28125, -n));
  let y = 1.0 + x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.0083333333 + x * (0.0013888889 + x * 1.9841270e-4))))));
  return bitcast<f32>(bitcast<u32>(y) - (u32(n) << 23u));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let id = linear_id(wid, groups, lid, WG);
  if (id >= params.rows * HALF) { return; }
  let b = id / HALF;
  let i = id % HALF;
  let angle = params.scale * values[b] * frequency(f32(i) / f32(HALF));
  // To within pi/4 of a multiple of pi/2, which is subtracted in three exact pieces.
  let q = round(angle * 0.63661977);
  let rest = fma(-q, 7.549789954891882e-8, fma(-q, 4.837512969970703e-4, fma(-q, 1.5703125, angle)));
  let cs = precise_cos_sin(rest, i32(q));
  features[b * 2u * HALF + i] = cs.x;
  features[b * 2u * HALF + HALF + i] = cs.y;
}
