// Sums in a fixed order, level by level: no atomics, so equal inputs give equal bits.

override WG: u32 = 64;
override TERMS: u32 = 256;  // most that one invocation adds

struct Params {
  count: u32,    // elements
  results: u32,  // sums to make
  first: u32,    // where they go in y
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x_bits: array<u32>;
@group(0) @binding(3) var<storage, read_write> y_bits: array<u32>;

// Result j takes the elements j, j + results, j + 2 results, ...

@compute @workgroup_size(WG)
fn sum(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let j = linear_id(wid, groups, lid, WG);
  if (j >= params.results) { return; }
  var total = 0.0;
  for (var i = j; i < params.count; i += params.results) { total += x[i]; }
  y[params.first + j] = total;
}

@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let j = linear_id(wid, groups, lid, WG);
  if (j >= params.results) { return; }
  var total = 0.0;
  for (var i = j; i < params.count; i += params.results) { total += x[i] * x[i]; }
  y[params.first + j] = total;
}

@compute @workgroup_size(WG)
fn sum_bits(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let j = linear_id(wid, groups, lid, WG);
  if (j >= params.results) { return; }
  var total = 0u;
  for (var i = j; i < params.count; i += params.results) { total += x_bits[i]; }
  y_bits[params.first + j] = total;
}

// Counts infinities and NaNs by their exponent bits: WGSL lets a compiler assume that floats are finite.
@compute @workgroup_size(WG)
fn non_finite(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let j = linear_id(wid, groups, lid, WG);
  if (j >= params.results) { return; }
  var total = 0u;
  for (var i = j; i < params.count; i += params.results) {
    total += select(0u, 1u, (x_bits[i] & 0x7f800000u) == 0x7f800000u);
  }
  y_bits[params.first + j] = total;
}

@compute @workgroup_size(1)
fn root() {
  y[0] = sqrt(x[0]);
}
