// The convolution by one subgroup of LANES lanes, for CPU drivers, where a load costs dozens of multiplications and passing a value
// between lanes next to nothing: each lane loads pixels of its own and hands them round, as in matmul.subgroup.wgsl, where the reasons
// for its form are. Needs `subgroups` of at least LANES lanes. Tile: LANES HEIGHT x 4 LANES WIDTH.

enable subgroups;

override LANES: u32 = 8;
/// Pixels per lane, and vectors of four columns.
override HEIGHT: u32 = 4;
override WIDTH: u32 = 1;

var<private> acc: array<f32, 4 * LANES * HEIGHT * WIDTH>; // [slot, WIDTH, 4 columns]

fn add(at: u32, v: vec4f) {
  acc[at] += v.x;
  acc[at + 1u] += v.y;
  acc[at + 2u] += v.z;
  acc[at + 3u] += v.w;
}

fn weights(tap: u32, c: u32, n: u32) -> mat4x4f {
  return mat4x4f(load_w(tap, c, n), load_w(tap, c + 1u, n), load_w(tap, c + 2u, n), load_w(tap, c + 3u, n));
}

@compute @workgroup_size(LANES)
fn convolve(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let m = tile(group, groups) * LANES * HEIGHT;
  let n = (group.y * LANES * WIDTH + lane) * 4u; // the lane's vectors of columns are 4 LANES apart
//#unroll h HEIGHT
  let pixel_h = pixel(m + h * LANES + lane);
//#end
  for (var tap = 0u; tap < params.side * params.side; tap++) {
    let dy = tap / params.side;
    let dx = tap % params.side;
//#unroll h HEIGHT
    let base_h = place(pixel_h, dy, dx);
//#end
    for (var c = 0u; c < params.channels; c += 4u) {
//#unroll w WIDTH
      let w_w = weights(tap, c, n + w * 4u * LANES);
//#end
//#unroll h HEIGHT
      let x_h = load_x(base_h, c);
//#end
//#unroll h HEIGHT
//#unroll j LANES
      let x_h_j = handed_j(x_h);
//#unroll w WIDTH
      add(((h * LANES + j) * WIDTH + w) * 4u, w_w * x_h_j);
//#end
//#end
//#end
    }
  }
  let slots = min(LANES * HEIGHT, params.rows * LANES * HEIGHT); // a bound the compiler cannot see through: the stores stay one loop
  for (var slot = 0u; slot < slots; slot++) {
    let row = m + slot / LANES * LANES + giver(slot % LANES, lane);
    for (var v = 0u; v < min(WIDTH, params.columns); v++) {
      let i = (slot * WIDTH + v) * 4u;
      store(vec4f(acc[i], acc[i + 1u], acc[i + 2u], acc[i + 3u]), row, n + v * 4u * LANES);
    }
  }
}
