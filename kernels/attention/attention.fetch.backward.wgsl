// attention.fetch.wgsl, which comes before this, for the gradients: rows of queries and of the output's gradient.

fn own_o(base: u32, i: u32) -> vec4f { return select(vec4f(), load_o(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_dout(base: u32, i: u32) -> vec4f { return select(vec4f(), load_dout(base, min(i, HEAD4 - 1u)), i < HEAD4); }

//#if SOURCE == 2
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

/// As k_rows: for four_q, four_dout.
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

/// lse and delta of four rows.
fn four_lse(batch: u32, row: u32, head: u32, lid: u32) -> vec4f {
//#if SOURCE == 1
  let x = lse[row_at(batch, row + lid % 4u, head)];
  return vec4f(x, quadSwapX(x), quadSwapY(x), quadSwapDiagonal(x));
//#else
  return vec4f(
    lse[row_at(batch, row, head)], lse[row_at(batch, row + 1u, head)],
    lse[row_at(batch, row + 2u, head)], lse[row_at(batch, row + 3u, head)]);
//#endif
}

fn four_delta(batch: u32, row: u32, head: u32, lid: u32) -> vec4f {
//#if SOURCE == 1
  let x = delta[row_at(batch, row + lid % 4u, head)];
  return vec4f(x, quadSwapX(x), quadSwapY(x), quadSwapDiagonal(x));
//#else
  return vec4f(
    delta[row_at(batch, row, head)], delta[row_at(batch, row + 1u, head)],
    delta[row_at(batch, row + 2u, head)], delta[row_at(batch, row + 3u, head)]);
//#endif
}
