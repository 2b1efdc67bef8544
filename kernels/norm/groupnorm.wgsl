// Group norm (Wu & He 2018) of pictures [batch, height, width, channels], and SiLU or ReLU of it:
//   y = act((x - mean[b, g]) * rstd[b, g] * gain[c] + bias[c]),  g = c / (channels / groups);
// mean and variance (biased) over the pixels and channels of a group. In three entries:
//   `measure`  per channel and SEGMENT pixels of a row: their mean, and the sum of squares of their distances from it;
//   `combine`  adds these up per group, in the same order every time, as Chan et al. (1979) do, so that nothing cancels;
//   `normalise`  pixel by pixel.
// A row's parts depend on the row alone, so that a picture may come in bands of rows: `measure` and `normalise` then do `rows` rows of it,
// from row `skip` of x on, to row `into` of the parts or of y.

override WG: u32 = 64;
/// Pixels of a row that one invocation takes.
override SEGMENT: u32 = 64;
/// Channels come four at a time: there are a multiple of four.
override VEC: u32 = 1;
/// 0: nothing; 1: SiLU; 2: ReLU follows.
override ACTIVATION: u32 = 0;
/// `combine`: invocations that share a group, a power of two.
override LANES: u32 = 1;
/// `combine`: keeps 1 / deviation by itself, for the gradient.
override KEEP: u32 = 0;

struct Params {
  batch: u32,
  height: u32,
  width: u32,
  channels: u32,
  groups: u32,
  segments: u32, // of a row
  rows: u32,     // batch * height, or those of a band
  skip: u32,
  into: u32,
  eps: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

//#if VEC == 1
alias Value = vec4f;
const EACH = 4u;
//#else
alias Value = f32;
const EACH = 1u;
//#endif

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read_write> parts_out: array<Value>; // [batch, height, segments, 2, channels]: mean, squares
@group(0) @binding(2) var<storage, read> parts: array<f32>;
@group(0) @binding(3) var<storage, read> gain: array<f32>;               // [channels]
@group(0) @binding(4) var<storage, read_write> table_out: array<f32>;    // [batch, 2, channels]: mean, rstd * gain
@group(0) @binding(5) var<storage, read> table: array<Value>;
@group(0) @binding(6) var<storage, read> bias: array<Value>;             // [channels]
@group(0) @binding(7) var<storage, read_write> y: array<Value>;
//#if KEEP == 1
@group(0) @binding(15) var<storage, read_write> rstd_out: array<f32>;    // [batch, channels]
//#endif

/// What an invocation of `measure` and `normalise` works on: its channels of some pixels of a row.
struct Piece {
  inside: bool,
  segment: u32, // of the parts
  channel: u32, // in units of Value
  picture: u32,
  first: u32,   // element of x, in units of Value
  to: u32,      // element of y
  pixels: u32,
}

fn piece(id: u32) -> Piece {
  let values = params.channels / EACH;
  let segment = id / values;
  let row = segment / params.segments;
  let start = (segment - row * params.segments) * SEGMENT;
  let channel = id % values;
  let first = ((params.skip + row) * params.width + start) * values + channel;
  let to = ((params.into + row) * params.width + start) * values + channel;
  let part = params.into * params.segments + segment;
  return Piece(row < params.rows, part, channel, row / params.height, first, to, min(SEGMENT, params.width - start));
}

@compute @workgroup_size(WG)
fn measure(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let p = piece(linear_id(wid, groups, lid, WG));
  if (!p.inside) { return; }
  let values = params.channels / EACH;
  // At one look, pixel by pixel (Welford, 1962).
  var mean = Value();
  var squares = Value();
  for (var i = 0u; i < p.pixels; i++) {
    let value = x[p.first + i * values];
    let d = value - mean;
    mean += d / f32(i + 1u);
    squares += d * (value - mean);
  }
  parts_out[p.segment * 2u * values + p.channel] = mean;
  parts_out[(p.segment * 2u + 1u) * values + p.channel] = squares;
}

var<workgroup> sums: array<f32, LANES>;

/// The sum of all lanes' values, in every lane, in the same order every time.
fn all_lanes(value: f32, lane: u32) -> f32 {
//#if LANES == 1
  return value;
//#else
  sums[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { sums[lane] += sums[lane + half]; }
  }
  workgroupBarrier();
  let sum = sums[0];
  workgroupBarrier();
  return sum;
//#endif
}

/// Grid: a workgroup per picture and group.
@compute @workgroup_size(LANES)
fn combine(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let id = linear_id(wid, groups, 0u, 1u);
  let picture = id / params.groups;
  let size = params.channels / params.groups;
  let first = id % params.groups * size;
  let segments = params.height * params.segments; // of a picture
  let start = picture * segments;
  var weighted = 0.0;
  for (var i = lane; i < segments; i += LANES) {
    let pixels = f32(min(SEGMENT, params.width - i % params.segments * SEGMENT));
    for (var c = 0u; c < size; c++) { weighted += pixels * parts[(start + i) * 2u * params.channels + first + c]; }
  }
  let count = f32(params.height * params.width * size);
  let mean = all_lanes(weighted, lane) / count;
  var squares = 0.0;
  for (var i = lane; i < segments; i += LANES) {
    let pixels = f32(min(SEGMENT, params.width - i % params.segments * SEGMENT));
    for (var c = 0u; c < size; c++) {
      let at = (start + i) * 2u * params.channels + first + c;
      let d = parts[at] - mean;
      squares += parts[at + params.channels] + pixels * d * d;
    }
  }
  let inverse = inverseSqrt(all_lanes(squares, lane) / count + params.eps);
  // Groups past the last, where the grid was folded, have nothing to write.
  if (picture >= params.batch) { return; }
  for (var c = lane; c < size; c += LANES) {
    table_out[picture * 2u * params.channels + first + c] = mean;
    table_out[(picture * 2u + 1u) * params.channels + first + c] = inverse * gain[first + c];
//#if KEEP == 1
    rstd_out[picture * params.channels + first + c] = inverse;
//#endif
  }
}

fn activate(v: Value) -> Value {
//#if ACTIVATION == 1
  return v / (1.0 + exp(min(-v, Value() + 80.0)));
//#else
//#if ACTIVATION == 2
  return max(v, Value());
//#else
  return v;
//#endif
//#endif
}

@compute @workgroup_size(WG)
fn normalise(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let p = piece(linear_id(wid, groups, lid, WG));
  if (!p.inside) { return; }
  let values = params.channels / EACH;
  let mean = table[p.picture * 2u * values + p.channel];
  let factor = table[(p.picture * 2u + 1u) * values + p.channel];
  let offset = bias[p.channel];
  for (var i = 0u; i < p.pixels; i++) {
    y[p.to + i * values] = activate((x[p.first + i * values] - mean) * factor + offset);
  }
}
