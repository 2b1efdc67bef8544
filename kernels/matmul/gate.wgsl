// A gated residual, y = residual + gate[b] * branch, and its backward: one invocation owns one (sample, channel) and walks
// its tokens.
//   dbranch = gate * dy,  dgate[b, c] = sum over tokens of dy * branch.

override WG: u32 = 64;

struct Params { batch: u32, tokens: u32, width: u32, offset: u32, stride: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> dy: array<f32>;      // [batch, tokens, width]
@group(0) @binding(1) var<storage, read> branch: array<f32>;
@group(0) @binding(2) var<storage, read> gate: array<f32>;    // [batch, width], rows `stride` apart from `offset` on
@group(0) @binding(3) var<storage, read_write> dbranch: array<f32>;
@group(0) @binding(4) var<storage, read_write> dgate: array<f32>;  // [batch, width]

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, WG);
  if (i >= params.batch * params.width) { return; }
  let b = i / params.width;
  let c = i % params.width;
  let g = gate[params.offset + b * params.stride + c];
  var sum = 0.0;
  for (var t = 0u; t < params.tokens; t++) {
    let at = (b * params.tokens + t) * params.width + c;
    let d = dy[at];
    dbranch[at] = g * d;
    sum += d * branch[at];
  }
  dgate[i] = sum;
}

@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, WG);
  if (i >= params.batch * params.width) { return; }
  let b = i / params.width;
  let c = i % params.width;
  let g = gate[params.offset + b * params.stride + c];
  for (var t = 0u; t < params.tokens; t++) {
    let at = (b * params.tokens + t) * params.width + c;
    y[at] = residual[at] + g * branch[at];
  }
}
