// Elementwise steps of sampling; flow-training.wgsl has those of training. Sample b owns `row` of the elements.

override WG: u32 = 64;
override EACH: u32 = 8;  // elements of one invocation, WG apart: CPU drivers pay for every workgroup

struct Params {
  size: u32,
  row: u32,
  k: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<storage, read> t: array<f32>;  // one per sample

// result = a + k (b - a).
@compute @workgroup_size(WG)
fn mix_by(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[i] = a[i] + params.k * (b[i] - a[i]); }
}

// result += k a.
@compute @workgroup_size(WG)
fn advance(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[i] += params.k * a[i]; }
}

// result = a + t b.
@compute @workgroup_size(WG)
fn advance_each(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[i] = a[i] + t[i / params.row] * b[i]; }
}

// result = (b - a) / max(1 - t, k).
@compute @workgroup_size(WG)
fn toward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    result[i] = (b[i] - a[i]) / max(1.0 - t[i / params.row], params.k);
  }
}
