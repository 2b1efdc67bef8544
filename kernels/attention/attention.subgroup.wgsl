// Attention as in attention.wgsl, for drivers where a load costs as much as a hundred multiplications (llvmpipe): a subgroup
// of eight lanes works on 8 * EACH queries (keys in `backward_kv`) of one (sample, head). Lane j loads the j-th of eight
// keys once and the others get it by shuffling. Needs `subgroups` of at least eight lanes and HEAD4 whole vectors per head.
// Grid: (ceil(tokens / (8 EACH)), heads, batch).
//
// Vectors are private arrays with a constant index wherever it matters, which is a plain load there. They are filled through a
// computed index first, and `head4` repeats HEAD4 as a run-time value for it: that keeps them in memory. As variables they would all
// stay live across the loads, each of which is forty basic blocks, and compile ten times as long. The loop over eight keys stays a
// loop, too: unrolled it ran no faster.

enable subgroups;

override HEAD4: u32 = 6;
/// Queries per lane.
override EACH: u32 = 4;
/// `forward`: tensors are f16, two to a word.
override F16: u32 = 0;

struct Params { tokens: u32, heads: u32, head4: u32, scale: f32 }
@group(1) @binding(0) var<uniform> params: Params;

const LOWEST = -3.0e38;

//#if F16 == 1
alias Element = vec2u;
//#else
alias Element = vec4f;
//#endif
alias Vector = array<vec4f, HEAD4>;

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
  var key: Vector;
  var value: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
  var highest_a = LOWEST;
  var weight_a = 0.0;
  var query_a: Vector;
  var sum_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    key[i] = vec4f();
    value[i] = vec4f();
//#unroll a EACH
    query_a[i] = unpacked(q[at_a + i]) * params.scale;
    sum_a[i] = vec4f();
//#end
  }
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
//#unroll e HEAD4
    key[e] = unpacked(k[mine + e]);
//#end
//#unroll e HEAD4
    value[e] = unpacked(v[mine + e]);
//#end
    for (var j = 0u; j < min(8u, params.tokens - first); j++) {
//#unroll a EACH
      var dot_a = vec4f();
//#end
//#unroll e HEAD4
      let key_e = subgroupShuffle(key[e], j);
//#unroll a EACH
      dot_a += query_a[e] * key_e;
//#end
//#end
//#unroll a EACH
      let score_a = total(dot_a);
      let higher_a = max(highest_a, score_a);
      let rescale_a = exp(highest_a - higher_a);
      let p_a = exp(score_a - higher_a);
      highest_a = higher_a;
      weight_a = weight_a * rescale_a + p_a;
//#end
//#unroll e HEAD4
      let value_e = subgroupShuffle(value[e], j);
//#unroll a EACH
      sum_a[e] = sum_a[e] * rescale_a + p_a * value_e;
//#end
//#end
    }
  }
//#unroll a EACH
  if (token_a < params.tokens) {
    for (var i = 0u; i < params.head4; i++) { out[at_a + i] = packed(sum_a[i] / weight_a); }
    lse_out[row_at(wid.z, token_a, wid.y)] = highest_a + log(weight_a);
  }
//#end
}

//#if F16 == 0
@compute @workgroup_size(8)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  var key: Vector;
  var value: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
  let lse_a = lse[row_at(wid.z, token_a, wid.y)];
  var delta4_a = vec4f();
  var query_a: Vector;
  var grad_a: Vector;
  var sum_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    key[i] = vec4f();
    value[i] = vec4f();
//#unroll a EACH
    query_a[i] = q[at_a + i] * params.scale;
    let grad_here_a = dout[at_a + i];
    grad_a[i] = grad_here_a;
    delta4_a += grad_here_a * o[at_a + i];
    sum_a[i] = vec4f();
//#end
  }
//#unroll a EACH
  let delta_a = total(delta4_a);
//#end
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
//#unroll e HEAD4
    key[e] = k[mine + e];
//#end
//#unroll e HEAD4
    value[e] = v[mine + e];
//#end
    for (var j = 0u; j < min(8u, params.tokens - first); j++) {
//#unroll a EACH
      var score4_a = vec4f();
      var dp4_a = vec4f();
//#end
//#unroll e HEAD4
      let key_e = subgroupShuffle(key[e], j);
      let value_e = subgroupShuffle(value[e], j);
//#unroll a EACH
      score4_a += query_a[e] * key_e;
      dp4_a += grad_a[e] * value_e;
//#end
//#end
//#unroll a EACH
      let ds_a = exp(total(score4_a) - lse_a) * (total(dp4_a) - delta_a) * params.scale;
//#end
//#unroll e HEAD4
//#unroll a EACH
      sum_a[e] += ds_a * key_e;
//#end
//#end
    }
  }
//#unroll a EACH
  if (token_a < params.tokens) {
    for (var i = 0u; i < params.head4; i++) { dq[at_a + i] = sum_a[i]; }
    delta_out[row_at(wid.z, token_a, wid.y)] = delta_a;
  }
//#end
}

@compute @workgroup_size(8)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  var query: Vector;
  var grad: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * 8u + lane;
  let at_a = vector_at(wid.z, token_a, wid.y);
  var key_a: Vector;
  var value_a: Vector;
  var dkey_a: Vector;
  var dvalue_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    query[i] = vec4f();
    grad[i] = vec4f();
//#unroll a EACH
    key_a[i] = k[at_a + i] * params.scale;
    value_a[i] = v[at_a + i];
    dkey_a[i] = vec4f();
    dvalue_a[i] = vec4f();
//#end
  }
  for (var first = 0u; first < params.tokens; first += 8u) {
    let mine = vector_at(wid.z, first + lane, wid.y);
    let row = row_at(wid.z, first + lane, wid.y);
    let lse_mine = lse[row];
    let delta_mine = delta[row];
//#unroll e HEAD4
    query[e] = q[mine + e];
//#end
//#unroll e HEAD4
    grad[e] = dout[mine + e];
//#end
    for (var j = 0u; j < min(8u, params.tokens - first); j++) {
//#unroll a EACH
      var score4_a = vec4f();
      var dp4_a = vec4f();
//#end
//#unroll e HEAD4
      let query_e = subgroupShuffle(query[e], j);
      let grad_e = subgroupShuffle(grad[e], j);
//#unroll a EACH
      score4_a += key_a[e] * query_e;
      dp4_a += value_a[e] * grad_e;
//#end
//#end
      let lse_j = subgroupShuffle(lse_mine, j);
      let delta_j = subgroupShuffle(delta_mine, j);
//#unroll a EACH
      let p_a = exp(total(score4_a) - lse_j);
      let ds_a = p_a * (total(dp4_a) - delta_j) * params.scale;
//#end
//#unroll e HEAD4
//#unroll a EACH
      dvalue_a[e] += p_a * grad_e;
      dkey_a[e] += ds_a * query_e;
//#end
//#end
    }
  }
//#unroll a EACH
  if (token_a < params.tokens) {
    for (var i = 0u; i < params.head4; i++) {
      dk[at_a + i] = dkey_a[i];
      dv[at_a + i] = dvalue_a[i];
    }
  }
//#end
}
//#endif
