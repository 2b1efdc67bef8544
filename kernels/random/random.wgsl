// Uniform and normal random numbers. Element e of row r: word e % 4 of philox((e / 4, sample, step, 0), (seed, stream)),
// where sample is indices[r], or r. One invocation makes the four elements of one counter.

override WG: u32 = 64;
override INDEXED: u32 = 0;

struct Params {
  rows: u32,
  width: u32,  // elements of one row
  seed: u32,
  stream: u32,
  step: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read_write> result: array<f32>;  // [rows, width]
//#if INDEXED == 1
@group(0) @binding(1) var<storage, read> indices: array<u32>;  // [rows]
//#endif

/// The random words of an invocation.
fn draw(row: u32, quad: u32) -> vec4u {
//#if INDEXED == 1
  let sample = indices[row];
//#else
  let sample = row;
//#endif
  return philox(vec4u(quad, sample, params.step, 0u), vec2u(params.seed, params.stream));
}

fn store(row: u32, quad: u32, values: vec4f) {
  for (var k = 0u; k < min(4u, params.width - 4u * quad); k++) {
    result[row * params.width + 4u * quad + k] = values[k];
  }
}

@compute @workgroup_size(WG)
fn uniforms(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let quads = (params.width + 3u) / 4u;
  let id = linear_id(wid, groups, lid, WG);
  if (id >= params.rows * quads) { return; }
  let words = draw(id / quads, id % quads);
  store(id / quads, id % quads, vec4f(words >> vec4u(8u)) * 0x1p-24);
}

/// Two standard normals from two random words (Box & Muller 1958).
fn box_muller(a: u32, b: u32) -> vec2f {
  let radius = sqrt(max(0.0, -2.0 * precise_log((f32(a >> 8u) + 0.5) * 0x1p-24)));
  // The angle in units of a full turn is k / 2^24: its nearest quarter is taken off exactly.
  let k = i32(b >> 8u);
  let quarters = (k + 0x200000) >> 22u;
  let angle = f32(k - (quarters << 22u)) * 3.7450703e-7;  // 2 pi / 2^24
  return radius * precise_cos_sin(angle, quarters);
}

@compute @workgroup_size(WG)
fn normals(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let quads = (params.width + 3u) / 4u;
  let id = linear_id(wid, groups, lid, WG);
  if (id >= params.rows * quads) { return; }
  let words = draw(id / quads, id % quads);
  store(id / quads, id % quads, vec4f(box_muller(words.x, words.y), box_muller(words.z, words.w)));
}
