// The convolution for GPUs: a workgroup stages DEPTH channels of TILE_M pixels and of TILE_N columns of w in workgroup memory at a time,
// and each invocation makes EACH pixels by four columns. Both tiles are vectors: of x four channels of a pixel, so that nothing is
// turned, of w four columns. An invocation's pixels lie TILE_M / EACH apart; neighbours share a pixel, which is read once for all, and
// read w side by side. Tile: TILE_M x TILE_N, (TILE_M / EACH) x (TILE_N / 4) invocations.

override TILE_M: u32 = 64;
override TILE_N: u32 = 64;
/// Channels staged at once, a multiple of four.
override DEPTH: u32 = 16;
/// Pixels of an invocation.
override EACH: u32 = 8;
/// Vectors that an invocation stages per step: ceil(vectors / invocations).
override LOADS_X: u32 = 2;
override LOADS_W: u32 = 2;

const COLUMNS: u32 = TILE_N / 4;
const LINES: u32 = TILE_M / EACH;
const INVOCATIONS: u32 = LINES * COLUMNS;
const DEPTH4: u32 = DEPTH / 4;
/// One more than needed, so that pixels start in other banks.
const PITCH: u32 = DEPTH4 + 1u;

var<workgroup> tile_x: array<vec4f, TILE_M * PITCH>; // [pixel, four channels]
var<workgroup> tile_w: array<vec4f, DEPTH * COLUMNS>; // [channel, four columns]

@compute @workgroup_size(INVOCATIONS)
fn convolve(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32) {
  let m0 = tile(group, groups) * TILE_M;
  let n0 = group.y * TILE_N;
  let line = index / COLUMNS;
  let column = index % COLUMNS;
//#unroll i LOADS_X
  let unit_i = index + i * INVOCATIONS;
  let pixel_i = pixel(m0 + unit_i / DEPTH4);
//#end
//#unroll r EACH
  var sum_r = vec4f();
//#end
  for (var tap = 0u; tap < params.side * params.side; tap++) {
    let dy = tap / params.side;
    let dx = tap % params.side;
//#unroll i LOADS_X
    let base_i = place(pixel_i, dy, dx);
//#end
    for (var c = 0u; c < params.channels; c += DEPTH) {
//#unroll i LOADS_X
      if (unit_i < TILE_M * DEPTH4) {
        tile_x[unit_i / DEPTH4 * PITCH + unit_i % DEPTH4] = load_x(base_i, c + unit_i % DEPTH4 * 4u);
      }
//#end
//#unroll i LOADS_W
      let taken_i = index + i * INVOCATIONS;
      if (taken_i < DEPTH * COLUMNS) {
        let channel_i = c + taken_i / COLUMNS;
        // Past the last channel lies the next tap: what is loaded there meets zeros of x, which it must not make NaN.
        tile_w[taken_i] = select(vec4f(), load_w(tap, min(channel_i, params.channels - 1u), n0 + taken_i % COLUMNS * 4u), channel_i < params.channels);
      }
//#end
      workgroupBarrier();
      for (var d = 0u; d < DEPTH4; d++) {
        let w_0 = tile_w[(4u * d) * COLUMNS + column];
        let w_1 = tile_w[(4u * d + 1u) * COLUMNS + column];
        let w_2 = tile_w[(4u * d + 2u) * COLUMNS + column];
        let w_3 = tile_w[(4u * d + 3u) * COLUMNS + column];
//#unroll r EACH
        let x_r = tile_x[(line + r * LINES) * PITCH + d];
        sum_r = fma(vec4f(x_r.x), w_0, fma(vec4f(x_r.y), w_1, fma(vec4f(x_r.z), w_2, fma(vec4f(x_r.w), w_3, sum_r))));
//#end
      }
      workgroupBarrier();
    }
  }
//#unroll r EACH
  store(sum_r, m0 + line + r * LINES, n0 + column * 4u);
//#end
}
