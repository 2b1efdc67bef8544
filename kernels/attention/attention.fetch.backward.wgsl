// attention.fetch.wgsl, which comes before this, for the gradients: rows of queries and of the output's gradient.

fn own_o(base: u32, i: u32) -> vec4f { return select(vec4f(), load_o(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_dout(base: u32, i: u32) -> vec4f { return select(vec4f(), load_dout(base, min(i, HEAD4 - 1u)), i < HEAD4); }

//#if TILED == true
fn fill_qd(head: Head, first: u32, lid: u32) {
  workgroupBarrier();
  for (var at = lid; at < ROWS * PITCH; at += WG) {
    let row = first + at / PITCH;
    tile_a[at] = own_q(line(head.q, row), at % PITCH);
    tile_b[at] = own_dout(line(head.out, row), at % PITCH);
  }
  workgroupBarrier();
}
//#endif

fn four_q(at: vec4u, i: u32) -> mat4x4f {
//#if TILED == false
  return shared_by_quad(load_q(at.x, i));
//#else
  return from_a(at.x + i);
//#endif
}

fn four_dout(at: vec4u, i: u32) -> mat4x4f {
//#if TILED == false
  return shared_by_quad(load_dout(at.x, i));
//#else
  return from_b(at.x + i);
//#endif
}

/// lse and delta of four rows.
fn four_lse(rows: Lines, row: u32, lid: u32) -> vec4f {
//#if TILED == false
  return quad(lse[line(rows, row + lid % 4u)]);
//#else
  return vec4f(lse[line(rows, row)], lse[line(rows, row + 1u)], lse[line(rows, row + 2u)], lse[line(rows, row + 3u)]);
//#endif
}

fn four_delta(rows: Lines, row: u32, lid: u32) -> vec4f {
//#if TILED == false
  return quad(delta[line(rows, row + lid % 4u)]);
//#else
  return vec4f(
    delta[line(rows, row)], delta[line(rows, row + 1u)], delta[line(rows, row + 2u)], delta[line(rows, row + 3u)]);
//#endif
}

//#if TILED == false
fn quad(x: f32) -> vec4f {
  return vec4f(x, quadSwapX(x), quadSwapY(x), quadSwapDiagonal(x));
}
//#endif
