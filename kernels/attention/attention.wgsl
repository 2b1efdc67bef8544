// What the kernels of attention share: softmax(scale q k^T) v per head, and its gradients from the logarithm of each row's sum of
// exponentials, as in flash attention (Milakov & Gimelshein 2018; Dao et al. 2022): no tokens x tokens matrix in memory.
//
//   forward      out_i = sum_j p_ij v_j,  p_ij = exp(scale q_i . k_j - lse_i)
//   backward_q   dq_i = scale sum_j p_ij (dout_i . v_j - delta_i) k_j,  delta_i = dout_i . out_i
//   backward_kv  dv_j = sum_i p_ij dout_i,  dk_j = scale sum_i p_ij (dout_i . v_j - delta_i) q_i
//
// Tensors are [batch, tokens, heads * HEAD]; q, k and v may be columns of wider rows. Each workgroup works on one (sample, head).
// Its invocations own rows: queries in `forward` and `backward_q`, keys in `backward_kv`. A variant says who owns which.

/// Features of one head; in vectors of four, the last one padded with zeros.
override HEAD: u32 = 24;
override HEAD4: u32 = 6;
/// Heads are whole vectors, and rows start at one: buffers are read as vectors. Else as scalars.
override VEC: u32 = 1;
/// Tensors are f16, two to a word. Needs VEC, and no gradients.
override F16: u32 = 0;
/// k and v, or q and dout, are read through textures (engine/mirrors.ts). Needs VEC.
override MIRROR_KV: u32 = 0;
override MIRROR_QD: u32 = 0;

// `head4` repeats HEAD4 as a run-time value: where an index is computed from it, private arrays stay in memory. Rows of q, k and v
// start at `_first` and are `_stride` apart, in elements of the buffer.
struct Params {
  tokens: u32, heads: u32, head4: u32, scale: f32,
  q_first: u32, q_stride: u32, k_first: u32, k_stride: u32, v_first: u32, v_stride: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

const LOWEST = -3.0e38;

//#if VEC == 0
alias Element = f32;
const HEAD_ELEMENTS = HEAD;
//#else
const HEAD_ELEMENTS = HEAD4;
//#if F16 == 1
alias Element = vec2u;
//#else
alias Element = vec4f;
//#endif
//#endif

//#if MIRROR_QD == 1
@group(0) @binding(0) var q: texture_storage_2d<rgba32float, read>;
//#else
@group(0) @binding(0) var<storage, read> q: array<Element>;
//#endif
//#if MIRROR_KV == 1
//#if F16 == 1
@group(0) @binding(1) var k: texture_storage_2d<rgba16float, read>;
@group(0) @binding(2) var v: texture_storage_2d<rgba16float, read>;
//#else
@group(0) @binding(1) var k: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var v: texture_storage_2d<rgba32float, read>;
//#endif
//#else
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
//#endif
@group(0) @binding(3) var<storage, read_write> out: array<Element>;
@group(0) @binding(4) var<storage, read_write> lse_out: array<f32>;  // [batch, heads, tokens]: log of the sum of exponentials

/// Where one head's vectors lie: the first token's, those of later ones `stride` further each, up to that of token `last`.
struct Lines {
  start: u32,
  stride: u32,
  last: u32,
}

/// Tokens past the end repeat the last: what is made of them is not stored.
fn line(lines: Lines, token: u32) -> u32 {
  return lines.start + min(token, lines.last) * lines.stride;
}

/// The vectors of the workgroup's sample and head in each tensor.
struct Head {
  q: Lines,
  k: Lines,
  v: Lines,
  out: Lines, // and dout, dq, dk, dv, which are no views
  row: Lines, // single numbers: lse, delta
}

fn head_of(wid: vec3u) -> Head {
  let row = Lines((wid.z * params.heads + wid.y) * params.tokens, 1u, params.tokens - 1u);
  return Head(
    lines(wid, params.q_first, params.q_stride), lines(wid, params.k_first, params.k_stride),
    lines(wid, params.v_first, params.v_stride), lines(wid, 0u, params.heads * HEAD_ELEMENTS), row);
}

/// In a tensor whose rows begin at `first`.
fn lines(wid: vec3u, first: u32, stride: u32) -> Lines {
  return Lines(first + wid.z * params.tokens * stride + wid.y * HEAD_ELEMENTS, stride, params.tokens - 1u);
}

fn total(x: vec4f) -> f32 {
  return x.x + x.y + x.z + x.w;
}

// Vector i of the one that starts at `base`.
//#if VEC == 0
/// Where its four components lie; those past the end of the head are moved to its last, and `whole` makes them zero.
fn components(base: u32, i: u32) -> vec4u {
  return min(vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u), vec4u(HEAD - 1u)) + base;
}

fn whole(x: vec4f, i: u32) -> vec4f {
  return select(vec4f(), x, vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) < vec4u(HEAD));
}

fn load_q(base: u32, i: u32) -> vec4f {
  let at = components(base, i);
  return whole(vec4f(q[at.x], q[at.y], q[at.z], q[at.w]), i);
}

fn load_k(base: u32, i: u32) -> vec4f {
  let at = components(base, i);
  return whole(vec4f(k[at.x], k[at.y], k[at.z], k[at.w]), i);
}

fn load_v(base: u32, i: u32) -> vec4f {
  let at = components(base, i);
  return whole(vec4f(v[at.x], v[at.y], v[at.z], v[at.w]), i);
}

fn store_out(base: u32, i: u32, x: vec4f) {
  for (var c = 0u; c < min(4u, HEAD - 4u * i); c++) { out[base + 4u * i + c] = x[c]; }
}
//#else
fn load_q(base: u32, i: u32) -> vec4f {
//#if MIRROR_QD == 1
  return textureLoad(q, texel_of(base + i));
//#else
  return unpacked(q[base + i]);
//#endif
}

fn load_k(base: u32, i: u32) -> vec4f {
//#if MIRROR_KV == 1
  return textureLoad(k, texel_of(base + i));
//#else
  return unpacked(k[base + i]);
//#endif
}

fn load_v(base: u32, i: u32) -> vec4f {
//#if MIRROR_KV == 1
  return textureLoad(v, texel_of(base + i));
//#else
  return unpacked(v[base + i]);
//#endif
}

//#if F16 == 1
fn unpacked(x: vec2u) -> vec4f { return unpack_halves(x); }
fn store_out(base: u32, i: u32, x: vec4f) { out[base + i] = pack_halves(x); }
//#else
fn unpacked(x: vec4f) -> vec4f { return x; }
fn store_out(base: u32, i: u32, x: vec4f) { out[base + i] = x; }
//#endif
//#endif
