// The gradients of attention with vectors in private arrays, as attention.arrays.wgsl computes it, which comes before this.

@compute @workgroup_size(LANES)
fn backward_q(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = head_of(wid);
  var key: Vector;
  var value: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * LANES + lane;
  let from_a = line(head.q, token_a);
  let at_a = line(head.out, token_a);
  let lse_a = lse[line(head.row, token_a)];
  var delta4_a = vec4f();
  var query_a: Vector;
  var grad_a: Vector;
  var sum_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    key[i] = vec4f();
    value[i] = vec4f();
//#unroll a EACH
    query_a[i] = load_q(from_a, i) * params.scale;
    let grad_here_a = load_dout(at_a, i);
    grad_a[i] = grad_here_a;
    delta4_a += grad_here_a * load_o(at_a, i);
    sum_a[i] = vec4f();
//#end
  }
//#unroll a EACH
  let delta_a = total(delta4_a);
//#end
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
      var score4_a = vec4f();
      var dp4_a = vec4f();
//#end
//#unroll e HEAD4
//#if SHARE == true
      let key_e = subgroupShuffle(key[e], j);
//#else
      let key_e = key[e];
//#endif
//#if SHARE == true
      let value_e = subgroupShuffle(value[e], j);
//#else
      let value_e = value[e];
//#endif
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
    for (var i = 0u; i < params.head4; i++) { store_dq(at_a, i, sum_a[i]); }
    delta_out[line(head.row, token_a)] = delta_a;
  }
//#end
}

@compute @workgroup_size(LANES)
fn backward_kv(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = head_of(wid);
  var query: Vector;
  var grad: Vector;
//#unroll a EACH
  let token_a = (wid.x * EACH + a) * LANES + lane;
  let key_at_a = line(head.k, token_a);
  let value_at_a = line(head.v, token_a);
  var key_a: Vector;
  var value_a: Vector;
  var dkey_a: Vector;
  var dvalue_a: Vector;
//#end
  for (var i = 0u; i < params.head4; i++) {
    query[i] = vec4f();
    grad[i] = vec4f();
//#unroll a EACH
    key_a[i] = load_k(key_at_a, i) * params.scale;
    value_a[i] = load_v(value_at_a, i);
    dkey_a[i] = vec4f();
    dvalue_a[i] = vec4f();
//#end
  }
  for (var first = 0u; first < params.tokens; first += LANES) {
//#if SHARE == true
    let query_at = line(head.q, first + lane);
    let grad_at = line(head.out, first + lane);
    let row = line(head.row, first + lane);
    let lse_mine = lse[row];
    let delta_mine = delta[row];
//#if MIRROR_QD == 1 || HEAD4 < 6
//#unroll e HEAD4
    query[e] = load_q(query_at, e);
//#end
//#unroll e HEAD4
    grad[e] = load_dout(grad_at, e);
//#end
//#else
    for (var i = 0u; i < params.head4; i++) {
      query[i] = load_q(query_at, i);
      grad[i] = load_dout(grad_at, i);
    }
//#endif
//#endif
    for (var j = 0u; j < min(LANES, params.tokens - first); j++) {
//#if SHARE == false
      let query_at = line(head.q, first + j);
      let grad_at = line(head.out, first + j);
      let row = line(head.row, first + j);
      let lse_j = lse[row];
      let delta_j = delta[row];
      for (var i = 0u; i < params.head4; i++) {
        query[i] = load_q(query_at, i);
        grad[i] = load_dout(grad_at, i);
      }
//#endif
//#unroll a EACH
      var score4_a = vec4f();
      var dp4_a = vec4f();
//#end
//#unroll e HEAD4
//#if SHARE == true
      let query_e = subgroupShuffle(query[e], j);
//#else
      let query_e = query[e];
//#endif
//#if SHARE == true
      let grad_e = subgroupShuffle(grad[e], j);
//#else
      let grad_e = grad[e];
//#endif
//#unroll a EACH
      score4_a += key_a[e] * query_e;
      dp4_a += value_a[e] * grad_e;
//#end
//#end
//#if SHARE == true
      let lse_j = subgroupShuffle(lse_mine, j);
      let delta_j = subgroupShuffle(delta_mine, j);
//#endif
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
    let at_a = line(head.out, token_a);
    for (var i = 0u; i < params.head4; i++) {
      store_dk(at_a, i, dkey_a[i]);
      store_dv(at_a, i, dvalue_a[i]);
    }
  }
//#end
}
