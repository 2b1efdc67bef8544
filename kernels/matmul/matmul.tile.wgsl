// The matrix product for GPUs: a workgroup stages DEPTH columns of A and rows of B in workgroup memory at a time, both with k as the
// line, so that inner loads are contiguous, and each invocation makes 4 GROUPS_M x 4 GROUPS_N sums, in named variables, so that
// no driver keeps them in an indexed array. Tile: TILE_M x TILE_N, (TILE_M / 4 GROUPS_M) x (TILE_N / 4 GROUPS_N) invocations.
// An invocation's groups of four rows (columns) lie TILE_M / GROUPS_M (TILE_N / GROUPS_N) apart: then neighbours read workgroup memory,
// and write C, side by side.
//
// Bounds are checked where the tile or the step juts out, a choice that the whole workgroup makes alike; elsewhere not.

override TILE_M: u32 = 64;
override TILE_N: u32 = 64;
override DEPTH: u32 = 16;
override GROUPS_M: u32 = 1;
override GROUPS_N: u32 = 1;
/// Workgroup memory as vec4f (1) or f32 (0): which is faster differs between GPUs.
override SHARED_VEC: u32 = 1;
/// 1: two barriers per step; 2: the next step is loaded while this one is multiplied, one barrier.
override BUFFERS: u32 = 1;
/// Units of A and of B that an invocation stages per step: ceil(units / invocations). See UnitA.
override LOADS_A: u32 = 1;
override LOADS_B: u32 = 1;
/// Unused elements after each line of workgroup memory, so that lines start in other banks.
override PAD: u32 = 4;

const COLUMNS: u32 = TILE_N / (4 * GROUPS_N);
const INVOCATIONS: u32 = TILE_M / (4 * GROUPS_M) * COLUMNS;
const PITCH_A: u32 = TILE_M + PAD;
const PITCH_B: u32 = TILE_N + PAD;

//#if SHARED_VEC == 1
var<workgroup> tileA: array<vec4f, BUFFERS * DEPTH * PITCH_A / 4>; // [buffer, k, m]
var<workgroup> tileB: array<vec4f, BUFFERS * DEPTH * PITCH_B / 4>; // [buffer, k, n]

fn readA(at: u32) -> vec4f { return tileA[at / 4u]; }
fn readB(at: u32) -> vec4f { return tileB[at / 4u]; }
fn keepA(at: u32, v: vec4f) { tileA[at / 4u] = v; }
fn keepB(at: u32, v: vec4f) { tileB[at / 4u] = v; }
//#else
var<workgroup> tileA: array<f32, BUFFERS * DEPTH * PITCH_A>;
var<workgroup> tileB: array<f32, BUFFERS * DEPTH * PITCH_B>;

fn readA(at: u32) -> vec4f { return vec4f(tileA[at], tileA[at + 1u], tileA[at + 2u], tileA[at + 3u]); }
fn readB(at: u32) -> vec4f { return vec4f(tileB[at], tileB[at + 1u], tileB[at + 2u], tileB[at + 3u]); }
fn keepA(at: u32, v: vec4f) {
  tileA[at] = v.x;
  tileA[at + 1u] = v.y;
  tileA[at + 2u] = v.z;
  tileA[at + 3u] = v.w;
}
fn keepB(at: u32, v: vec4f) {
  tileB[at] = v.x;
  tileB[at + 1u] = v.y;
  tileB[at + 2u] = v.z;
  tileB[at + 3u] = v.w;
}
//#endif

// A unit is what an invocation brings at once. Where the matrix is stored along the tile's line (A transposed, B not): four elements of a
// line. Else a block of 4 x 4, turned on the way. Neighbours bring units that are neighbours in the buffer.
//#if TRANSPOSE_A == 1
alias UnitA = vec4f;
const UNITS_A: u32 = TILE_M * DEPTH / 4;

fn bringA(asked: u32, m: u32, k: u32, end: u32, inside: bool) -> UnitA {
  let unit = min(asked, UNITS_A - 1u);
  let line = k + unit / (TILE_M / 4u);
  let at = m + unit % (TILE_M / 4u) * 4u;
  if (inside) { return wholeA(line, at, params.M); }
  return fetchA(line, at, end, params.M, params.M);
}

fn stageA(buffer: u32, unit: u32, x: UnitA) {
  if (unit < UNITS_A) {
    keepA((buffer * DEPTH + unit / (TILE_M / 4u)) * PITCH_A + unit % (TILE_M / 4u) * 4u, x);
  }
}
//#else
alias UnitA = mat4x4f;
const UNITS_A: u32 = TILE_M * DEPTH / 16;

fn bringA(asked: u32, m: u32, k: u32, end: u32, inside: bool) -> UnitA {
  let unit = min(asked, UNITS_A - 1u);
  let row = m + unit / (DEPTH / 4u) * 4u;
  let at = k + unit % (DEPTH / 4u) * 4u;
  if (inside) {
    return transpose(mat4x4f(
      wholeA(row, at, params.K), wholeA(row + 1u, at, params.K), wholeA(row + 2u, at, params.K), wholeA(row + 3u, at, params.K)));
  }
  return transpose(fragmentA(row, at, end));
}

fn stageA(buffer: u32, unit: u32, x: UnitA) {
  if (unit < UNITS_A) {
    let at = (buffer * DEPTH + unit % (DEPTH / 4u) * 4u) * PITCH_A + unit / (DEPTH / 4u) * 4u;
    keepA(at, x[0]);
    keepA(at + PITCH_A, x[1]);
    keepA(at + 2u * PITCH_A, x[2]);
    keepA(at + 3u * PITCH_A, x[3]);
  }
}
//#endif

//#if TRANSPOSE_B == 0
alias UnitB = vec4f;
const UNITS_B: u32 = TILE_N * DEPTH / 4;

fn bringB(asked: u32, n: u32, k: u32, end: u32, inside: bool) -> UnitB {
  let unit = min(asked, UNITS_B - 1u);
  let line = k + unit / (TILE_N / 4u);
  let at = n + unit % (TILE_N / 4u) * 4u;
  if (inside) { return wholeB(line, at, params.N); }
  return fetchB(line, at, end, params.N, params.N);
}

fn stageB(buffer: u32, unit: u32, x: UnitB) {
  if (unit < UNITS_B) {
    keepB((buffer * DEPTH + unit / (TILE_N / 4u)) * PITCH_B + unit % (TILE_N / 4u) * 4u, x);
  }
}
//#else
alias UnitB = mat4x4f;
const UNITS_B: u32 = TILE_N * DEPTH / 16;

fn bringB(asked: u32, n: u32, k: u32, end: u32, inside: bool) -> UnitB {
  let unit = min(asked, UNITS_B - 1u);
  let row = n + unit / (DEPTH / 4u) * 4u;
  let at = k + unit % (DEPTH / 4u) * 4u;
  if (inside) {
    return transpose(mat4x4f(
      wholeB(row, at, params.K), wholeB(row + 1u, at, params.K), wholeB(row + 2u, at, params.K), wholeB(row + 3u, at, params.K)));
  }
  return fragmentB(row, at, end); // turned already
}

fn stageB(buffer: u32, unit: u32, x: UnitB) {
  if (unit < UNITS_B) {
    let at = (buffer * DEPTH + unit % (DEPTH / 4u) * 4u) * PITCH_B + unit / (DEPTH / 4u) * 4u;
    keepB(at, x[0]);
    keepB(at + PITCH_B, x[1]);
    keepB(at + 2u * PITCH_B, x[2]);
    keepB(at + 3u * PITCH_B, x[3]);
  }
}
//#endif

@compute @workgroup_size(INVOCATIONS)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let m0 = group.y * TILE_M;
  let n0 = group.x * TILE_N;
  let rows = index / COLUMNS * 4u; // in the tile
  let columns = index % COLUMNS * 4u;
  let start = kStart(group.z);
  let end = kStop(group.z);
  let within = m0 + TILE_M <= params.M && n0 + TILE_N <= params.N;
//#unroll g GROUPS_M
//#unroll t 4
//#unroll h GROUPS_N
  var sum_g_t_h = vec4f();
//#end
//#end
//#end
//#if BUFFERS == 2
  var buffer = 0u;
  let first = within && start + DEPTH <= end;
//#unroll i LOADS_A
  stageA(0u, index + i * INVOCATIONS, bringA(index + i * INVOCATIONS, m0, start, end, first));
//#end
//#unroll i LOADS_B
  stageB(0u, index + i * INVOCATIONS, bringB(index + i * INVOCATIONS, n0, start, end, first));
//#end
  workgroupBarrier();
  for (var k = start + DEPTH; k < end + DEPTH; k += DEPTH) { // what is loaded: a step ahead
//#else
  const buffer = 0u;
  for (var k = start; k < end; k += DEPTH) {
//#endif
    let inside = within && k + DEPTH <= end;
//#unroll i LOADS_A
    let x_i = bringA(index + i * INVOCATIONS, m0, k, end, inside);
//#end
//#unroll i LOADS_B
    let y_i = bringB(index + i * INVOCATIONS, n0, k, end, inside);
//#end
//#if BUFFERS == 1
//#unroll i LOADS_A
    stageA(0u, index + i * INVOCATIONS, x_i);
//#end
//#unroll i LOADS_B
    stageB(0u, index + i * INVOCATIONS, y_i);
//#end
    workgroupBarrier();
//#endif
    for (var d = 0u; d < DEPTH; d++) {
      let lineA = (buffer * DEPTH + d) * PITCH_A + rows;
      let lineB = (buffer * DEPTH + d) * PITCH_B + columns;
//#unroll g GROUPS_M
      let a_g = readA(lineA + g * (TILE_M / GROUPS_M));
//#end
//#unroll h GROUPS_N
      let b_h = readB(lineB + h * (TILE_N / GROUPS_N));
//#end
//#unroll g GROUPS_M
//#unroll t 4
//#unroll h GROUPS_N
      sum_g_t_h = fma(vec4f(a_g[t]), b_h, sum_g_t_h);
//#end
//#end
//#end
    }
//#if BUFFERS == 2
    buffer = 1u - buffer;
//#unroll i LOADS_A
    stageA(buffer, index + i * INVOCATIONS, x_i);
//#end
//#unroll i LOADS_B
    stageB(buffer, index + i * INVOCATIONS, y_i);
//#end
//#endif
    workgroupBarrier();
  }
//#unroll g GROUPS_M
//#unroll t 4
//#unroll h GROUPS_N
  store(sum_g_t_h, m0 + g * (TILE_M / GROUPS_M) + rows + t, n0 + h * (TILE_N / GROUPS_N) + columns, group.z);
//#end
//#end
//#end
}
