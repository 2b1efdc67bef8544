// Where attention.rows.wgsl has its rows from, and how invocations that share a row add up their parts.
//
//   TILED   the four rows come from a tile of ROWS rows in workgroup memory (GPUs). Else each of four invocations loads one and the quad
//           shares them (subgroups of four: SwiftShader).
//   SPLIT   1, or with TILED also 2, 4, 8: invocations that share a row, so that large heads do not spill registers. They add their
//           parts of the products by SHUFFLE, else through workgroup memory.

override TILED: bool = false;
override WG: u32 = 4;
override EACH: u32 = 4;
override SPLIT: u32 = 1;
/// HEAD4 / SPLIT, rounded up: vectors of a row that one invocation holds.
override PART: u32 = 6;
override ROWS: u32 = 4;
override BLOCK: u32 = 1;
override SHUFFLE: bool = false;

const PITCH = PART * SPLIT;

//#if TILED == true
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
//#if TILED == true
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

fn from_a(at: u32) -> mat4x4f {
  return mat4x4f(tile_a[at], tile_a[at + PITCH], tile_a[at + 2u * PITCH], tile_a[at + 3u * PITCH]);
}

fn from_b(at: u32) -> mat4x4f {
  return mat4x4f(tile_b[at], tile_b[at + PITCH], tile_b[at + 2u * PITCH], tile_b[at + 3u * PITCH]);
}
//#endif

//#if TILED == false
/// In each lane its own vector, then those of its neighbours: lane l has as column c what lane l ^ c loaded. Swaps take a cycle where
/// broadcasts, by which all would see the same order, take 16 (SwiftShader).
fn shared_by_quad(x: vec4f) -> mat4x4f {
  return mat4x4f(x, quadSwapX(x), quadSwapY(x), quadSwapDiagonal(x));
}
//#endif

/// Where four rows from `first` + `j` on are, `first` being where the tile starts: for four_k and the like.
fn four_rows(lines: Lines, first: u32, j: u32, lid: u32) -> vec4u {
  let row = first + j;
//#if TILED == false
  return vec4u(line(lines, row + lid % 4u));
//#else
  return vec4u(j * PITCH);
//#endif
}

/// Vector i of four rows, one a column.
fn four_k(at: vec4u, i: u32) -> mat4x4f {
//#if TILED == false
  return shared_by_quad(load_k(at.x, i));
//#else
  return from_a(at.x + i);
//#endif
}

fn four_v(at: vec4u, i: u32) -> mat4x4f {
//#if TILED == false
  return shared_by_quad(load_v(at.x, i));
//#else
  return from_b(at.x + i);
//#endif
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

/// Which of the four rows from `row` on there are, in the invocation's order.
fn present(row: u32, lid: u32) -> vec4<bool> {
//#if TILED == false
  return vec4u(row) + (vec4u(0u, 1u, 2u, 3u) ^ vec4u(lid % 4u)) < vec4u(params.tokens);
//#else
  return vec4u(row) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.tokens);
//#endif
}
