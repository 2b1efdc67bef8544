// Rows of a table by index. Rows are moved as bit patterns, so any 32-bit type passes unchanged; halves become f32.

override WG: u32 = 64;
override EACH: u32 = 8;  // elements of one invocation, WG apart: CPU drivers pay for every workgroup

override HALF: u32 = 0;  // gather: 1 when the table holds f16, two to a word

struct Params {
  count: u32,  // indices
  rows: u32,   // rows of the table
  width: u32,  // elements in a row
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> indices: array<u32>;  // [count]
@group(0) @binding(1) var<storage, read> rows_in: array<u32>;
@group(0) @binding(2) var<storage, read_write> rows_out: array<u32>;

// rows_out[i] = rows_in[indices[i]].
@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.count * params.width); i += WG) {
    let at = indices[i / params.width] * params.width + i % params.width;
//#if HALF == 1
    rows_out[i] = bitcast<u32>(unpack2x16float(rows_in[at / 2u])[at % 2u]);
//#else
    rows_out[i] = rows_in[at];
//#endif
  }
}
