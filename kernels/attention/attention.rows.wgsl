// Attention with rows in registers: an invocation owns EACH rows, or one of SPLIT parts of each (every SPLIT-th vector), and walks
// the other side of the product four rows at a time, as the columns of matrices, so that each vector read serves EACH rows.
//
//   SOURCE  where the four rows come from. 0: each invocation loads them (any device); 1: each of four invocations loads one and the
//           quad shares them (subgroups of four: SwiftShader); 2: a tile of ROWS rows in workgroup memory (GPUs).
//   SPLIT   1, or with SOURCE 2 also 2, 4, 8: invocations that share a row, so that large heads do not spill registers. They add their
//           parts of the products by SHUFFLE, else through workgroup memory.
//   BLOCK   steps of four rows between two renewals of the softmax's maximum. ROWS is a multiple of 4 BLOCK.
//
// Grid: (ceil(tokens / (WG / SPLIT * EACH)), heads, batch). Nothing leaves a loop early: barriers and quads need all invocations.

override SOURCE: u32 = 0;
override WG: u32 = 4;
override EACH: u32 = 4;
override SPLIT: u32 = 1;
/// HEAD4 / SPLIT, rounded up: vectors of a row that one invocation holds.
override PART: u32 = 6;
override ROWS: u32 = 4;
override BLOCK: u32 = 1;
override SHUFFLE: bool = false;

const PITCH = PART * SPLIT;

//#if SOURCE == 2
var<workgroup> tile_a: array<vec4f, ROWS * PITCH>;  // keys; queries in `backward_kv`
var<workgroup> tile_b: array<vec4f, ROWS * PITCH>;  // values; gradients of the output
//#if SPLIT > 1 && SHUFFLE == false
var<workgroup> parts: array<vec4f, 2 * EACH * BLOCK * WG>;
//#endif
//#endif

/// The row of the group's a-th set that an invocation works on, and which of its vectors are its e-th.
fn row_of(group: u32, a: u32, lid: u32) -> u32 {
  return (group * EACH + a) * (WG / SPLIT) + lid / SPLIT;
}

fn vector_of(e: u32, lid: u32) -> u32 {
//#if SPLIT == 1
  return e;
//#else
  return e * SPLIT + lid % SPLIT;
//#endif
}

/// Vector i, or zeros past the head's end.
fn own_q(base: u32, i: u32) -> vec4f { return select(vec4f(), load_q(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_k(base: u32, i: u32) -> vec4f { return select(vec4f(), load_k(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_v(base: u32, i: u32) -> vec4f { return select(vec4f(), load_v(base, min(i, HEAD4 - 1u)), i < HEAD4); }
//#if F16 == 0
fn own_o(base: u32, i: u32) -> vec4f { return select(vec4f(), load_o(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_dout(base: u32, i: u32) -> vec4f { return select(vec4f(), load_dout(base, min(i, HEAD4 - 1u)), i < HEAD4); }
//#endif

//#if SOURCE == 2
/// Brings rows from `first` on into the tiles.
fn fill_kv(batch: u32, first: u32, head: u32, lid: u32) {
  workgroupBarrier();
  for (var at = lid; at < ROWS * PITCH; at += WG) {
    let row = first + at / PITCH;
    tile_a[at] = own_k(k_at(batch, row, head), at % PITCH);
    tile_b[at] = own_v(v_at(batch, row, head), at % PITCH);
  }
  workgroupBarrier();
}

//#if F16 == 0
fn fill_qd(batch: u32, first: u32, head: u32, lid: u32) {
  workgroupBarrier();
  for (var at = lid; at < ROWS * PITCH; at += WG) {
    let row = first + at / PITCH;
    tile_a[at] = own_q(q_at(batch, row, head), at % PITCH);
    tile_b[at] = own_dout(vector_at(batch, row, head), at % PITCH);
  }
  workgroupBarrier();
}
//#endif

fn from_a(at: u32) -> mat4x4f {
  return mat4x4f(tile_a[at], tile_a[at + PITCH], tile_a[at + 2u * PITCH], tile_a[at + 3u * PITCH]);
}

fn from_b(at: u32) -> mat4x4f {
  return mat4x4f(tile_b[at], tile_b[at + PITCH], tile_b[at + 2u * PITCH], tile_b[at + 3u * PITCH]);
}
//#endif

//#if SOURCE == 1
fn shared_by_quad(x: vec4f) -> mat4x4f {
  return mat4x4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u), quadBroadcast(x, 3u));
}
//#endif

/// Where four rows from `first` + `j` on are, `first` being where the tile starts: for four_k, four_v, four_q, four_dout.
fn k_rows(batch: u32, first: u32, j: u32, head: u32, lid: u32) -> vec4u {
  let row = first + j;
//#if SOURCE == 0
  return vec4u(k_at(batch, row, head), k_at(batch, row + 1u, head), k_at(batch, row + 2u, head), k_at(batch, row + 3u, head));
//#else
//#if SOURCE == 1
  return vec4u(k_at(batch, row + lid % 4u, head));
//#else
  return vec4u(j * PITCH);
//#endif
//#endif
}

fn v_rows(batch: u32, first: u32, j: u32, head: u32, lid: u32) -> vec4u {
  let row = first + j;
//#if SOURCE == 0
  return vec4u(v_at(batch, row, head), v_at(batch, row + 1u, head), v_at(batch, row + 2u, head), v_at(batch, row + 3u, head));
//#else
//#if SOURCE == 1
  return vec4u(v_at(batch, row + lid % 4u, head));
//#else
  return vec4u(j * PITCH);
//#endif
//#endif
}

fn q_rows(batch: u32, first: u32, j: u32, head: u32, lid: u32) -> vec4u {
  let row = first + j;
//#if SOURCE == 0
  return vec4u(q_at(batch, row, head), q_at(batch, row + 1u, head), q_at(batch, row + 2u, head), q_at(batch, row + 3u, head));
//#else
//#if SOURCE == 1
  return vec4u(q_at(batch, row + lid % 4u, head));
//#else
  return vec4u(j * PITCH);
//#endif
//#endif
}

fn dout_rows(batch: u32, first: u32, j: u32, head: u32, lid: u32) -> vec4u {
  let row = first + j;
//#if SOURCE == 0
  return vec4u(
    vector_at(batch, row, head), vector_at(batch, row + 1u, head),
    vector_at(batch, row + 2u, head), vector_at(batch, row + 3u, head));
//#else
//#if SOURCE == 1
  return vec4u(vector_at(batch, row + lid % 4u, head));
//#else
  return vec4u(j * PITCH);
//#endif
//#endif
}

/// Vector i of four rows, one a column.
fn four_k(at: vec4u, i: u32) -> mat4x4f {
//#if SOURCE == 0
  return mat4x4f(load_k(at.x, i), load_k(at.y, i), load_k(at.z, i), load_k(at.w, i));
//#else
//#if SOURCE == 1
  return shared_by_quad(load_k(at.x, i));
//#else
  return from_a(at.x + i);
//#endif
//#endif
}

fn four_v(at: vec4u, i: u32) -> mat4x4f {
//#if SOURCE == 0
  return mat4x4f(load_v(at.x, i), load_v(at.y, i), load_v(at.z, i), load_v(at.w, i));
//#else
//#if SOURCE == 1
  return shared_by_quad(load_v(at.x, i));
//#else
  return from_b(at.x + i);
//#endif
//#endif
}

//#if F16 == 0
fn four_q(at: vec4u, i: u32) -> mat4x4f {
//#if SOURCE == 0
  return mat4x4f(load_q(at.x, i), load_q(at.y, i), load_q(at.z, i), load_q(at.w, i));
//#else
//#if SOURCE == 1
  return shared_by_quad(load_q(at.x, i));
//#else
  return from_a(at.x + i);
//#endif
//#endif
}

fn four_dout(at: vec4u, i: u32) -> mat4x4f {
//#if SOURCE == 0
  return mat4x4f(load_dout(at.x, i), load_dout(at.y, i), load_dout(at.z, i), load_dout(at.w, i));
//#else
//#if SOURCE == 1
  return shared_by_quad(load_dout(at.x, i));
//#else
  return from_b(at.x + i);
//#endif
//#endif
}
//#endif

/// What is added up of four products: those of the invocation's part of a row become those of the whole row.
//#if SPLIT > 1 && SHUFFLE == true
fn across(part: vec4f) -> vec4f {
  var x = part + subgroupShuffleXor(part, 1u);
//#if SPLIT > 2
  x += subgroupShuffleXor(x, 2u);
//#endif
//#if SPLIT > 4
  x += subgroupShuffleXor(x, 4u);
//#endif
  return x;
}
//#endif
//#if SPLIT > 1 && SHUFFLE == false
fn gathered(slot: u32, lid: u32) -> vec4f {
  let at = slot * WG + lid / SPLIT * SPLIT;
  var x = parts[at];
  for (var s = 1u; s < SPLIT; s++) { x += parts[at + s]; }
  return x;
}
//#endif

/// Which of the four rows from `row` on there are.
fn present(row: u32) -> vec4<bool> {
  return vec4u(row) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.tokens);
}

fn highest_of(x: vec4f) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
  let at_a = q_at(wid.z, row_a, wid.y);
  var highest_a = LOWEST;
  var weight_a = 0.0;
//#unroll e PART
  let query_a_e = own_q(at_a, vector_of(e, lid)) * params.scale;
  var sum_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
//#if SOURCE == 2
    fill_kv(wid.z, first, wid.y, lid);
//#endif
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u * BLOCK) {
//#unroll b BLOCK
      let keys_b = k_rows(wid.z, first, j + 4u * b, wid.y, lid);
      let values_b = v_rows(wid.z, first, j + 4u * b, wid.y, lid);
      let there_b = present(first + j + 4u * b);
//#unroll a EACH
      var score_a_b = vec4f();
//#end
//#unroll e PART
      let key_b_e = four_k(keys_b, vector_of(e, lid));
//#unroll a EACH
      score_a_b += query_a_e * key_b_e;
//#end
//#end
//#end
//#if SPLIT > 1 && SHUFFLE == true
//#unroll a EACH
//#unroll b BLOCK
      score_a_b = across(score_a_b);
//#end
//#end
//#endif
//#if SPLIT > 1 && SHUFFLE == false
//#unroll a EACH
//#unroll b BLOCK
      parts[(a * BLOCK + b) * WG + lid] = score_a_b;
//#end
//#end
      workgroupBarrier();
//#unroll a EACH
//#unroll b BLOCK
      score_a_b = gathered(a * BLOCK + b, lid);
//#end
//#end
      workgroupBarrier();
//#endif
//#unroll a EACH
      var higher_a = highest_a;
//#unroll b BLOCK
      score_a_b = select(vec4f(LOWEST), score_a_b, there_b);
      higher_a = max(higher_a, highest_of(score_a_b));
//#end
      let rescale_a = exp(highest_a - higher_a);
      highest_a = higher_a;
      weight_a *= rescale_a;
//#unroll b BLOCK
      let p_a_b = exp(score_a_b - higher_a);
      weight_a += total(p_a_b);
//#end
//#unroll e PART
      sum_a_e *= rescale_a;
//#end
//#end
//#unroll b BLOCK
//#unroll e PART
      let value_b_e = four_v(values_b, vector_of(e, lid));
//#unroll a EACH
      sum_a_e += value_b_e * p_a_b;
//#end
//#end
//#end
    }
  }
//#unroll a EACH
  if (row_a < params.tokens) {
    let to_a = vector_at(wid.z, row_a, wid.y);
//#unroll e PART
    if (vector_of(e, lid) < HEAD4) { store_out(to_a, vector_of(e, lid), sum_a_e / weight_a); }
//#end
    if (vector_of(0u, lid) == 0u) { lse_out[row_at(wid.z, row_a, wid.y)] = highest_a + log(weight_a); }
  }
//#end
}

//#if F16 == 0
@compute @workgroup_size(WG)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
  let at_a = vector_at(wid.z, row_a, wid.y);
  let lse_a = lse[row_at(wid.z, row_a, wid.y)];
//#unroll e PART
  let query_a_e = own_q(q_at(wid.z, row_a, wid.y), vector_of(e, lid)) * params.scale;
  let grad_a_e = own_dout(at_a, vector_of(e, lid));
  var sum_a_e = vec4f();
//#end
  // Every invocation adds up the whole row: once, and so no exchange.
  var delta4_a = vec4f();
  for (var i = 0u; i < params.head4; i++) { delta4_a += load_dout(at_a, i) * load_o(at_a, i); }
  let delta_a = total(delta4_a);
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
//#if SOURCE == 2
    fill_kv(wid.z, first, wid.y, lid);
//#endif
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u) {
      let keys = k_rows(wid.z, first, j, wid.y, lid);
      let values = v_rows(wid.z, first, j, wid.y, lid);
      let there = present(first + j);
//#unroll a EACH
      var score_a = vec4f();
      var dp_a = vec4f();
//#end
//#unroll e PART
      let key_e = four_k(keys, vector_of(e, lid));
      let value_e = four_v(values, vector_of(e, lid));
//#unroll a EACH
      score_a += query_a_e * key_e;
      dp_a += grad_a_e * value_e;
//#end
//#end
//#if SPLIT > 1 && SHUFFLE == true
//#unroll a EACH
      score_a = across(score_a);
      dp_a = across(dp_a);
//#end
//#endif
//#if SPLIT > 1 && SHUFFLE == false
//#unroll a EACH
      parts[2u * a * WG + lid] = score_a;
      parts[(2u * a + 1u) * WG + lid] = dp_a;
//#end
      workgroupBarrier();
//#unroll a EACH
      score_a = gathered(2u * a, lid);
      dp_a = gathered(2u * a + 1u, lid);
//#end
      workgroupBarrier();
//#endif
//#unroll a EACH
      let p_a = select(vec4f(), exp(score_a - lse_a), there);
      let ds_a = p_a * (dp_a - delta_a) * params.scale;
//#end
//#unroll e PART
      let again_e = four_k(keys, vector_of(e, lid));
//#unroll a EACH
      sum_a_e += again_e * ds_a;
//#end
//#end
    }
  }
//#unroll a EACH
  if (row_a < params.tokens) {
//#unroll e PART
    if (vector_of(e, lid) < HEAD4) { store_dq(at_a, vector_of(e, lid), sum_a_e); }
//#end
    if (vector_of(0u, lid) == 0u) { delta_out[row_at(wid.z, row_a, wid.y)] = delta_a; }
  }
//#end
}

/// lse and delta of four rows.
fn four_lse(batch: u32, row: u32, head: u32, lid: u32) -> vec4f {
//#if SOURCE == 1
  let x = lse[row_at(batch, row + lid % 4u, head)];
  return vec4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u), quadBroadcast(x, 3u));
//#else
  return vec4f(
    lse[row_at(batch, row, head)], lse[row_at(batch, row + 1u, head)],
    lse[row_at(batch, row + 2u, head)], lse[row_at(batch, row + 3u, head)]);
//#endif
}

fn four_delta(batch: u32, row: u32, head: u32, lid: u32) -> vec4f {
//#if SOURCE == 1
  let x = delta[row_at(batch, row + lid % 4u, head)];
  return vec4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u), quadBroadcast(x, 3u));
//#else
  return vec4f(
    delta[row_at(batch, row, head)], delta[row_at(batch, row + 1u, head)],
    delta[row_at(batch, row + 2u, head)], delta[row_at(batch, row + 3u, head)]);
//#endif
}

@compute @workgroup_size(WG)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
//#unroll e PART
  let key_a_e = own_k(k_at(wid.z, row_a, wid.y), vector_of(e, lid)) * params.scale;
  let value_a_e = own_v(v_at(wid.z, row_a, wid.y), vector_of(e, lid));
  var dkey_a_e = vec4f();
  var dvalue_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
//#if SOURCE == 2
    fill_qd(wid.z, first, wid.y, lid);
//#endif
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u) {
      let queries = q_rows(wid.z, first, j, wid.y, lid);
      let grads = dout_rows(wid.z, first, j, wid.y, lid);
      let there = present(first + j);
//#unroll a EACH
      var score_a = vec4f();
      var dp_a = vec4f();
//#end
//#unroll e PART
      let query_e = four_q(queries, vector_of(e, lid));
      let grad_e = four_dout(grads, vector_of(e, lid));
//#unroll a EACH
      score_a += key_a_e * query_e;
      dp_a += value_a_e * grad_e;
//#end
//#end
//#if SPLIT > 1 && SHUFFLE == true
//#unroll a EACH
      score_a = across(score_a);
      dp_a = across(dp_a);
//#end
//#endif
//#if SPLIT > 1 && SHUFFLE == false
//#unroll a EACH
      parts[2u * a * WG + lid] = score_a;
      parts[(2u * a + 1u) * WG + lid] = dp_a;
//#end
      workgroupBarrier();
//#unroll a EACH
      score_a = gathered(2u * a, lid);
      dp_a = gathered(2u * a + 1u, lid);
//#end
      workgroupBarrier();
//#endif
      let lses = four_lse(wid.z, first + j, wid.y, lid);
      let deltas = four_delta(wid.z, first + j, wid.y, lid);
//#unroll a EACH
      let p_a = select(vec4f(), exp(score_a - lses), there);
      let ds_a = p_a * (dp_a - deltas) * params.scale;
//#end
//#unroll e PART
      let query_again_e = four_q(queries, vector_of(e, lid));
      let grad_again_e = four_dout(grads, vector_of(e, lid));
//#unroll a EACH
      dvalue_a_e += grad_again_e * p_a;
      dkey_a_e += query_again_e * ds_a;
//#end
//#end
    }
  }
//#unroll a EACH
  if (row_a < params.tokens) {
    let to_a = vector_at(wid.z, row_a, wid.y);
//#unroll e PART
    if (vector_of(e, lid) < HEAD4) {
      store_dk(to_a, vector_of(e, lid), dkey_a_e);
      store_dv(to_a, vector_of(e, lid), dvalue_a_e);
    }
//#end
  }
//#end
}
//#endif
