// attention.tile.wgsl, which comes before this, for the gradients: rows of queries and of the output's gradient.

fn own_o(base: u32, i: u32) -> vec4f { return select(vec4f(), load_o(base, min(i, HEAD4 - 1u)), i < HEAD4); }
fn own_dout(base: u32, i: u32) -> vec4f { return select(vec4f(), load_dout(base, min(i, HEAD4 - 1u)), i < HEAD4); }

fn fill_qd(head: Head, first: u32, lid: u32) {
  workgroupBarrier();
  for (var at = lid; at < ROWS * PITCH; at += WG) {
    let row = first + at / PITCH;
    tile_a[at] = own_q(line(head.q, row), at % PITCH);
    tile_b[at] = own_dout(line(head.out, row), at % PITCH);
  }
  workgroupBarrier();
}

/// lse and delta of four rows.
fn four_lse(rows: Lines, row: u32) -> vec4f {
  return vec4f(lse[line(rows, row)], lse[line(rows, row + 1u)], lse[line(rows, row + 2u)], lse[line(rows, row + 3u)]);
}

fn four_delta(rows: Lines, row: u32) -> vec4f {
  return vec4f(
    delta[line(rows, row)], delta[line(rows, row + 1u)], delta[line(rows, row + 2u)], delta[line(rows, row + 3u)]);
}

