// y = scale * f(inner * x) + shift, f nothing or tanh: ranges of pictures and latents.

override WG: u32 = 64;
/// Elements per invocation, WG apart: on CPU drivers starting a workgroup costs more than its work.
override EACH: u32 = 8;
override TANH: u32 = 0;

struct Params {
  size: u32,
  inner: f32,
  scale: f32,
  shift: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var v = params.inner * x[i];
//#if TANH == 1
    v = safe_tanh(v);
//#endif
    y[i] = params.scale * v + params.shift;
  }
}

@group(0) @binding(2) var<storage, read> result: array<f32>; // what `forward` gave
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var slope = params.inner * params.scale;
//#if TANH == 1
    let v = (result[i] - params.shift) / params.scale;
    slope *= 1.0 - v * v;
//#endif
    dx[i] = slope * dy[i];
  }
}
