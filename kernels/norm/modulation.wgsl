// The gradients of layer norm's modulation (layernorm.wgsl), for each (sample b, channel c):
//   dshift[b, c] = sum over tokens of dy;  dscale[b, c] = sum over tokens of dy * xhat.

struct Params { samples: u32, tokens: u32, width: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<Value>;        // [samples, tokens, width]
@group(0) @binding(1) var<storage, read> stats: array<vec2f>;    // [samples, tokens]: mean, rstd
@group(0) @binding(2) var<storage, read> dy: array<Value>;
@group(0) @binding(3) var<storage, read_write> dshift: array<Value>;  // [samples, width]
@group(0) @binding(4) var<storage, read_write> dscale: array<Value>;

@compute @workgroup_size(COLUMNS, TEAM)
fn backward_mod(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.width / EACH;
  let i = linear_id(wid, groups, local.x, COLUMNS);
  let inside = i < params.samples * width;
  var sums = Sums();
  for (var t = local.y; t < params.tokens && inside; t += TEAM) {
    let r = i / width * params.tokens + t;
    let g = dy[r * width + i % width];
    sums.first += g;
    sums.second += g * (x[r * width + i % width] - stats[r].x) * stats[r].y;
  }
  sums = team_total(sums, local);
  if (inside && local.y == 0u) {
    dshift[i] = sums.first;
    dscale[i] = sums.second;
  }
}
