// The convolution without subgroups, workgroup memory or barriers: each invocation makes 8 pixels by NV vectors of four columns. For
// every device as a fallback, and where there are few columns. Tile: 8 WG_Y x 4 WG_X NV.

/// Workgroup shape, and vec4 columns per lane (1 or 2).
override WG_X: u32 = 4;
override WG_Y: u32 = 1;
override NV: u32 = 2;

var<private> acc: array<vec4f, 8 * NV>; // [8 rows, NV] x 4 columns

fn accumulate(rows: u32, a: mat4x4f, j: u32, b: mat4x4f) {
  acc[rows * NV + j] += b * a[0];
  acc[(rows + 1u) * NV + j] += b * a[1];
  acc[(rows + 2u) * NV + j] += b * a[2];
  acc[(rows + 3u) * NV + j] += b * a[3];
}

fn weights(tap: u32, c: u32, n: u32) -> mat4x4f {
  return mat4x4f(load_w(tap, c, n), load_w(tap, c + 1u, n), load_w(tap, c + 2u, n), load_w(tap, c + 3u, n));
}

@compute @workgroup_size(WG_X, WG_Y)
fn convolve(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let m = (tile(group, groups) * WG_Y + local.y) * 8u;
  let n = (group.y * WG_X * NV + local.x) * 4u; // the lane's column vectors are 4 WG_X apart
//#unroll r 8
  let pixel_r = pixel(m + r);
//#end
  for (var tap = 0u; tap < params.side * params.side; tap++) {
    let dy = tap / params.side;
    let dx = tap % params.side;
//#unroll r 8
    let base_r = place(pixel_r, dy, dx);
//#end
    for (var c = 0u; c < params.channels; c += 4u) {
      let x0 = mat4x4f(load_x(base_0, c), load_x(base_1, c), load_x(base_2, c), load_x(base_3, c));
      let x1 = mat4x4f(load_x(base_4, c), load_x(base_5, c), load_x(base_6, c), load_x(base_7, c));
      let w0 = weights(tap, c, n);
//#if NV > 1
      let w1 = weights(tap, c, n + 4u * WG_X);
//#endif
      accumulate(0u, x0, 0u, w0);
      accumulate(4u, x1, 0u, w0);
//#if NV > 1
      accumulate(0u, x0, 1u, w1);
      accumulate(4u, x1, 1u, w1);
//#endif
    }
  }
  let rows = min(8u, max(params.rows, m) - m);
  for (var r = 0u; r < rows; r++) {
    for (var j = 0u; j < min(NV, params.columns); j++) {
      store(acc[r * NV + j], m + r, n + j * 4u * WG_X);
    }
  }
}
