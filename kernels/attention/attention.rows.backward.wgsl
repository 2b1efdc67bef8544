// The gradients of attention with rows in registers, as attention.rows.wgsl computes it.

@compute @workgroup_size(WG)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let head = head_of(wid);
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
  let at_a = line(head.out, row_a);
  let lse_a = lse[line(head.row, row_a)];
//#unroll e PART
  let query_a_e = own_q(line(head.q, row_a), vector_of(e, lid)) * params.scale;
  let grad_a_e = own_dout(at_a, vector_of(e, lid));
  var sum_a_e = vec4f();
//#end
  // Every invocation adds up the whole row: once, and so no exchange.
  var delta4_a = vec4f();
  for (var i = 0u; i < params.head4; i++) { delta4_a += load_dout(at_a, i) * load_o(at_a, i); }
  let delta_a = total(delta4_a);
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
    fill_kv(head, first, lid);
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u) {
      let at = j * PITCH;
      let there = present(first + j);
//#unroll a EACH
      var score_a = vec4f();
      var dp_a = vec4f();
//#end
//#unroll e PART
      let key_e = first_four(at + vector_of(e, lid));
      let value_e = second_four(at + vector_of(e, lid));
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
      let again_e = first_four(at + vector_of(e, lid));
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
    if (vector_of(0u, lid) == 0u) { delta_out[line(head.row, row_a)] = delta_a; }
  }
//#end
}

@compute @workgroup_size(WG)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let head = head_of(wid);
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
//#unroll e PART
  let key_a_e = own_k(line(head.k, row_a), vector_of(e, lid)) * params.scale;
  let value_a_e = own_v(line(head.v, row_a), vector_of(e, lid));
  var dkey_a_e = vec4f();
  var dvalue_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
    fill_qd(head, first, lid);
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u) {
      let at = j * PITCH;
      let there = present(first + j);
//#unroll a EACH
      var score_a = vec4f();
      var dp_a = vec4f();
//#end
//#unroll e PART
      let query_e = first_four(at + vector_of(e, lid));
      let grad_e = second_four(at + vector_of(e, lid));
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
      let lses = four_lse(head.row, first + j);
      let deltas = four_delta(head.row, first + j);
//#unroll a EACH
      let p_a = select(vec4f(), exp(score_a - lses), there);
      let ds_a = p_a * (dp_a - deltas) * params.scale;
//#end
//#unroll e PART
      let query_again_e = first_four(at + vector_of(e, lid));
      let grad_again_e = second_four(at + vector_of(e, lid));
//#unroll a EACH
      dvalue_a_e += grad_again_e * p_a;
      dkey_a_e += query_again_e * ds_a;
//#end
//#end
    }
  }
//#unroll a EACH
  if (row_a < params.tokens) {
    let to_a = line(head.out, row_a);
//#unroll e PART
    if (vector_of(e, lid) < HEAD4) {
      store_dk(to_a, vector_of(e, lid), dkey_a_e);
      store_dv(to_a, vector_of(e, lid), dvalue_a_e);
    }
//#end
  }
//#end
}
