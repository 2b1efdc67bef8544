// Attention for GPUs, with rows in registers: an invocation owns EACH rows, or one of SPLIT parts of each (every SPLIT-th vector), and walks
// the other side of the product four rows at a time, as the columns of matrices, so that each vector read serves EACH rows. They come
// from a tile in workgroup memory: attention.tile.wgsl.
//
//   BLOCK   steps of four rows between two renewals of the softmax's maximum. ROWS is a multiple of 4 BLOCK.
//
// Grid: (ceil(tokens / (WG / SPLIT * EACH)), heads, batch). Nothing leaves a loop early: barriers need all invocations.

fn highest_of(x: vec4f) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let head = head_of(wid);
//#unroll a EACH
  let row_a = row_of(wid.x, a, lid);
  let at_a = line(head.q, row_a);
  var highest_a = LOWEST;
  var weight_a = 0.0;
//#unroll e PART
  let query_a_e = own_q(at_a, vector_of(e, lid)) * params.scale;
  var sum_a_e = vec4f();
//#end
//#end
  for (var first = 0u; first < params.tokens; first += ROWS) {
    fill_kv(head, first, lid);
    let end = min(ROWS, params.tokens - first);
    for (var j = 0u; j < end; j += 4u * BLOCK) {
//#unroll b BLOCK
      let at_b = (j + 4u * b) * PITCH;
      let there_b = present(first + j + 4u * b);
//#unroll a EACH
      var score_a_b = vec4f();
//#end
//#unroll e PART
      let key_b_e = first_four(at_b + vector_of(e, lid));
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
      let value_b_e = second_four(at_b + vector_of(e, lid));
//#unroll a EACH
      sum_a_e += value_b_e * p_a_b;
//#end
//#end
//#end
    }
  }
//#unroll a EACH
  if (row_a < params.tokens) {
    let to_a = line(head.out, row_a);
//#unroll e PART
    if (vector_of(e, lid) < HEAD4) { store_out(to_a, vector_of(e, lid), sum_a_e / weight_a); }
//#end
    if (vector_of(0u, lid) == 0u) { lse_out[line(head.row, row_a)] = highest_a + log(weight_a); }
  }
//#end
}
