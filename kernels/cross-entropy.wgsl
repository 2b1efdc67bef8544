// Cross-entropy of class scores: softmax and negative log likelihood of the label in one, and its gradient. The largest score of a
// row is taken away before anything is raised, and kept apart from the logarithm of the sum, so that no score overflows and none
// loses digits to a large offset that all share.

override WG: u32 = 64;
override TEAM: u32 = 1;      // invocations that share a row; divides WG
override EACH: u32 = 8;      // elements of one invocation of the gradient, WG apart

struct Params {
  rows: u32,
  classes: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> scores: array<f32>;             // [rows, classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>;             // [rows]
@group(0) @binding(2) var<storage, read_write> samples_out: array<f32>;  // [rows]
@group(0) @binding(3) var<storage, read_write> stats_out: array<f32>;    // [rows, 2]: largest score, log of the sum of exponentials above it

//#if TEAM > 1
var<workgroup> shared_values: array<f32, WG>;
//#endif

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, 0u, WG / TEAM) + lid / TEAM;
  let first = lid % TEAM;
  let base = row * params.classes;
  // Rows beyond the last have no classes: all invocations reach the barriers.
  let classes = select(0u, params.classes, row < params.rows);
  var largest = -3.4028234e38;
  for (var c = first; c < classes; c += TEAM) { largest = max(largest, scores[base + c]); }
//#if TEAM > 1
  shared_values[lid] = largest;
  workgroupBarrier();
  for (var i = 0u; i < TEAM; i++) { largest = max(largest, shared_values[lid - first + i]); }
  workgroupBarrier();
//#endif
  var sum = 0.0;
  for (var c = first; c < classes; c += TEAM) { sum += exp(scores[base + c] - largest); }
//#if TEAM > 1
  shared_values[lid] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < TEAM; i++) { sum += shared_values[lid - first + i]; }
//#endif
  if (first != 0u || row >= params.rows) { return; }
  let log_sum = log(sum);
  stats_out[2u * row] = largest;
  stats_out[2u * row + 1u] = log_sum;
  samples_out[row] = log_sum + (largest - scores[base + labels[row]]);
}

@group(0) @binding(4) var<storage, read> samples_in: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;  // [1]

@compute @workgroup_size(1)
fn total() {
  var sum = 0.0;
  for (var r = 0u; r < params.rows; r++) { sum += samples_in[r]; }
  loss[0] = sum / f32(max(params.rows, 1u));
}

@group(0) @binding(6) var<storage, read> stats: array<f32>;
@group(0) @binding(7) var<storage, read_write> dscores: array<f32>;
@group(0) @binding(8) var<storage, read> dloss: array<f32>;  // [1]

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  var factor = 1.0 / f32(params.rows);
  factor *= dloss[0];
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.rows * params.classes); i += WG) {
    let row = i / params.classes;
    let share = exp(scores[i] - stats[2u * row] - stats[2u * row + 1u]);
    dscores[i] = factor * (share - select(0.0, 1.0, i % params.classes == labels[row]));
  }
}
