// The tile in workgroup memory that attention.rows.wgsl has its rows from, and how invocations that share a row add up their parts.
//
//   SPLIT   1, 2, 4 or 8: invocations that share a row, so that large heads do not spill registers. They add their parts of the products by
//           SHUFFLE, else through workgroup memory.
//   ROWS    rows of the tile.

override WG: u32 = 4;
override EACH: u32 = 4;
override SPLIT: u32 = 1;
/// HEAD4 / SPLIT, rounded up: vectors of a row that one invocation holds.
override PART: u32 = 6;
override ROWS: u32 = 4;
override BLOCK: u32 = 1;
override SHUFFLE: bool = false;

const PITCH = PART * SPLIT;

var<workgroup> tile_a: array<vec4f, ROWS * PITCH>;  // keys; queries in `backward_kv`
var<workgroup> tile_b: array<vec4f, ROWS * PITCH>;  // values; gradients of the output
//#if SPLIT > 1 && SHUFFLE == false
var<workgroup> parts: array<vec4f, 2 * EACH * BLOCK * WG>;
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
/// Brings rows from `first` on into the tiles.
fn fill_kv(head: Head, first: u32, lid: u32) {
  workgroupBarrier();
  for (var at = lid; at < ROWS * PITCH; at += WG) {
    let row = first + at / PITCH;
    tile_a[at] = own_k(line(head.k, row), at % PITCH);
    tile_b[at] = own_v(line(head.v, row), at % PITCH);
  }
  workgroupBarrier();
}

/// Vector i of four rows of the first tile, one a column; at: i, and PITCH times the first row's place in it.
fn first_four(at: u32) -> mat4x4f {
  return mat4x4f(tile_a[at], tile_a[at + PITCH], tile_a[at + 2u * PITCH], tile_a[at + 3u * PITCH]);
}

/// Likewise of the second.
fn second_four(at: u32) -> mat4x4f {
  return mat4x4f(tile_b[at], tile_b[at + PITCH], tile_b[at + 2u * PITCH], tile_b[at + 3u * PITCH]);
}

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
