// Steps of Runge-Kutta methods from the velocities at their stages. Slot j of `stages` starts at element j * stride.

override WG: u32 = 64;
override EACH: u32 = 8;  // elements of one invocation, WG apart

struct Params {
  size: u32,
  stride: u32,
  slot: u32,
  own: f32,  // of x
  c0: f32,   // of the slots
  c1: f32,
  c2: f32,
  c3: f32,
  c4: f32,
  c5: f32,
  c6: f32,
  tolerance: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> stages: array<f32>;
@group(0) @binding(2) var<storage, read> end: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

// A slot that does not count is not read: it may hold anything.
fn term(c: f32, i: u32) -> f32 {
  if (c == 0.0) { return 0.0; }
  return c * stages[i];
}

fn slope(i: u32) -> f32 {
  let s = params.stride;
  return term(params.c0, i) + term(params.c1, i + s) + term(params.c2, i + 2u * s) + term(params.c3, i + 3u * s)
    + term(params.c4, i + 4u * s) + term(params.c5, i + 5u * s) + term(params.c6, i + 6u * s);
}

// result = own x + sum_j c_j k_j.
@compute @workgroup_size(WG)
fn combine(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[i] = params.own * x[i] + slope(i); }
}

// The same by what is tolerated: tolerance (1 + max(|x|, |end|)).
@compute @workgroup_size(WG)
fn scaled(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) {
    let allowed = params.tolerance + params.tolerance * max(abs(x[i]), abs(end[i]));
    result[i] = (params.own * x[i] + slope(i)) / allowed;
  }
}

// Slot `slot` = x.
@compute @workgroup_size(WG)
fn store(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[params.slot * params.stride + i] = x[i]; }
}
