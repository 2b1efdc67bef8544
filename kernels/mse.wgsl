// Mean squared error in a fixed order: strided parts of a sample, samples, batch. And its gradient.

override WG: u32 = 64;
override EACH: u32 = 8;  // elements of one invocation, WG apart: CPU drivers pay for every workgroup
override PARTS: u32 = 1;     // partial sums of one sample
override UPSTREAM: u32 = 0;  // 1: the gradient is multiplied by dloss[0]

struct Params {
  rows: u32,   // samples
  width: u32,  // elements of one
  scale: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> prediction: array<f32>;  // [rows, width]
@group(0) @binding(1) var<storage, read> goal: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read_write> parts_out: array<f32>;  // [rows, PARTS]

@compute @workgroup_size(WG)
fn parts(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let id = linear_id(wid, groups, lid, WG);
  if (id >= params.rows * PARTS) { return; }
  let base = id / PARTS * params.width;
  var sum = 0.0;
  for (var i = id % PARTS; i < params.width; i += PARTS) {
    let d = prediction[base + i] - goal[base + i];
    sum += d * d;
  }
  parts_out[id] = sum;
}

@group(0) @binding(3) var<storage, read> parts_in: array<f32>;
@group(0) @binding(4) var<storage, read_write> samples_out: array<f32>;  // [rows]

@compute @workgroup_size(WG)
fn samples(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let r = linear_id(wid, groups, lid, WG);
  if (r >= params.rows) { return; }
  var sum = 0.0;
  for (var i = 0u; i < PARTS; i++) { sum += parts_in[r * PARTS + i]; }
  samples_out[r] = sum / f32(params.width);
}

@group(0) @binding(5) var<storage, read> samples_in: array<f32>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;  // [1]

@compute @workgroup_size(1)
fn total() {
  var sum = 0.0;
  for (var r = 0u; r < params.rows; r++) { sum += samples_in[r]; }
  loss[0] = sum / f32(max(params.rows, 1u));
}

@group(0) @binding(7) var<storage, read_write> dprediction: array<f32>;
//#if UPSTREAM == 1
@group(0) @binding(8) var<storage, read> dloss: array<f32>;  // [1]
//#endif

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  var factor = params.scale * 2.0 / (f32(params.rows) * f32(params.width));
//#if UPSTREAM == 1
  factor *= dloss[0];
//#endif
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.rows * params.width); i += WG) {
    dprediction[i] = factor * (prediction[i] - goal[i]);
  }
}
