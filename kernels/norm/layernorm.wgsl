// Layer norm without affine, then modulation by a per-sample shift and scale (adaLN; Peebles & Xie 2023):
//   y[r, c] = xhat[r, c] * (1 + scale[b, c]) + shift[b, c],  xhat = (x - mean) * rstd,  b = r / tokens;
// its gradient towards x is in layernorm.backward.wgsl, those of shift and scale in modulation.wgsl.
//
// A team of invocations works on a row, each on every `lanes`-th value of it:
//   TEAM 0: one invocation (LANES 1).
//        1: LANES invocations of a workgroup, a power of two; their sums go through workgroup memory.
//        2: a subgroup, which takes rows from its workgroup until none is left. Needs `subgroups`; where these have several widths, the
//           sums would depend on the one that the driver takes for a pipeline, so PINNED asks for one (`subgroup-size-control`).
// A workgroup works on ROWS rows: WG / LANES, and any number where subgroups take them.

//#if TEAM == 2
enable subgroups;
//#if PINNED > 0
enable subgroup_size_control;
//#endif
// A subgroup stays together: all its lanes have the same row.
diagnostic(off, subgroup_uniformity);
//#endif

override WG: u32 = 64;
override TEAM: u32 = 0;
override LANES: u32 = 1;
override ROWS: u32 = 64;
/// Lanes of every subgroup, where they have to be asked for.
override PINNED: u32 = 0;
/// Values that a lane keeps in variables from its first look at the row to the last, which must cover the row; 0: it reads them again.
override KEEP: u32 = 0;
/// Buffers as vectors of four: width, stride, shift and scale are multiples of four.
override VEC: u32 = 0;
/// x and y are f16, two to a word (width even).
override F16: u32 = 0;

struct Params {
  rows: u32,
  tokens: u32,
  width: u32,
  shift: u32,   // column of the first shift in the modulation matrix
  scale: u32,
  stride: u32,  // columns of the modulation matrix
  eps: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

// What is loaded at once: EACH elements.
//#if VEC == 1
alias Value = vec4f;
alias Float = vec4f;
const EACH = 4u;
//#if F16 == 1
alias Stored = vec2u;
//#else
alias Stored = vec4f;
//#endif
//#else
alias Float = f32;
//#if F16 == 1
alias Stored = u32;
alias Value = vec2f;
const EACH = 2u;
//#else
alias Stored = f32;
alias Value = f32;
const EACH = 1u;
//#endif
//#endif

@group(0) @binding(0) var<storage, read> x: array<Stored>;      // [rows, width]
@group(0) @binding(1) var<storage, read> modulation: array<Float>;  // [rows / tokens, stride]
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;
@group(0) @binding(3) var<storage, read_write> stats_out: array<vec2f>;  // [rows]: mean, rstd

/// Value i of x.
fn load(i: u32) -> Value {
//#if F16 == 1 && VEC == 1
  return unpack_halves(x[i]);
//#endif
//#if F16 == 1 && VEC == 0
  return unpack2x16float(x[i]);
//#endif
//#if F16 == 0
  return x[i];
//#endif
}

fn store(i: u32, value: Value) {
//#if F16 == 1 && VEC == 1
  y[i] = pack_halves(value);
//#endif
//#if F16 == 1 && VEC == 0
  y[i] = pack2x16float(value);
//#endif
//#if F16 == 0
  y[i] = value;
//#endif
}

/// Value c of the modulation's row that starts at column `first`.
fn modulation_at(first: u32, c: u32) -> Value {
//#if VEC == 1
  return modulation[first / 4u + c];
//#else
//#if F16 == 1
  return vec2f(modulation[first + 2u * c], modulation[first + 2u * c + 1u]);
//#else
  return modulation[first + c];
//#endif
//#endif
}

fn total(value: Value) -> f32 {
//#if VEC == 1
  return dot(value, vec4f(1.0));
//#else
//#if F16 == 1
  return value.x + value.y;
//#else
  return value;
//#endif
//#endif
}

/// A row, and this invocation's place in the team that works on it.
struct Place {
  row: u32,
  lane: u32,
  lanes: u32,
  local: u32,   // in the workgroup
  inside: bool, // else the row is another team's: read, not written
}

//#if TEAM == 1
var<workgroup> parts: array<vec2f, WG>;
//#endif

/// The sum of the team's values, in every lane, in the same order every time.
fn team_sum(value: vec2f, place: Place) -> vec2f {
//#if TEAM == 0
  return value;
//#endif
//#if TEAM == 1
  parts[place.local] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (place.lane < half) { parts[place.local] += parts[place.local + half]; }
  }
  workgroupBarrier();
  let sum = parts[place.local - place.lane];
  workgroupBarrier();
  return sum;
//#endif
//#if TEAM == 2
  return subgroupAdd(value);
//#endif
}

fn normalise(place: Place) {
  let values = params.width / EACH;
  let base = place.row * values;
  let count = f32(params.width);
//#if TEAM == 0
  // A load costs CPU drivers more than all of this: mean and squares at one look, column by column (Welford, 1962), then of all (Chan et
  // al., 1979).
  var means = Value();
  var squares = Value();
  for (var c = 0u; c < values; c++) {
    let value = load(base + c);
    let d = value - means;
    means += d / f32(c + 1u);
    squares += d * (value - means);
  }
  let mean = total(means) / f32(EACH);
  let apart = means - mean;
  let rstd = inverseSqrt((total(squares) + f32(values) * total(apart * apart)) / count + params.eps);
//#else
  var sum = Value();
//#if KEEP > 0
//#unroll i KEEP
  let c_i = place.lane + i * place.lanes;
  var x_i = Value();
  if (c_i < values) { x_i = load(base + c_i); }
  sum += x_i;
//#end
//#else
  for (var c = place.lane; c < values; c += place.lanes) { sum += load(base + c); }
//#endif
  // Far from zero it is as far off as a sum of many such values is rounded; the differences from it say by how much.
  let nearly = team_sum(vec2f(total(sum), 0.0), place).x / count;
  var square = Value();
  var off = Value();
//#if KEEP > 0
//#unroll i KEEP
  x_i = select(Value(), x_i - nearly, c_i < values);
  square += x_i * x_i;
  off += x_i;
//#end
//#else
  for (var c = place.lane; c < values; c += place.lanes) {
    let d = load(base + c) - nearly;
    square += d * d;
    off += d;
  }
//#endif
  let again = team_sum(vec2f(total(square), total(off)), place) / count;
  let mean = nearly + again.y;
  let rstd = inverseSqrt(again.x - again.y * again.y + params.eps);
//#endif
  let sample = place.row / params.tokens * params.stride;
  let shift = sample + params.shift;
  let scale = sample + params.scale;
  if (!place.inside) { return; }
//#if KEEP > 0
//#unroll i KEEP
  if (c_i < values) {
    store(base + c_i, (x_i - again.y) * rstd * (1.0 + modulation_at(scale, c_i)) + modulation_at(shift, c_i));
  }
//#end
//#else
  for (var c = place.lane; c < values; c += place.lanes) {
    store(base + c, (load(base + c) - mean) * rstd * (1.0 + modulation_at(scale, c)) + modulation_at(shift, c));
  }
//#endif
  if (place.lane == 0u) { stats_out[place.row] = vec2f(mean, rstd); }
}

//#if TEAM < 2
/// The place of an invocation in a workgroup of whole teams. Teams past the last row repeat it, to meet the others at barriers.
fn placed(group: u32, local: u32) -> Place {
  let row = group * ROWS + local / LANES;
  return Place(min(row, params.rows - 1u), local % LANES, LANES, local, row < params.rows);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  normalise(placed(linear_id(wid, groups, 0u, 1u), lid));
}
//#endif

//#if TEAM == 2
var<workgroup> taken: atomic<u32>;

/// The next row of the workgroup's that no subgroup has taken: right however wide subgroups are, and whichever lanes they hold.
fn take(group: u32) -> Place {
  var next = 0u;
  if (subgroupElect()) { next = atomicAdd(&taken, 1u); }
  next = subgroupBroadcastFirst(next);
  let row = group * ROWS + next;
  return Place(row, subgroupExclusiveAdd(1u), subgroupAdd(1u), 0u, next < ROWS && row < params.rows);
}

//#if PINNED > 0
@subgroup_size(PINNED)
//#endif
@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let group = linear_id(wid, groups, 0u, 1u);
  for (var place = take(group); place.inside; place = take(group)) { normalise(place); }
}
//#endif
