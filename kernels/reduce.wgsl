// Sums in a fixed order, level by level: no atomics, so equal inputs give equal bits.

override WG: u32 = 64;
/// Invocations that share one sum: 1, or all WG of a workgroup, which add their parts as a tree.
override TEAM: u32 = 1;

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

// Invocation i of all takes the elements i, i + invocations, i + 2 invocations, ..., where TEAM invocations make a result.

//#if TEAM > 1
var<workgroup> parts: array<u32, TEAM>; // the bits of floats where floats are summed

fn team_total(part: f32, lid: u32) -> f32 {
  parts[lid] = bitcast<u32>(part);
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half /= 2u) {
    if (lid < half) { parts[lid] = bitcast<u32>(bitcast<f32>(parts[lid]) + bitcast<f32>(parts[lid + half])); }
    workgroupBarrier();
  }
  return bitcast<f32>(parts[0]);
}

fn team_count(part: u32, lid: u32) -> u32 {
  parts[lid] = part;
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half /= 2u) {
    if (lid < half) { parts[lid] += parts[lid + half]; }
    workgroupBarrier();
  }
  return parts[0];
}
//#else
fn team_total(part: f32, lid: u32) -> f32 { return part; }
fn team_count(part: u32, lid: u32) -> u32 { return part; }
//#endif

/// Whether this invocation is to store a sum: the first of its team, of a team that there is a sum for.
fn stores(i: u32) -> bool { return i % TEAM == 0u && i / TEAM < params.results; }

@compute @workgroup_size(WG)
fn sum(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, lid, WG);
  var part = 0.0;
  if (first / TEAM < params.results) {
    for (var i = first; i < params.count; i += params.results * TEAM) { part += x[i]; }
  }
  let total = team_total(part, lid);
  if (stores(first)) { y[params.first + first / TEAM] = total; }
}

@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, lid, WG);
  var part = 0.0;
  if (first / TEAM < params.results) {
    for (var i = first; i < params.count; i += params.results * TEAM) { part += x[i] * x[i]; }
  }
  let total = team_total(part, lid);
  if (stores(first)) { y[params.first + first / TEAM] = total; }
}

@compute @workgroup_size(WG)
fn sum_bits(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, lid, WG);
  var part = 0u;
  if (first / TEAM < params.results) {
    for (var i = first; i < params.count; i += params.results * TEAM) { part += x_bits[i]; }
  }
  let total = team_count(part, lid);
  if (stores(first)) { y_bits[params.first + first / TEAM] = total; }
}

// Counts infinities and NaNs by their exponent bits: WGSL lets a compiler assume that floats are finite.
@compute @workgroup_size(WG)
fn non_finite(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, lid, WG);
  var part = 0u;
  if (first / TEAM < params.results) {
    for (var i = first; i < params.count; i += params.results * TEAM) {
      part += select(0u, 1u, (x_bits[i] & 0x7f800000u) == 0x7f800000u);
    }
  }
  let total = team_count(part, lid);
  if (stores(first)) { y_bits[params.first + first / TEAM] = total; }
}

@compute @workgroup_size(1)
fn root() {
  y[0] = sqrt(x[0]);
}
