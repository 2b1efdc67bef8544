// The gradient of gather (gather.wgsl, which comes before this): rows of dy added up by the row of the table that they came from.

@group(0) @binding(3) var<storage, read_write> links_out: array<u32>;  // [rows + count]

// Chains the indices that name the same row, in order: links[r] is the first i with indices[i] == r, links[rows + i] the
// next after i; `count` ends a chain. One invocation per row of the table.
@compute @workgroup_size(WG)
fn link(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, lid, WG);
  if (row >= params.rows) { return; }
  var end = row;
  for (var i = 0u; i < params.count; i++) {
    if (indices[i] == row) {
      links_out[end] = i;
      end = params.rows + i;
    }
  }
  links_out[end] = params.count;
}

@group(0) @binding(4) var<storage, read> links: array<u32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;  // [count, width]
@group(0) @binding(6) var<storage, read_write> dtable: array<f32>;  // [rows, width]

// dtable[r] = sum of dy[i] along the chain of r.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var at = first; at < min(first + WG * EACH, params.rows * params.width); at += WG) {
    var sum = 0.0;
    for (var i = links[at / params.width]; i < params.count; i = links[params.rows + i]) {
      sum += dy[i * params.width + at % params.width];
    }
    dtable[at] = sum;
  }
}
