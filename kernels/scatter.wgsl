// Rows written back by index, as bit patterns.

override WG: u32 = 64;
override EACH: u32 = 8;  // as in gather.wgsl

struct Params {
  count: u32,  // indices
  rows: u32,   // rows of the result
  width: u32,  // elements in a row
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> indices: array<u32>;  // [count]
@group(0) @binding(1) var<storage, read> rows_in: array<u32>;
@group(0) @binding(2) var<storage, read_write> rows_out: array<u32>;

// rows_out[indices[i]] = rows_in[i].
@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.count * params.width); i += WG) {
    let row = indices[i / params.width];
    if (row < params.rows) { rows_out[row * params.width + i % params.width] = rows_in[i]; }
  }
}
