// The matrix product for few rows (a modulation has one per sample): its time is that of reading B, so a workgroup reads LANES vectors of
// four columns of B once for up to ROWS rows, side by side, and K is dealt out to PARTS lines of invocations, step by step of four.
// Their sums are added in order, so a row has the same bits whatever rows it is computed with. Needs VEC 1, TRANSPOSE_A 0 and SPLIT_K 0.
// Tile: ROWS x 4 LANES.

override LANES: u32 = 8;
override PARTS: u32 = 32;
override ROWS: u32 = 4;

//#if PARTS > 1
var<workgroup> parts: array<vec4f, ROWS * PARTS * LANES>; // 16 KiB at most
//#endif

@compute @workgroup_size(LANES, PARTS)
fn matmul(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) local: vec3u
) {
  let m = min((group.y + group.z * groups.y) * ROWS, params.M);
  let n = (group.x * LANES + local.x) * 4u;
  let rows = min(ROWS, params.M - m);
//#unroll r ROWS
  var sum_r = vec4f();
//#end
  for (var k = local.y * 4u; k < params.K; k += PARTS * 4u) {
    let y = fragmentB(n, k, params.K);
//#unroll r ROWS
    if (r < rows) {
      let x = wholeA(m + r, k, params.K);
      sum_r = fma(y[0], vec4f(x.x), sum_r);
      sum_r = fma(y[1], vec4f(x.y), sum_r);
      sum_r = fma(y[2], vec4f(x.z), sum_r);
      sum_r = fma(y[3], vec4f(x.w), sum_r);
    }
//#end
  }
//#if PARTS > 1
//#unroll r ROWS
  parts[(r * PARTS + local.y) * LANES + local.x] = sum_r;
//#end
  workgroupBarrier();
  for (var r = local.y; r < rows; r += PARTS) {
    var sum = parts[r * PARTS * LANES + local.x];
    for (var p = 1u; p < PARTS; p++) { sum += parts[(r * PARTS + p) * LANES + local.x]; }
    store(sum, m + r, n, 0u);
  }
//#else
//#unroll r ROWS
  if (r < rows) { store(sum_r, m + r, n, 0u); }
//#end
//#endif
}
