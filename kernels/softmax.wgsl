// Softmax of each row: y = exp(scale (x - max)) / sum of that. LANES invocations of a workgroup share a row.

override WG: u32 = 64;
/// Invocations per row, a power of two that divides WG.
override LANES: u32 = 1;
/// Rows as vectors of four.
override VEC: u32 = 1;

struct Params {
  rows: u32,
  width: u32,
  scale: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

//#if VEC == 1
alias Value = vec4f;
const EACH = 4u;
//#else
alias Value = f32;
const EACH = 1u;
//#endif

@group(0) @binding(0) var<storage, read> x: array<Value>;       // [rows, width]
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

const LOWEST = -3.0e38;

fn total(v: Value) -> f32 {
//#if VEC == 1
  return v.x + v.y + v.z + v.w;
//#else
  return v;
//#endif
}

fn largest(v: Value) -> f32 {
//#if VEC == 1
  return max(max(v.x, v.y), max(v.z, v.w));
//#else
  return v;
//#endif
}

//#if LANES > 1
var<workgroup> values: array<f32, WG>;

fn largest_of_row(value: f32, local: u32) -> f32 {
  values[local] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local % LANES < half) { values[local] = max(values[local], values[local + half]); }
  }
  workgroupBarrier();
  let found = values[local - local % LANES];
  workgroupBarrier();
  return found;
}

fn sum_of_row(value: f32, local: u32) -> f32 {
  values[local] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local % LANES < half) { values[local] += values[local + half]; }
  }
  workgroupBarrier();
  return values[local - local % LANES];
}
//#else
fn largest_of_row(value: f32, local: u32) -> f32 { return value; }
fn sum_of_row(value: f32, local: u32) -> f32 { return value; }
//#endif

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, 0u, 1u) * (WG / LANES) + lid / LANES;
  // Those past the last row have nothing to do, but meet the others at barriers.
  let count = select(0u, params.width / EACH, row < params.rows);
  let base = row * count;
  var top = LOWEST;
  for (var i = lid % LANES; i < count; i += LANES) { top = max(top, largest(x[base + i])); }
  top = largest_of_row(top, lid);
  // Computed once and kept in y: a compiler need not give the same bits when the same is computed twice.
  var sum = 0.0;
  for (var i = lid % LANES; i < count; i += LANES) {
    let weight = exp(params.scale * (x[base + i] - top));
    y[base + i] = weight;
    sum += total(weight);
  }
  let factor = 1.0 / sum_of_row(sum, lid);
  for (var i = lid % LANES; i < count; i += LANES) { y[base + i] *= factor; }
}

@group(0) @binding(2) var<storage, read> weights: array<Value>; // what `forward` gave
@group(0) @binding(3) var<storage, read> dy: array<Value>;
@group(0) @binding(4) var<storage, read_write> dx: array<Value>;

/// dx = scale w (dy - sum of w dy).
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, 0u, 1u) * (WG / LANES) + lid / LANES;
  let count = select(0u, params.width / EACH, row < params.rows);
  let base = row * count;
  var along = 0.0;
  for (var i = lid % LANES; i < count; i += LANES) { along += total(weights[base + i] * dy[base + i]); }
  let mean = sum_of_row(along, lid);
  for (var i = lid % LANES; i < count; i += LANES) { dx[base + i] = params.scale * weights[base + i] * (dy[base + i] - mean); }
}
