// Attention for CPU drivers, where a load costs as much as a hundred multiplications: LANES lanes work on LANES * EACH queries (keys in
// `backward_kv`) of one (sample, head), a key at a time. With SHARE lane j loads the j-th of LANES keys once and the others get it by
// shuffling, which needs `subgroups` of at least so many lanes. Else every lane loads every key.
// Grid: (ceil(tokens / (LANES EACH)), heads, batch).
//
// Vectors are private arrays with a constant index wherever it matters, which is a plain load there. They are filled through a
// computed index first, and `head4` repeats HEAD4 as a run-time value for it: that keeps them in memory. As variables they would all
// stay live across the loads, each of which is forty basic blocks, and compile ten times as long. Loads of a row of more than 20 features
// are a loop, too, as is that over LANES keys: unrolled they ran no faster, and compiled two to five times as long. Loads through
// mirrors are straight code.

/// Whether lanes load for each other, or each for itself.
override SHARE: bool = true;
override LANES: u32 = 8;
/// Queries per lane.
override EACH: u32 = 4;

alias Vector = array<vec4f, HEAD4>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = head_of(wid);
  var key: Vector;
  var value: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * LANES + lane;
  let at_a = line(head.q, token_a);
  var highest_a = LOWEST;
  var weight_a = 0.0;
  var query_a: Vector;
  var sum_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    key[i] = vec4f();
    value[i] = vec4f();
//#unroll a EACH
    query_a[i] = load_q(at_a, i) * params.scale;
    sum_a[i] = vec4f();
//#end
  }
  for (var first = 0u; first < params.tokens; first += LANES) {
//#if SHARE == true
    let key_at = line(head.k, first + lane);
    let value_at = line(head.v, first + lane);
//#if MIRROR_KV == 1 || HEAD4 < 6
//#unroll e HEAD4
    key[e] = load_k(key_at, e);
//#end
//#unroll e HEAD4
    value[e] = load_v(value_at, e);
//#end
//#else
    for (var i = 0u; i < params.head4; i++) {
      key[i] = load_k(key_at, i);
      value[i] = load_v(value_at, i);
    }
//#endif
//#endif
    for (var j = 0u; j < min(LANES, params.tokens - first); j++) {
//#if SHARE == false
      let key_at = line(head.k, first + j);
      let value_at = line(head.v, first + j);
      for (var i = 0u; i < params.head4; i++) {
        key[i] = load_k(key_at, i);
        value[i] = load_v(value_at, i);
      }
//#endif
//#unroll a EACH
      var dot_a = vec4f();
//#end
//#unroll e HEAD4
//#if SHARE == true
      let key_e = subgroupShuffle(key[e], j);
//#else
      let key_e = key[e];
//#endif
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
//#if SHARE == true
      let value_e = subgroupShuffle(value[e], j);
//#else
      let value_e = value[e];
//#endif
//#unroll a EACH
      sum_a[e] = sum_a[e] * rescale_a + p_a * value_e;
//#end
//#end
    }
  }
//#unroll a EACH
  if (token_a < params.tokens) {
    let to_a = line(head.out, token_a);
    for (var i = 0u; i < params.head4; i++) { store_out(to_a, i, sum_a[i] / weight_a); }
    lse_out[line(head.row, token_a)] = highest_a + log(weight_a);
  }
//#end
}
