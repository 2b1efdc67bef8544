// Puts the gradients of a matrix's column chunks back side by side: out[r, k*width + c] = piece_k[r, c].

override WG: u32 = 64;
override COUNT: u32 = 6;

struct Params { rows: u32, width: u32 }
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read_write> joined: array<f32>;
@group(0) @binding(1) var<storage, read> piece0: array<f32>;
//#if COUNT > 1
@group(0) @binding(2) var<storage, read> piece1: array<f32>;
//#endif
//#if COUNT > 2
@group(0) @binding(3) var<storage, read> piece2: array<f32>;
//#endif
//#if COUNT > 3
@group(0) @binding(4) var<storage, read> piece3: array<f32>;
//#endif
//#if COUNT > 4
@group(0) @binding(5) var<storage, read> piece4: array<f32>;
//#endif
//#if COUNT > 5
@group(0) @binding(6) var<storage, read> piece5: array<f32>;
//#endif

@compute @workgroup_size(WG)
fn join(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linear_id(wid, groups, lid, WG);
  if (i >= params.rows * params.width) { return; }
  let at = i / params.width * params.width * COUNT + i % params.width;
  joined[at] = piece0[i];
//#if COUNT > 1
  joined[at + params.width] = piece1[i];
//#endif
//#if COUNT > 2
  joined[at + 2u * params.width] = piece2[i];
//#endif
//#if COUNT > 3
  joined[at + 3u * params.width] = piece3[i];
//#endif
//#if COUNT > 4
  joined[at + 4u * params.width] = piece4[i];
//#endif
//#if COUNT > 5
  joined[at + 5u * params.width] = piece5[i];
//#endif
}
