// The matrix product without subgroups, workgroup memory or barriers: each invocation makes 8 rows by NV vectors of four columns. For
// SwiftShader, and for every device as a fallback. Tile: 8 WG_Y x 4 WG_X NV.

/// Workgroup shape, and vec4 columns per lane (1, 2 or 4).
override WG_X: u32 = 4;
override WG_Y: u32 = 1;
override NV: u32 = 2;

var<private> acc: array<vec4f, 8 * NV>; // [8 rows, NV] x 4 columns

fn accumulate(rows: u32, x: mat4x4f, j: u32, y: mat4x4f) {
  acc[rows * NV + j] += y * x[0];
  acc[(rows + 1u) * NV + j] += y * x[1];
  acc[(rows + 2u) * NV + j] += y * x[2];
  acc[(rows + 3u) * NV + j] += y * x[3];
}

@compute @workgroup_size(WG_X, WG_Y)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let m = (group.x * WG_Y + local.y) * 8u;
  let n = (group.y * WG_X * NV + local.x) * 4u; // the lane's column vectors are 4 WG_X apart
  let end = kStop(group.z);
  for (var k = kStart(group.z); k < end; k += 4u) {
    let x0 = fragmentA(m, k, end);
    let x1 = fragmentA(m + 4u, k, end);
    let y0 = fragmentB(n, k, end);
//#if NV > 1
    let y1 = fragmentB(n + 4u * WG_X, k, end);
//#endif
//#if NV > 2
    let y2 = fragmentB(n + 8u * WG_X, k, end);
    let y3 = fragmentB(n + 12u * WG_X, k, end);
//#endif
    accumulate(0u, x0, 0u, y0);
    accumulate(4u, x1, 0u, y0);
//#if NV > 1
    accumulate(0u, x0, 1u, y1);
    accumulate(4u, x1, 1u, y1);
//#endif
//#if NV > 2
    accumulate(0u, x0, 2u, y2);
    accumulate(4u, x1, 2u, y2);
    accumulate(0u, x0, 3u, y3);
    accumulate(4u, x1, 3u, y3);
//#endif
  }
  let rows = min(8u, max(params.M, m) - m);
  for (var r = 0u; r < rows; r++) {
    for (var j = 0u; j < min(NV, params.N); j++) {
      store(acc[r * NV + j], m + r, n + j * 4u * WG_X, group.z);
    }
  }
}