// A gated residual, y = residual + gate[b] * branch, and its backward, by teams of invocations (token-sums.wgsl):
//   dbranch = gate * dy,  dgate[b, c] = sum over tokens of dy * branch.

struct Params { samples: u32, tokens: u32, width: u32, offset: u32, stride: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> dy: array<Value>;      // [samples, tokens, width]
@group(0) @binding(1) var<storage, read> branch: array<Value>;
@group(0) @binding(2) var<storage, read> gate: array<Value>;    // [samples, width], rows `stride` apart from `offset` on
@group(0) @binding(3) var<storage, read_write> dbranch: array<Value>;
@group(0) @binding(4) var<storage, read_write> dgate: array<Value>;  // [samples, width]
@group(0) @binding(5) var<storage, read> residual: array<Value>;
@group(0) @binding(6) var<storage, read_write> y: array<Value>;

/// Where channel i of all samples' begins, at token 0, and its gate's place.
fn places(i: u32) -> vec2u {
  let width = params.width / EACH;
  let b = i / width;
  return vec2u(b * params.tokens * width, (params.offset + b * params.stride) / EACH) + i % width;
}

@compute @workgroup_size(COLUMNS, TEAM)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.width / EACH;
  let i = linear_id(wid, groups, local.x, COLUMNS);
  let inside = i < params.samples * width;
  let at = places(i);
  let g = gate[at.y];
  var sums = Sums();
  for (var t = local.y; t < params.tokens && inside; t += TEAM) {
    let d = dy[at.x + t * width];
    dbranch[at.x + t * width] = g * d;
    sums.first += d * branch[at.x + t * width];
  }
  sums = team_total(sums, local);
  if (inside && local.y == 0u) { dgate[i] = sums.first; }
}

@compute @workgroup_size(COLUMNS, TEAM)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.width / EACH;
  let i = linear_id(wid, groups, local.x, COLUMNS);
  if (i >= params.samples * width) { return; }
  let at = places(i);
  let g = gate[at.y];
  for (var t = local.y; t < params.tokens; t += TEAM) {
    y[at.x + t * width] = residual[at.x + t * width] + g * branch[at.x + t * width];
  }
}
