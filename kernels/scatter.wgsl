// Rows written back by index, behind gather.wgsl.

// rows_out[indices[i]] = rows_in[i].
@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.count * params.width); i += WG) {
    let row = indices[i / params.width];
    if (row < params.rows) { rows_out[row * params.width + i % params.width] = rows_in[i]; }
  }
}
