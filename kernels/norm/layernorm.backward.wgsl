// The gradient of layer norm towards x, by the teams of layernorm.wgsl, which comes before this. Floats only (F16 0).

/// `backward_x`: adds what else the gradient consists of.
override ADD: u32 = 0;

@group(0) @binding(4) var<storage, read> stats: array<vec2f>;
@group(0) @binding(5) var<storage, read> dy: array<Value>;
@group(0) @binding(6) var<storage, read_write> dx: array<Value>;

//#if ADD == 1
@group(0) @binding(7) var<storage, read> earlier: array<Value>;
//#endif

fn store_dx(i: u32, value: Value) {
//#if ADD == 1
  dx[i] = earlier[i] + value;
//#else
  dx[i] = value;
//#endif
}

// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * (1 + scale).
fn differentiate(place: Place) {
  let values = params.width / EACH;
  let base = place.row * values;
  let count = f32(params.width);
  let row = stats[place.row];
  let mean = row.x;
  let rstd = row.y;
  let scale = place.row / params.tokens * params.stride + params.scale;
  var g_sum = Value();
  var gx_sum = Value();
//#if KEEP > 0
//#unroll i KEEP
  let c_i = place.lane + i * place.lanes;
  var g_i = Value();
  var x_i = Value();
  if (c_i < values) {
    g_i = dy[base + c_i] * (1.0 + modulation_at(scale, c_i));
    x_i = (x[base + c_i] - mean) * rstd;
  }
  g_sum += g_i;
  gx_sum += g_i * x_i;
//#end
//#else
  for (var c = place.lane; c < values; c += place.lanes) {
    let g = dy[base + c] * (1.0 + modulation_at(scale, c));
    g_sum += g;
    gx_sum += g * (x[base + c] - mean) * rstd;
  }
//#endif
  let means = team_sum(vec2f(total(g_sum), total(gx_sum)), place) / count;
  if (!place.inside) { return; }
//#if KEEP > 0
//#unroll i KEEP
  if (c_i < values) { store_dx(base + c_i, rstd * (g_i - means.x - x_i * means.y)); }
//#end
//#else
  for (var c = place.lane; c < values; c += place.lanes) {
    let g = dy[base + c] * (1.0 + modulation_at(scale, c));
    store_dx(base + c, rstd * (g - means.x - (x[base + c] - mean) * rstd * means.y));
  }
//#endif
}

//#if TEAM < 2
@compute @workgroup_size(WG)
fn backward_x(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  differentiate(placed(linear_id(wid, groups, 0u, 1u), lid));
}
//#else
//#if PINNED > 0
@subgroup_size(PINNED)
//#endif
@compute @workgroup_size(WG)
fn backward_x(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let group = linear_id(wid, groups, 0u, 1u);
  for (var place = take(group); place.inside; place = take(group)) { differentiate(place); }
}
//#endif
