// Images [B, H, W, C] as tokens [B, (H/P) (W/P), P P C] and back: tokens row-major, and row, column, channel within one.

override WG: u32 = 64;
override EACH: u32 = 8;  // elements of one invocation, WG apart: CPU drivers pay for every workgroup
override COLUMNS: u32 = 1;   // patches across the image: W / P
override PATCH: u32 = 1;     // P
override CHANNELS: u32 = 1;  // C

struct Params { size: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

/// Where element i of the tokens lies in the images. Rows of patches are contiguous in both, across samples too.
fn image_index(i: u32) -> u32 {
  let channel = i % CHANNELS;
  let column = i / CHANNELS % PATCH;
  let row = i / (CHANNELS * PATCH) % PATCH;
  let token = i / (CHANNELS * PATCH * PATCH);
  let y = token / COLUMNS * PATCH + row;
  let x = token % COLUMNS * PATCH + column;
  return (y * COLUMNS * PATCH + x) * CHANNELS + channel;
}

@compute @workgroup_size(WG)
fn patchify(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[i] = source[image_index(i)]; }
}

@compute @workgroup_size(WG)
fn unpatchify(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = linear_id(wid, groups, 0u, WG * EACH) + lid;
  for (var i = first; i < min(first + WG * EACH, params.size); i += WG) { result[image_index(i)] = source[i]; }
}
