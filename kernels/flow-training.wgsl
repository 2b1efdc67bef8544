// Elementwise steps of flow matching, behind flow.wgsl.

override SIGN: f32 = 1.0;

@group(0) @binding(4) var<storage, read_write> velocity: array<f32>;

// result = (1 - k t) a + t b;  velocity = its derivative by t = b - k a.
@compute @workgroup_size(WG)
fn interpolate(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    let time = t[i / params.row];
    result[i] = (1.0 - params.k * time) * a[i] + time * b[i];
    velocity[i] = b[i] - params.k * a[i];
  }
}

// result = a + t b, held within [-k, k].
@compute @workgroup_size(WG)
fn advance_within(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    result[i] = clamp(a[i] + t[i / params.row] * b[i], -params.k, params.k);
  }
}

// result = a + t (b - a).
@compute @workgroup_size(WG)
fn mix_each(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    result[i] = a[i] + t[i / params.row] * (b[i] - a[i]);
  }
}

// Of toward, whose result's gradient is a: result = SIGN a / max(1 - t, k), the gradient of b (SIGN 1) or of a (SIGN -1).
@compute @workgroup_size(WG)
fn toward_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    result[i] = SIGN * a[i] / max(1.0 - t[i / params.row], params.k);
  }
}
