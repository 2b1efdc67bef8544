// Elementwise operations of one tensor.

override WG: u32 = 64;
/// Elements per invocation, WG apart: on CPU drivers starting a workgroup costs more than its work.
override EACH: u32 = 8;

struct Params { size: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn silu_forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    y[i] = silu(x[i]);
  }
}
