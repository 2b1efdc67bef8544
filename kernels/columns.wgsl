// Sums of a matrix's columns, over chunks of TERMS TEAM rows each, by teams of invocations (token-sums.wgsl).

override TERMS: u32 = 64;  // most rows that one invocation adds

struct Params { rows: u32, width: u32, offset: u32, stride: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<Value>;        // rows `stride` apart from `offset` on
@group(0) @binding(1) var<storage, read_write> y: array<Value>;  // [chunks, width]

@compute @workgroup_size(COLUMNS, TEAM)
fn columns(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.width / EACH;
  let id = linear_id(wid, groups, local.x, COLUMNS);
  let first = id / width * (TERMS * TEAM);
  let end = min(first + TERMS * TEAM, params.rows);
  // At least one chunk: no rows sum to zero.
  let inside = id < width || first < params.rows;
  var sums = Sums();
  for (var r = first + local.y; r < end; r += TEAM) {
    sums.first += x[(r * params.stride + params.offset) / EACH + id % width];
  }
  sums = team_total(sums, local);
  if (inside && local.y == 0u) { y[id] = sums.first; }
}
