// AdamW (Loshchilov & Hutter 2019) and the moving average of the parameters in one pass, in place.

override WG: u32 = 64;
override CLIP: u32 = 0;  // 1: the gradient's norm is at most `most`
override EACH: u32 = 8;  // elements of one invocation, WG apart: CPU drivers pay for every workgroup

struct Params {
  size: u32,
  lr: f32,
  beta1: f32,
  rest1: f32,  // 1 - beta1, rounded once
  beta2: f32,
  rest2: f32,
  correction1: f32,  // 1 - beta1^count
  correction2: f32,
  eps: f32,
  decay: f32,
  ema_rest: f32,  // 1 - the average's decay
  gradient_scale: f32,
  most: f32,  // norm of the scaled gradient
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read_write> weights: array<f32>;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> ema: array<f32>;
//#if CLIP == 1
@group(0) @binding(5) var<storage, read> norm: array<f32>;  // of the gradient before it is scaled
//#endif

@compute @workgroup_size(WG)
fn update(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
//#if CLIP == 1
  // A norm that is no number must stay one: comparisons with it are false.
  let long = params.gradient_scale * norm[0];
  let clipped = select(params.most / norm[0], params.gradient_scale, long < params.most);
//#endif
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
//#if CLIP == 1
    let g = clipped * gradient[i];
//#else
    let g = params.gradient_scale * gradient[i];
//#endif
    let mean = params.beta1 * m[i] + params.rest1 * g;
    let square = params.beta2 * v[i] + params.rest2 * g * g;
    m[i] = mean;
    v[i] = square;
    let step = mean / params.correction1 / (sqrt(square / params.correction2) + params.eps);
    let w = weights[i];
    let next = w - params.lr * (step + params.decay * w);
    weights[i] = next;
    // Not keep * ema + rest * next: keep and rest, each rounded, do not add up to 1, which over many updates is a bias.
    let average = ema[i];
    ema[i] = average + params.ema_rest * (next - average);
  }
}
