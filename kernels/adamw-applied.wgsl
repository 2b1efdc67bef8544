// What an update by AdamW took from the parameters, worked out afterwards from what it left behind: no copy of them need be kept, and
// nothing is lost in subtracting two numbers that are nearly the same.

override WG: u32 = 64;
override EACH: u32 = 8;

struct Params {
  size: u32,
  lr: f32,
  correction1: f32,  // 1 - beta1^count
  correction2: f32,
  eps: f32,
  decay: f32,
  shrunk: f32,  // 1 - lr * decay: what was left of a parameter whose step was 0
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> m: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> taken: array<f32>;

@compute @workgroup_size(WG)
fn applied(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    let step = m[i] / params.correction1 / (sqrt(v[i] / params.correction2) + params.eps);
    taken[i] = params.lr * (step + params.decay * weights[i]) / params.shrunk;
  }
}
