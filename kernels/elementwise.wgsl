// Elementwise operations.

override WG: u32 = 64;
/// Elements per invocation, WG apart: on CPU drivers starting a workgroup costs more than its work.
override EACH: u32 = 8;

struct Params {
  size: u32,      // elements of the output
  a_size: u32,    // elements of a; missing ones count as zero
  b_size: u32,
  width: u32,     // rows of b are `width` long, `b_stride` apart, the first at `b_offset`
  b_offset: u32,
  b_stride: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn silu_forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = silu(a[i]);
  }
}

@compute @workgroup_size(WG)
fn silu_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = b[i] * silu_slope(a[i]);
  }
}

@compute @workgroup_size(WG)
fn gelu_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = b[i] * gelu_slope(a[i]);
  }
}

@compute @workgroup_size(WG)
fn multiply(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = a[i] * b[i / params.width * params.b_stride + params.b_offset + i % params.width];
  }
}

// Sum of two tensors of which either may have fewer rows than the output.
@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var sum = 0.0;
    if (i < params.a_size) { sum = a[i]; }
    if (i < params.b_size) { sum += b[i]; }
    out[i] = sum;
  }
}

// Copies, and fills the missing rows with zeros.
@compute @workgroup_size(WG)
fn pad(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var value = 0.0;
    if (i < params.a_size) { value = a[i]; }
    out[i] = value;
  }
}

// Adds b to every run of b_size elements of a.
@compute @workgroup_size(WG)
fn add_each(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = a[i] + b[i % params.b_size];
  }
}
