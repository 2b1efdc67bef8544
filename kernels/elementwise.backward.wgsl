// A gradient times the slopes of a function.

override WG: u32 = 64;
override EACH: u32 = 8;

struct Params { size: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;  // what the function was taken of; of ReLU its result
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

fn silu_slope(x: f32) -> f32 {
  let s = sigmoid(x);
  return s * (1.0 + x * (1.0 - s));
}

fn gelu_slope(x: f32) -> f32 {
  let t = safe_tanh(GELU_A * (x + GELU_B * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_A * (1.0 + 3.0 * GELU_B * x * x);
}

@compute @workgroup_size(WG)
fn silu_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    dx[i] = dy[i] * silu_slope(x[i]);
  }
}

@compute @workgroup_size(WG)
fn gelu_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    dx[i] = dy[i] * gelu_slope(x[i]);
  }
}

@compute @workgroup_size(WG)
fn relu_backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    dx[i] = select(0.0, dy[i], x[i] > 0.0);
  }
}
