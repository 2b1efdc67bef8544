// Attention as in attention.wgsl, for drivers where a load costs as much as a hundred multiplications (llvmpipe): a subgroup
// of eight lanes works on 8 * EACH queries (keys in `backward_kv`) of one (sample, head). Lane j loads the j-th of eight
// keys once and the others get it by broadcast. Everything lives in named variables, hence the unrolled blocks. Needs
// `subgroups` of at least eight lanes and HEAD4 whole vectors per head. Grid: (ceil(tokens / (8 EACH)), heads, batch).

enable subgroups;

override HEAD4: u32 = 6;
/// Queries per lane.
override EACH: u32 = 2;
/// `forward`: tensors are f16, two to a word.
override F16: u32 = 0;

struct Params { tokens: u32, heads: u32, scale: f32 }
@group(1) @binding(0) var<uniform> params: Params;

const LOWEST = -3.0e38;

//#if F16 == 1
alias Element = vec2u;
//#else
alias Element = vec4f;
//#endif

@group(0) @binding(0) var<storage, read> q: array<Element>;  // [batch, tokens, heads, HEAD4]
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
@group(0) @binding(3) var<storage, read_write> out: array<Element>;
@group(0) @binding(4) var<storage, read_write> lse_out: array<f32>;  // [batch, heads, tokens]
//#if F16 == 0
@group(0) @binding(5) var<storage, read> o: array<vec4f>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> dout: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> delta_out: array<f32>;
@group(0) @binding(10) var<storage, read> delta: array<f32>;
@group(0) @binding(11) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(12) var<storage, read_write> dv: array<vec4f>;
//#endif

/// First vector of one head of one token; tokens past the end repeat the last (their results are dropped).
fn vector_at(batch: u32, token: u32, head: u32) -> u32 {
  return ((batch * params.tokens + min(token, params.tokens - 1u)) * params.heads + head) * HEAD4;
}

fn row_at(batch: u32, token: u32, head: u32) -> u32 {
  return (batch * params.heads + head) * params.tokens + min(token, params.tokens - 1u);
}

fn unpacked(x: Element) -> vec4f {
//#if F16 == 1
  return unpack_halves(x);
//#else
  return x;
//#endif
}

fn packed(x: vec4f) -> Element {
//#if F16 == 1
  return pack_halves(x);
//#else
  return x;
//#endif
}

fn total(x: vec4f) -> f32 {
  return x.x + x.y + x.z + x.w;
}

@compute @workgroup_size(8)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
  var highest_a = LOWEST;
  var weight_a = 0.0;
//#unroll e HEAD4
  let query_a_e = unpacked(q[at_a + e]) * params.scale;
  var sum_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
//#unroll e HEAD4
    let key_e = unpacked(k[mine + e]);
    let value_e = unpacked(v[mine + e]);
//#end
//#unroll j 8
//#unroll a EACH
    var dot_j_a = vec4f();
//#end
//#unroll e HEAD4
    let key_j_e = subgroupBroadcast(key_e, j);
//#unroll a EACH
    dot_j_a += query_a_e * key_j_e;
//#end
//#end
//#unroll a EACH
    let score_j_a = select(LOWEST, total(dot_j_a), first + j < params.tokens);
//#end
//#end
//#unroll a EACH
    var higher_a = highest_a;
//#unroll j 8
    higher_a = max(higher_a, score_j_a);
//#end
    let rescale_a = exp(highest_a - higher_a);
    highest_a = higher_a;
    weight_a *= rescale_a;
//#unroll j 8
    let p_j_a = exp(score_j_a - higher_a);
    weight_a += p_j_a;
//#end
//#unroll e HEAD4
    sum_a_e *= rescale_a;
//#end
//#end
//#unroll j 8
//#unroll e HEAD4
    let value_j_e = subgroupBroadcast(value_e, j);
//#unroll a EACH
    sum_a_e += p_j_a * value_j_e;
//#end
//#end
//#end
  }
//#unroll a EACH
  if (token_a < params.tokens) {
//#unroll e HEAD4
    out[at_a + e] = packed(sum_a_e / weight_a);
//#end
    lse_out[row_at(wid.z, token_a, wid.y)] = highest_a + log(weight_a);
  }
//#end
}

//#if F16 == 0
@compute @workgroup_size(8)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
  let lse_a = lse[row_at(wid.z, token_a, wid.y)];
  var delta4_a = vec4f();
//#unroll e HEAD4
  let query_a_e = q[at_a + e] * params.scale;
  let grad_a_e = dout[at_a + e];
  delta4_a += grad_a_e * o[at_a + e];
  var sum_a_e = vec4f();
//#end
  let delta_a = total(delta4_a);
//#end
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
//#unroll e HEAD4
    let key_e = k[mine + e];
    let value_e = v[mine + e];
//#end
//#unroll j 8
//#unroll a EACH
    var score4_j_a = vec4f();
    var dp4_j_a = vec4f();
//#end
//#unroll e HEAD4
    let key_j_e = subgroupBroadcast(key_e, j);
    let value_j_e = subgroupBroadcast(value_e, j);
//#unroll a EACH
    score4_j_a += query_a_e * key_j_e;
    dp4_j_a += grad_a_e * value_j_e;
//#end
//#end
//#unroll a EACH
    let ds_j_a = select(0.0, exp(total(score4_j_a) - lse_a) * (total(dp4_j_a) - delta_a) * params.scale, first + j < params.tokens);
//#end
//#unroll e HEAD4
//#unroll a EACH
    sum_a_e += ds_j_a * key_j_e;
//#end
//#end
//#end
  }
//#unroll a EACH
  if (token_a < params.tokens) {
//#unroll e HEAD4
    dq[at_a + e] = sum_a_e;
//#end
    delta_out[row_at(wid.z, token_a, wid.y)] = delta_a;
  }
//#end
}

@compute @workgroup_size(8)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
//#unroll e HEAD4
  let key_a_e = k[at_a + e] * params.scale;
  let value_a_e = v[at_a + e];
  var dkey_a_e = vec4f();
  var dvalue_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
    let row = row_at(wid.z, first + lane, wid.y);
    let lse_mine = lse[row];
    let delta_mine = delta[row];
//#unroll e HEAD4
    let query_e = q[mine + e];
    let grad_e = dout[mine + e];
//#end
//#unroll j 8
//#unroll a EACH
    var score4_j_a = vec4f();
    var dp4_j_a = vec4f();
//#end
//#unroll e HEAD4
    let query_j_e = subgroupBroadcast(query_e, j);
    let grad_j_e = subgroupBroadcast(grad_e, j);
//#unroll a EACH
    score4_j_a += key_a_e * query_j_e;
    dp4_j_a += value_a_e * grad_j_e;
//#end
//#end
    let lse_j = subgroupBroadcast(lse_mine, j);
    let delta_j = subgroupBroadcast(delta_mine, j);
//#unroll a EACH
    let p_j_a = select(0.0, exp(total(score4_j_a) - lse_j), first + j < params.tokens);
    let ds_j_a = p_j_a * (total(dp4_j_a) - delta_j) * params.scale;
//#end
//#unroll e HEAD4
//#unroll a EACH
    dvalue_a_e += p_j_a * grad_j_e;
    dkey_a_e += ds_j_a * query_j_e;
//#end
//#end
//#end
  }
//#unroll a EACH
  if (token_a < params.tokens) {
//#unroll e HEAD4
    dk[at_a + e] = dkey_a_e;
    dv[at_a + e] = dvalue_a_e;
//#end
  }
//#end
}
//#endif
