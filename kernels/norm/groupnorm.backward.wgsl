// The gradients of group norm (groupnorm.wgsl, which this follows in the source): with v = xhat gain + bias, y = act(v) and dv = dy act'(v),
//   dbias[c] = sum dv,  dgain[c] = sum dv xhat,  over all pictures and pixels;
//   dx = rstd (g - mean(g) - xhat mean(g xhat)),  g = dv gain,  means over the pixels and channels of a group.
// In two passes over x and dy, as forward:
//   `measure_dy`  per channel and SEGMENT pixels of a row: the sums of dv and of dv xhat, from which columns are summed for gain and bias;
//   `combine_dy`  the two means of each group, in the same order every time, times what pixels multiply them by;
//   `differentiate`  pixel by pixel.

/// `differentiate`: adds what else the gradient consists of.
override ADD: u32 = 0;

@group(0) @binding(8) var<storage, read> dy: array<Value>;
@group(0) @binding(9) var<storage, read> rstd: array<Value>;             // [batch, channels]
@group(0) @binding(10) var<storage, read> rstds: array<f32>;             // the same, one by one
@group(0) @binding(11) var<storage, read_write> means_out: array<f32>;   // [batch, 2, channels]: rstd mean(g), rstd^2 mean(g xhat)
@group(0) @binding(12) var<storage, read> means: array<Value>;
@group(0) @binding(13) var<storage, read_write> dx: array<Value>;
//#if ADD == 1
@group(0) @binding(14) var<storage, read> earlier: array<Value>;
//#endif

/// act'(v).
fn slope(v: Value) -> Value {
//#if ACTIVATION == 1
  let s = 1.0 / (1.0 + exp(min(-v, Value() + 80.0)));
  return s * (1.0 + v * (1.0 - s));
//#else
//#if ACTIVATION == 2
  return select(Value(), Value() + 1.0, v > Value());
//#else
  return Value() + 1.0;
//#endif
//#endif
}

@compute @workgroup_size(WG)
fn measure_dy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let p = piece(linear_id(wid, groups, lid, WG));
  if (!p.inside) { return; }
  let values = params.channels / EACH;
  let mean = table[p.picture * 2u * values + p.channel];
  let factor = table[(p.picture * 2u + 1u) * values + p.channel];
  let offset = bias[p.channel];
  let scale = rstd[p.picture * values + p.channel];
  var sum = Value();
  var along = Value();
  for (var i = 0u; i < p.pixels; i++) {
    let at = p.first + i * values;
    let d = x[at] - mean;
    let dv = dy[at] * slope(d * factor + offset);
    sum += dv;
    along += dv * (d * scale);
  }
  parts_out[p.segment * 2u * values + p.channel] = sum;
  parts_out[(p.segment * 2u + 1u) * values + p.channel] = along;
}

/// Grid: a workgroup per picture and group.
@compute @workgroup_size(LANES)
fn combine_dy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let id = linear_id(wid, groups, 0u, 1u);
  let picture = id / params.groups;
  let size = params.channels / params.groups;
  let first = id % params.groups * size;
  let segments = params.height * params.segments; // of a picture
  let start = picture * segments;
  var sum = 0.0;
  var along = 0.0;
  for (var i = lane; i < segments; i += LANES) {
    for (var c = first; c < first + size; c++) {
      let at = (start + i) * 2u * params.channels + c;
      sum += gain[c] * parts[at];
      along += gain[c] * parts[at + params.channels];
    }
  }
  let count = f32(params.height * params.width * size);
  let mean = all_lanes(sum, lane) / count;
  let mean_along = all_lanes(along, lane) / count;
  // Groups past the last, where the grid was folded, have nothing to write.
  if (picture >= params.batch) { return; }
  for (var c = first + lane; c < first + size; c += LANES) {
    let scale = rstds[picture * params.channels + c];
    means_out[picture * 2u * params.channels + c] = scale * mean;
    means_out[(picture * 2u + 1u) * params.channels + c] = scale * scale * mean_along;
  }
}

@compute @workgroup_size(WG)
fn differentiate(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let p = piece(linear_id(wid, groups, lid, WG));
  if (!p.inside) { return; }
  let values = params.channels / EACH;
  let mean = table[p.picture * 2u * values + p.channel];
  let factor = table[(p.picture * 2u + 1u) * values + p.channel];
  let offset = bias[p.channel];
  let mean_g = means[p.picture * 2u * values + p.channel];
  let mean_along = means[(p.picture * 2u + 1u) * values + p.channel];
  for (var i = 0u; i < p.pixels; i++) {
    let at = p.first + i * values;
    let d = x[at] - mean;
    let v = factor * dy[at] * slope(d * factor + offset) - mean_g - d * mean_along;
//#if ADD == 1
    dx[at] = earlier[at] + v;
//#else
    dx[at] = v;
//#endif
  }
}
