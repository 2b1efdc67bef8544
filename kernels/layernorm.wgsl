// Layer norm without affine, then modulation by a per-sample shift and scale (adaLN; Peebles & Xie 2023):
//   y[r, c] = xhat[r, c] * (1 + scale[b, c]) + shift[b, c],  xhat = (x - mean) * rstd,  b = r / tokens.
// One invocation owns one row in `forward` and `backward_x`, and one (sample, channel) in `backward_mod`.

override WG: u32 = 64;
/// `forward`: x and y are f16, two to a word (width even).
override F16: u32 = 0;

struct Params {
  rows: u32,
  tokens: u32,
  width: u32,
  shift: u32,   // column of the first shift in the modulation matrix
  scale: u32,
  stride: u32,  // columns of the modulation matrix
  eps: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

//#if F16 == 1
alias Stored = u32;
alias Value = vec2f;
const EACH = 2u;
//#else
alias Stored = f32;
alias Value = f32;
const EACH = 1u;
//#endif

@group(0) @binding(0) var<storage, read> x: array<Stored>;      // [rows, width]
@group(0) @binding(1) var<storage, read> modulation: array<f32>;  // [rows / tokens, stride]
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;
@group(0) @binding(3) var<storage, read_write> stats_out: array<f32>;  // [rows, 2]: mean, rstd

/// Elements EACH i and on of x.
fn load(i: u32) -> Value {
//#if F16 == 1
  return unpack2x16float(x[i]);
//#else
  return x[i];
//#endif
}

fn store(i: u32, value: Value) {
//#if F16 == 1
  y[i] = pack2x16float(value);
//#else
  y[i] = value;
//#endif
}

/// Elements i and on of the modulation.
fn modulation_at(i: u32) -> Value {
//#if F16 == 1
  return vec2f(modulation[i], modulation[i + 1u]);
//#else
  return modulation[i];
//#endif
}

fn total(value: Value) -> f32 {
//#if F16 == 1
  return value.x + value.y;
//#else
  return value;
//#endif
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let r = linear_id(wid, groups, lid, WG);
  if (r >= params.rows) { return; }
  let values = params.width / EACH;
  let base = r * values;
  var sum = Value();
  for (var c = 0u; c < values; c++) { sum += load(base + c); }
  let mean = total(sum) / f32(params.width);
  var square = Value();
  for (var c = 0u; c < values; c++) {
    let d = load(base + c) - mean;
    square += d * d;
  }
  let rstd = inverseSqrt(total(square) / f32(params.width) + params.eps);
  let b = r / params.tokens;
  let shift_base = b * params.stride + params.shift;
  let scale_base = b * params.stride + params.scale;
  for (var c = 0u; c < values; c++) {
    let xhat = (load(base + c) - mean) * rstd;
    store(base + c, xhat * (1.0 + modulation_at(scale_base + EACH * c)) + modulation_at(shift_base + EACH * c));
  }
  stats_out[2u * r] = mean;
  stats_out[2u * r + 1u] = rstd;
}

//#if F16 == 0
@group(0) @binding(4) var<storage, read> stats: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * (1 + scale).
@compute @workgroup_size(WG)
fn backward_x(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let r = linear_id(wid, groups, lid, WG);
  if (r >= params.rows) { return; }
  let base = r * params.width;
  let mean = stats[2u * r];
  let rstd = stats[2u * r + 1u];
  let scale_base = (r / params.tokens) * params.stride + params.scale;
  var g_sum = 0.0;
  var gx_sum = 0.0;
  for (var c = 0u; c < params.width; c++) {
    let g = dy[base + c] * (1.0 + modulation[scale_base + c]);
    g_sum += g;
    gx_sum += g * (x[base + c] - mean) * rstd;
  }
  let g_mean = g_sum / f32(params.width);
  let gx_mean = gx_sum / f32(params.width);
  for (var c = 0u; c < params.width; c++) {
    let g = dy[base + c] * (1.0 + modulation[scale_base + c]);
    dx[base + c] = rstd * (g - g_mean - (x[base + c] - mean) * rstd * gx_mean);
  }
}

@group(0) @binding(7) var<storage, read_write> dshift: array<f32>;  // [rows / tokens, width]
@group(0) @binding(8) var<storage, read_write> dscale: array<f32>;

// dshift[b, c] = sum over tokens of dy;  dscale[b, c] = sum over tokens of dy * xhat.
@compute @workgroup_size(WG)
fn backward_mod(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, WG);
  if (i >= params.rows / params.tokens * params.width) { return; }
  let b = i / params.width;
  let c = i % params.width;
  var shift_sum = 0.0;
  var scale_sum = 0.0;
  for (var t = 0u; t < params.tokens; t++) {
    let r = b * params.tokens + t;
    let g = dy[r * params.width + c];
    shift_sum += g;
    scale_sum += g * (x[r * params.width + c] - stats[2u * r]) * stats[2u * r + 1u];
  }
  dshift[i] = shift_sum;
  dscale[i] = scale_sum;
}
//#endif
