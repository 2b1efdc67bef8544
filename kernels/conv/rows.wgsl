// Rows of one picture copied to rows of another of the same width and channels.

override WG: u32 = 64;
/// Values per invocation, WG apart: on CPU drivers starting a workgroup costs more than its work.
override EACH: u32 = 8;
/// Values go four at a time: a row has a multiple of four.
override VEC: u32 = 1;

struct Params {
  rows: u32,
  width: u32, // values of a row, all channels
  skip: u32,  // first row of x
  into: u32,  // first row of y
}
@group(1) @binding(0) var<uniform> params: Params;

//#if VEC == 1
alias Value = vec4f;
const LONG = 4u;
//#else
alias Value = f32;
const LONG = 1u;
//#endif

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = params.width / LONG;
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.rows * row); i += WG) {
    y[params.into * row + i] = x[params.skip * row + i];
  }
}
