// RMS norm (Zhang & Sennrich 2019): y = gain * x / sqrt(mean(x^2) + eps). One invocation per row.

override WG: u32 = 64;

struct Params {
  rows: u32,
  width: u32,
  eps: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;               // [rows, width]
@group(0) @binding(1) var<storage, read> gain: array<f32>;            // [width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;         // [rows, width]
@group(0) @binding(3) var<storage, read_write> rstd_out: array<f32>;  // [rows]
@group(0) @binding(4) var<storage, read> rstd: array<f32>;            // [rows]
@group(0) @binding(5) var<storage, read> dy: array<f32>;              // [rows, width]
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;        // [rows, width]
@group(0) @binding(7) var<storage, read_write> dgain_rows: array<f32>;  // [rows, width], to be summed over rows

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, lid, WG);
  if (row >= params.rows) { return; }
  let start = row * params.width;
  var squares = 0.0;
  for (var c = 0u; c < params.width; c++) {
    squares += x[start + c] * x[start + c];
  }
  let r = inverseSqrt(squares / f32(params.width) + params.eps);
  rstd_out[row] = r;
  for (var c = 0u; c < params.width; c++) {
    y[start + c] = gain[c] * x[start + c] * r;
  }
}

// With r = rstd: dx = r (gain dy - x r^2 mean(gain dy x)), and row by row dgain = dy x r.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linear_id(wid, groups, lid, WG);
  if (row >= params.rows) { return; }
  let start = row * params.width;
  let r = rstd[row];
  var dot = 0.0;
  for (var c = 0u; c < params.width; c++) {
    dot += gain[c] * dy[start + c] * x[start + c];
  }
  let mean = dot / f32(params.width);
  for (var c = 0u; c < params.width; c++) {
    let i = start + c;
    dx[i] = r * (gain[c] * dy[i] - x[i] * r * r * mean);
    dgain_rows[i] = dy[i] * x[i] * r;
  }
}
