// The matrix product by the matrix units of a GPU (Chromium's experimental subgroup matrices), where both factors are stored as f16: they
// are multiplied as they are, and sums are f32. A workgroup of four subgroups stages both in workgroup memory, zeros where they end;
// each subgroup makes 2 x 2 units. There is no access to single elements of a unit, so the results pass through workgroup memory.
// Needs F16_A 1, PACK_B 1, VEC 1, nothing transposed, SPLIT_K 0, LANES lanes in every subgroup, and `shader-f16`.
// Tile: 4 UNIT_M x 4 UNIT_N.

enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
//#if PINNED == 1
enable subgroup_size_control;
//#endif

override UNIT_M: u32 = 16;
override UNIT_N: u32 = 16;
override UNIT_K: u32 = 16;
override LANES: u32 = 32;
/// 1: subgroups have several sizes, of which LANES is asked for.
override PINNED: u32 = 0;

const TILE_M: u32 = 4 * UNIT_M;
const TILE_N: u32 = 4 * UNIT_N;
const DEPTH: u32 = 2 * UNIT_K;
const INVOCATIONS: u32 = 4 * LANES;

// Columns, then rows.
alias Left = subgroup_matrix_left<f16, UNIT_K, UNIT_M>;
alias Right = subgroup_matrix_right<f16, UNIT_N, UNIT_K>;
alias Sums = subgroup_matrix_result<f32, UNIT_N, UNIT_M>;

var<workgroup> stagedA: array<f16, TILE_M * DEPTH>; // [m, k]
var<workgroup> stagedB: array<f16, DEPTH * TILE_N>; // [k, n]
var<workgroup> results: array<f32, 4 * UNIT_M * UNIT_N>; // [subgroup, m, n]

//#if PINNED == 1
@subgroup_size(LANES)
//#endif
@compute @workgroup_size(INVOCATIONS)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let m0 = group.y * TILE_M;
  let n0 = group.x * TILE_N;
  let subgroup = index / LANES;
  let rows = subgroup / 2u * 2u * UNIT_M; // of the subgroup, in the tile
  let columns = subgroup % 2u * 2u * UNIT_N;
//#unroll g 2
//#unroll h 2
  var sum_g_h = Sums();
//#end
//#end
  for (var k = 0u; k < params.K; k += DEPTH) {
    for (var i = index; i < TILE_M * DEPTH / 4u; i += INVOCATIONS) {
      let row = m0 + i / (DEPTH / 4u);
      let at = k + i % (DEPTH / 4u) * 4u;
      let inside = row < params.M && at < params.K;
      let halves = bitcast<vec4<f16>>(select(vec2u(), a[select(0u, (row * params.K + at) / 4u, inside)], inside));
      stagedA[i * 4u] = halves.x;
      stagedA[i * 4u + 1u] = halves.y;
      stagedA[i * 4u + 2u] = halves.z;
      stagedA[i * 4u + 3u] = halves.w;
    }
    for (var i = index; i < TILE_N * DEPTH / 4u; i += INVOCATIONS) {
      let row = k + i / (TILE_N / 4u);
      let at = n0 + i % (TILE_N / 4u) * 4u;
      let inside = row < params.K && at < params.N;
      let halves = bitcast<vec4<f16>>(select(vec2u(), b[select(0u, placeB(row, at, params.N) / 4u, inside)], inside));
      stagedB[i * 4u] = halves.x;
      stagedB[i * 4u + 1u] = halves.y;
      stagedB[i * 4u + 2u] = halves.z;
      stagedB[i * 4u + 3u] = halves.w;
    }
    workgroupBarrier();
//#unroll d 2
//#unroll g 2
    let x_d_g = subgroupMatrixLoad<Left, row_major>(&stagedA, (rows + g * UNIT_M) * DEPTH + d * UNIT_K, DEPTH);
//#end
//#unroll h 2
    let y_d_h = subgroupMatrixLoad<Right, row_major>(&stagedB, d * UNIT_K * TILE_N + columns + h * UNIT_N, TILE_N);
//#end
//#unroll g 2
//#unroll h 2
    sum_g_h = subgroupMatrixMultiplyAccumulate(x_d_g, y_d_h, sum_g_h);
//#end
//#end
//#end
    workgroupBarrier();
  }
//#unroll g 2
//#unroll h 2
  subgroupMatrixStore<row_major>(&results, subgroup * UNIT_M * UNIT_N, sum_g_h, UNIT_N);
  workgroupBarrier();
  for (var i = index % LANES; i < UNIT_M * UNIT_N / 4u; i += LANES) {
    let row = i / (UNIT_N / 4u);
    let column = i % (UNIT_N / 4u) * 4u;
    let at = (subgroup * UNIT_M + row) * UNIT_N + column;
    let v = vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
    store(v, m0 + rows + g * UNIT_M + row, n0 + columns + h * UNIT_N + column, 0u);
  }
  workgroupBarrier();
//#end
//#end
}
