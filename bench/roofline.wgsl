// What an adapter can do at most: moving memory, and multiplying and adding in registers. Measured by bench/roofline.ts.

//#if F16 == 1
enable f16;
alias Number = f16;
//#else
alias Number = f32;
//#endif

override WG: u32 = 64;
/// `copy`: elements per invocation, WG apart, so that neighbours read and write neighbours.
override EACH: u32 = 8;
/// Elements of `copy` are vec4f, links of `multiply_add` vec4 of numbers.
override VECTOR: u32 = 0;
/// `multiply_add`: chains per invocation that do not depend on each other.
override CHAINS: u32 = 8;
/// `multiply_add`: fma(x, a, b); else x * a + b, which drivers may fuse or not.
override FUSED: u32 = 1;
/// `multiply_add` in f16.
override F16: u32 = 0;

//#if VECTOR == 1
alias Item = vec4f;
alias Link = vec4<Number>;
//#else
alias Item = f32;
alias Link = Number;
//#endif

struct Params {
  size: u32,
  shift: u32,
  steps: u32,
  factor: f32,
  addend: f32,
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> origin: array<Item>;
@group(0) @binding(1) var<storage, read_write> copied: array<Item>;
@group(0) @binding(2) var<storage, read_write> pattern: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

/// pattern[i] = (i + shift) % 8191 + 1. Grid: size / (WG EACH).
@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = (wid.y * groups.x + wid.x) * WG * EACH + lid;
  for (var e = 0u; e < EACH; e++) {
    let i = first + e * WG;
    if (i < params.size) { pattern[i] = f32((i + params.shift) % 8191u + 1u); }
  }
}

/// Grid: size / (WG EACH), size in items.
@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = (wid.y * groups.x + wid.x) * WG * EACH + lid;
  for (var e = 0u; e < EACH; e++) {
    let i = first + e * WG;
    if (i < params.size) { copied[i] = origin[i]; }
  }
}

/// sums[i] = sum over chains c (and lanes of vectors) of (lid % 8 + c) factor^n + addend (1 + factor + ... + factor^(n - 1)) with n = 4 steps.
/// With factor and addend 1, which compilers cannot know, that is a whole number, and shows how many links were computed.
@compute @workgroup_size(WG)
fn multiply_add(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let a = Link(Number(params.factor));
  let b = Link(Number(params.addend));
  //#unroll c CHAINS
  var x_c = Link(Number(lid % 8u + c));
  //#end
  for (var step = 0u; step < params.steps; step++) {
    //#unroll s 4
    //#unroll c CHAINS
    //#if FUSED == 1
    x_c = fma(x_c, a, b);
    //#else
    x_c = x_c * a + b;
    //#endif
    //#end
    //#end
  }
  var sum = 0.0;
  //#unroll c CHAINS
  //#if VECTOR == 1
  sum += f32(x_c.x) + f32(x_c.y) + f32(x_c.z) + f32(x_c.w);
  //#else
  sum += f32(x_c);
  //#endif
  //#end
  sums[wid.x * WG + lid] = sum;
}
