// Multi-head attention with streaming softmax (Milakov & Gimelshein 2018; Dao et al. 2022): no tokens x tokens matrix in memory.
//
// Tensors are [batch, tokens, heads * HEAD]. One invocation owns one query (`forward`, `backward_q`) or one key
// (`backward_kv`) and keeps its vectors in registers; a workgroup works on one (sample, head), so that what its
// invocations read of the other side is the same address for all: one broadcast load on GPUs and CPUs alike. Grid:
// (ceil(tokens / WG), heads, batch).

override WG: u32 = 64;
override HEAD: u32 = 64;
/// HEAD / 4 rounded up, and whether it was.
override HEAD4: u32 = 16;
override TAIL: bool = false;
override F16: u32 = 0;

// `head4` repeats HEAD4 as a run-time value: drivers that unroll loops of known length (llvmpipe) take seconds to compile them.
struct Params { tokens: u32, heads: u32, head4: u32, scale: f32 }
@group(1) @binding(0) var<uniform> params: Params;

const LOWEST = -3.0e38;
/// Heads that are whole vectors are loaded as vectors, from f16 (two to a word; `forward` only) or f32.
//#if TAIL == true
alias Element = f32;
//#else
//#if F16 == 1
alias Element = vec2u;
//#else
alias Element = vec4f;
//#endif
//#endif
alias Vector = array<vec4f, HEAD4>;

@group(0) @binding(0) var<storage, read> q: array<Element>;
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
@group(0) @binding(3) var<storage, read_write> out: array<Element>;
@group(0) @binding(4) var<storage, read_write> lse_out: array<f32>;  // [batch, heads, tokens]: log of the sum of exponentials

//#if F16 == 0
@group(0) @binding(5) var<storage, read> o: array<Element>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> dout: array<Element>;
@group(0) @binding(8) var<storage, read_write> dq: array<Element>;
@group(0) @binding(9) var<storage, read_write> delta_out: array<f32>;  // [batch, heads, tokens]: sum of dout * o
@group(0) @binding(10) var<storage, read> delta: array<f32>;
@group(0) @binding(11) var<storage, read_write> dk: array<Element>;
@group(0) @binding(12) var<storage, read_write> dv: array<Element>;
//#endif

/// First element of one head's vector of one token.
fn vector_at(batch: u32, token: u32, head: u32) -> u32 {
//#if TAIL == true
  return ((batch * params.tokens + token) * params.heads + head) * HEAD;
//#else
  return ((batch * params.tokens + token) * params.heads + head) * HEAD4;
//#endif
}

/// Which components of vector i lie inside the head.
fn inside(i: u32) -> vec4<bool> {
  let size = vec4u(HEAD);
  let component = vec4u(0u, 1u, 2u, 3u) + 4u * i;
  return size > component;
}

//#if TAIL == false
fn unpacked(x: Element) -> vec4f {
//#if F16 == 1
  return unpack_halves(x);
//#else
  return x;
//#endif
}
//#endif

fn load_q(base: u32, i: u32) -> vec4f {
//#if TAIL == true
  let at = min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
  return select(vec4f(0.0), vec4f(q[at.x], q[at.y], q[at.z], q[at.w]), inside(i));
//#else
  return unpacked(q[base + i]);
//#endif
}

fn load_k(base: u32, i: u32) -> vec4f {
//#if TAIL == true
  let at = min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
  return select(vec4f(0.0), vec4f(k[at.x], k[at.y], k[at.z], k[at.w]), inside(i));
//#else
  return unpacked(k[base + i]);
//#endif
}

fn load_v(base: u32, i: u32) -> vec4f {
//#if TAIL == true
  let at = min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
  return select(vec4f(0.0), vec4f(v[at.x], v[at.y], v[at.z], v[at.w]), inside(i));
//#else
  return unpacked(v[base + i]);
//#endif
}

//#if F16 == 0
fn load_o(base: u32, i: u32) -> vec4f {
//#if TAIL == true
  let at = min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
  return select(vec4f(0.0), vec4f(o[at.x], o[at.y], o[at.z], o[at.w]), inside(i));
//#else
  return o[base + i];
//#endif
}

fn load_dout(base: u32, i: u32) -> vec4f {
//#if TAIL == true
  let at = min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
  return select(vec4f(0.0), vec4f(dout[at.x], dout[at.y], dout[at.z], dout[at.w]), inside(i));
//#else
  return dout[base + i];
//#endif
}
//#endif

fn store_out(base: u32, i: u32, value: vec4f) {
//#if TAIL == true
  for (var c = 0u; c < 4u; c++) {
    if (4u * i + c < HEAD) { out[base + 4u * i + c] = value[c]; }
  }
//#else
//#if F16 == 1
  out[base + i] = pack_halves(value);
//#else
  out[base + i] = value;
//#endif
//#endif
}

//#if F16 == 0
fn store_dq(base: u32, i: u32, value: vec4f) {
//#if TAIL == true
  for (var c = 0u; c < 4u; c++) {
    if (4u * i + c < HEAD) { dq[base + 4u * i + c] = value[c]; }
  }
//#else
  dq[base + i] = value;
//#endif
}

fn store_dk(base: u32, i: u32, value: vec4f) {
//#if TAIL == true
  for (var c = 0u; c < 4u; c++) {
    if (4u * i + c < HEAD) { dk[base + 4u * i + c] = value[c]; }
  }
//#else
  dk[base + i] = value;
//#endif
}

fn store_dv(base: u32, i: u32, value: vec4f) {
//#if TAIL == true
  for (var c = 0u; c < 4u; c++) {
    if (4u * i + c < HEAD) { dv[base + 4u * i + c] = value[c]; }
  }
//#else
  dv[base + i] = value;
//#endif
}
//#endif

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let token = wid.x * WG + lid;
  let head = wid.y;
  let batch = wid.z;
  if (token >= params.tokens) { return; }
  let at = vector_at(batch, token, head);
  var query: Vector;
  var sum: Vector;
  for (var i = 0u; i < params.head4; i++) {
    query[i] = load_q(at, i) * params.scale;
    sum[i] = vec4f(0.0);
  }
  var highest = LOWEST;
  var weight = 0.0;
  for (var j = 0u; j < params.tokens; j++) {
    let other = vector_at(batch, j, head);
    var score4 = vec4f(0.0);
    for (var i = 0u; i < params.head4; i++) { score4 += query[i] * load_k(other, i); }
    let score = score4.x + score4.y + score4.z + score4.w;
    let higher = max(highest, score);
    let rescale = exp(highest - higher);
    let p = exp(score - higher);
    highest = higher;
    weight = weight * rescale + p;
    for (var i = 0u; i < params.head4; i++) { sum[i] = sum[i] * rescale + p * load_v(other, i); }
  }
  for (var i = 0u; i < params.head4; i++) { store_out(at, i, sum[i] / weight); }
  lse_out[(batch * params.heads + head) * params.tokens + token] = highest + log(weight);
}

//#if F16 == 0
// dq_i = scale * sum_j p_ij (dout_i . v_j - delta_i) k_j,  p_ij = exp(scale q_i . k_j - lse_i).
@compute @workgroup_size(WG)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let token = wid.x * WG + lid;
  let head = wid.y;
  let batch = wid.z;
  if (token >= params.tokens) { return; }
  let at = vector_at(batch, token, head);
  let row = (batch * params.heads + head) * params.tokens + token;
  var query: Vector;
  var grad: Vector;
  var sum: Vector;
  var delta4 = vec4f(0.0);
  for (var i = 0u; i < params.head4; i++) {
    query[i] = load_q(at, i) * params.scale;
    grad[i] = load_dout(at, i);
    delta4 += grad[i] * load_o(at, i);
    sum[i] = vec4f(0.0);
  }
  let delta_row = delta4.x + delta4.y + delta4.z + delta4.w;
  delta_out[row] = delta_row;
  for (var j = 0u; j < params.tokens; j++) {
    let key = vector_at(batch, j, head);
    var score4 = vec4f(0.0);
    var dp4 = vec4f(0.0);
    for (var i = 0u; i < params.head4; i++) {
      score4 += query[i] * load_k(key, i);
      dp4 += grad[i] * load_v(key, i);
    }
    let p = exp(score4.x + score4.y + score4.z + score4.w - lse[row]);
    let ds = p * (dp4.x + dp4.y + dp4.z + dp4.w - delta_row) * params.scale;
    for (var i = 0u; i < params.head4; i++) { sum[i] += ds * load_k(key, i); }
  }
  for (var i = 0u; i < params.head4; i++) { store_dq(at, i, sum[i]); }
}

// dv_j = sum_i p_ij dout_i;  dk_j = scale * sum_i p_ij (dout_i . v_j - delta_i) q_i.
@compute @workgroup_size(WG)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let token = wid.x * WG + lid;
  let head = wid.y;
  let batch = wid.z;
  if (token >= params.tokens) { return; }
  let at = vector_at(batch, token, head);
  var key: Vector;
  var value: Vector;
  var key_sum: Vector;
  var value_sum: Vector;
  for (var i = 0u; i < params.head4; i++) {
    key[i] = load_k(at, i) * params.scale;
    value[i] = load_v(at, i);
    key_sum[i] = vec4f(0.0);
    value_sum[i] = vec4f(0.0);
  }
  let first_row = (batch * params.heads + head) * params.tokens;
  for (var j = 0u; j < params.tokens; j++) {
    let other = vector_at(batch, j, head);
    var score4 = vec4f(0.0);
    var dp4 = vec4f(0.0);
    for (var i = 0u; i < params.head4; i++) {
      score4 += key[i] * load_q(other, i);
      dp4 += value[i] * load_dout(other, i);
    }
    let p = exp(score4.x + score4.y + score4.z + score4.w - lse[first_row + j]);
    let ds = p * (dp4.x + dp4.y + dp4.z + dp4.w - delta[first_row + j]) * params.scale;
    for (var i = 0u; i < params.head4; i++) {
      value_sum[i] += p * load_dout(other, i);
      key_sum[i] += ds * load_q(other, i);
    }
  }
  for (var i = 0u; i < params.head4; i++) {
    store_dk(at, i, key_sum[i]);
    store_dv(at, i, value_sum[i]);
  }
}
//#endif
