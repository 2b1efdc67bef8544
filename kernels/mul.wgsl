// Products, element by element.

override WG: u32 = 64;
override EACH: u32 = 8;

struct Params {
  size: u32,      // elements of the output
  width: u32,     // rows of b are `width` long, `b_stride` apart, the first at `b_offset`
  b_offset: u32,
  b_stride: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn multiply(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    out[i] = a[i] * b[i / params.width * params.b_stride + params.b_offset + i % params.width];
  }
}
