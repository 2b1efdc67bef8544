// Inverted dropout: y = x / (1 - rate) where kept, 0 elsewhere. Element i is kept by word i % 4 of
// philox((i / 4, 0, step, 0), (seed, stream)), so the backward makes the same mask again instead of reading one.
// Where rows have numbers of their own, element e of row r is element indices[r] * width + e.

override WG: u32 = 64;
override EACH: u32 = 4;  // counters of one invocation, WG apart: CPU drivers pay for every workgroup
override INDEXED: u32 = 0;

struct Params {
  size: u32,
  width: u32,  // elements of one row
  seed: u32,
  stream: u32,
  step: u32,
  drop: u32,   // rate in units of 2^-24
  scale: f32,  // 1 / (1 - rate)
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
//#if INDEXED == 1
@group(0) @binding(2) var<storage, read> indices: array<u32>;  // a number for each row
//#endif

fn draw(quad: u32) -> vec4u {
  return philox(vec4u(quad, 0u, params.step, 0u), vec2u(params.seed, params.stream));
}

@compute @workgroup_size(WG)
fn apply(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var quad = first; quad < min(first + WG * EACH, (params.size + 3u) / 4u); quad += WG) {
//#if INDEXED == 1
    // Four elements here are four in the whole batch, but need not begin where a counter does, nor lie in one row.
    for (var i = 4u * quad; i < min(4u * quad + 4u, params.size); i++) {
      let whole = indices[i / params.width] * params.width + i % params.width;
      let words = draw(whole / 4u);
      y[i] = select(0.0, x[i] * params.scale, (words[whole % 4u] >> 8u) >= params.drop);
    }
//#else
    let words = draw(quad);
    for (var k = 0u; k < min(4u, params.size - 4u * quad); k++) {
      y[4u * quad + k] = select(0.0, x[4u * quad + k] * params.scale, (words[k] >> 8u) >= params.drop);
    }
//#endif
  }
}
