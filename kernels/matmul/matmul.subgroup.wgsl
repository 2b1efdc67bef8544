// The matrix product by one subgroup of LANES lanes, for CPU drivers. On lavapipe (Mesa 25.0) an 8-lane storage load is eight checked
// loads per component (86 cycles for an f32, 271 for a vec4f, whether or not the lanes agree) while a broadcast is one or two
// instructions. So each lane loads rows of A of its own and hands them round, and the tile is large: the loads of a step of four k
// are HEIGHT + 4 WIDTH for LANES HEIGHT x 4 LANES WIDTH sums. Needs `subgroups` of at least LANES lanes and VEC 1.
// Tile: LANES HEIGHT x 4 LANES WIDTH.
//
// All loads of a step come before its arithmetic: each load from a buffer is forty basic blocks (from a mirror, as large products have
// it, a call), across which nothing should stay live. So the sums are a private array, with constant indices, which are plain loads and
// stores there, in the rows written out below.
// Loops stay rolled in the stores (bounds from `params`): each unrolled store would cost 30 ms of LLVM time.

enable subgroups;

override LANES: u32 = 8;
/// Rows per lane (a multiple of four where TRANSPOSE_A is 1), and vectors of four columns.
override HEIGHT: u32 = 4;
override WIDTH: u32 = 1;
/// HEIGHT / 4.
override QUARTERS: u32 = 1;
/// Fours of k between two additions to a sum: 1 or 2.
override FOURS: u32 = 1;

var<private> acc: array<f32, 4 * LANES * HEIGHT * WIDTH>; // [slot, WIDTH, 4 columns]; scalars, as vec4f take LLVM three times as long

fn add(at: u32, v: vec4f) {
  acc[at] += v.x;
  acc[at + 1u] += v.y;
  acc[at + 2u] += v.z;
  acc[at + 3u] += v.w;
}

// Where rows and columns lie is computed once, and no load asks whether it is inside: that took a fifth of the time on SwiftShader. Rows
// and columns past the end repeat the last, as what is made of them is not stored; of k past the end, A is zero and B that of the last.

/// k, or the last that there is where sums may end within a step: they do not where their length is a row's of vectors.
fn inside(k: u32, last: u32) -> u32 {
//#if TRANSPOSE_A == 0 && FOURS == 1
  return k;
//#else
  return min(k, last);
//#endif
}

//#if TRANSPOSE_A == 0
/// A[m, k..k+3] of the row that starts at `start`.
fn fourA(start: u32, k: u32, end: u32) -> vec4f {
  let x = loadA((start + inside(k, end - 4u)) / 4u);
//#if FOURS == 1
  return x;
//#else
  return select(vec4f(), x, k < end);
//#endif
}
//#endif

//#if TRANSPOSE_A == 1 && PATCHES == 0
/// Columns of the result: A[k..k+3, m + t] for t = 0..3, of the columns of A at `start`.
fn turnedA(start: u32, k: u32, end: u32) -> mat4x4f {
//#unroll i 4
  let line_i = select(vec4f(), loadA((start + inside(k + i, end - 1u) * params.M) / 4u), k + i < end);
//#end
  return transpose(mat4x4f(line_0, line_1, line_2, line_3));
}
//#endif

/// op(B)[k + i, n..n+3] for i = 0..3, of the columns at `start`; `length`: of the stored lines.
fn fourB(start: u32, length: u32, k: u32, end: u32) -> mat4x4f {
//#unroll i 4
//#if TRANSPOSE_B == 1
  let line_i = loadB((start + i * length + inside(k, end - 4u)) / 4u);
//#else
  let line_i = loadB((start + inside(k + i, end - 1u) * length) / 4u);
//#endif
//#end
  return turnedB(mat4x4f(line_0, line_1, line_2, line_3));
}

@compute @workgroup_size(LANES)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let m = group.x * LANES * HEIGHT;
  let n = (group.y * LANES * WIDTH + lane) * 4u; // the lane's vectors of columns are 4 LANES apart
  let end = kStop(group.z);
//#if TRANSPOSE_B == 1
  let lengthB = params.K;
//#else
  let lengthB = placeB(1u, 0u, params.N); // from a line to the next
//#endif
//#unroll w WIDTH
  let column_w = min(n + w * 4u * LANES, params.N - 4u);
//#if TRANSPOSE_B == 1
  let start_b_w = column_w * lengthB;
//#else
  let start_b_w = placeB(0u, column_w, lengthB);
//#endif
//#end
//#if TRANSPOSE_A == 0
  let lengthA = params.K;
//#unroll h HEIGHT
  let start_a_h = min(m + h * LANES + lane, params.M - 1u) * lengthA;
//#end
//#endif
//#if TRANSPOSE_A == 1 && PATCHES == 0
//#unroll q QUARTERS
  let start_a_q = min(m + (q * LANES + lane) * 4u, params.M - 4u);
//#end
//#endif
  for (var k = kStart(group.z); k < end; k += 4u * FOURS) {
//#unroll f FOURS
//#unroll w WIDTH
    let y_f_w = fourB(start_b_w, lengthB, k + 4u * f, end);
//#end
//#if TRANSPOSE_A == 0
//#unroll h HEIGHT
    let x_f_h = fourA(start_a_h, k + 4u * f, end);
//#end
//#else
    // Contiguous along m: the lane takes four rows after another, so slot (4 q + t) LANES + j is row 4 (q LANES + giver) + t.
//#unroll q QUARTERS
//#if PATCHES == 1
    let x_f_q = fragmentA(m + (q * LANES + lane) * 4u, k + 4u * f, end);
//#else
    let x_f_q = turnedA(start_a_q, k + 4u * f, end);
//#endif
//#end
//#endif
//#end
//#if TRANSPOSE_A == 1
//#unroll q QUARTERS
//#unroll t 4
//#unroll j LANES
//#unroll f FOURS
    let x_f_q_t_j = handed_j(x_f_q[t]);
//#end
//#unroll w WIDTH
//#if FOURS == 2
    add((((q * 4u + t) * LANES + j) * WIDTH + w) * 4u, y_0_w * x_0_q_t_j + y_1_w * x_1_q_t_j);
//#else
    add((((q * 4u + t) * LANES + j) * WIDTH + w) * 4u, y_0_w * x_0_q_t_j);
//#endif
//#end
//#end
//#end
//#end
//#else
//#unroll h HEIGHT
//#unroll j LANES
//#unroll f FOURS
    let x_f_h_j = handed_j(x_f_h);
//#end
//#unroll w WIDTH
//#if FOURS == 2
    add(((h * LANES + j) * WIDTH + w) * 4u, y_0_w * x_0_h_j + y_1_w * x_1_h_j);
//#else
    add(((h * LANES + j) * WIDTH + w) * 4u, y_0_w * x_0_h_j);
//#endif
//#end
//#end
//#end
//#endif
  }
  let slots = min(LANES * HEIGHT, params.M * LANES * HEIGHT); // a bound the compiler cannot see through: the stores stay one loop
  for (var slot = 0u; slot < slots; slot++) {
//#if TRANSPOSE_A == 1
    let row = m + (slot / (4u * LANES) * LANES + giver(slot % LANES, lane)) * 4u + slot / LANES % 4u;
//#else
    let row = m + slot / LANES * LANES + giver(slot % LANES, lane);
//#endif
    for (var w = 0u; w < min(WIDTH, params.N); w++) {
      let i = (slot * WIDTH + w) * 4u;
      store(vec4f(acc[i], acc[i + 1u], acc[i + 2u], acc[i + 3u]), row, n + w * 4u * LANES, group.z);
    }
  }
}
