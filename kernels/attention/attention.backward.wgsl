// What the gradients of attention bind besides attention.wgsl, which comes before this, and how they read and write it.

@group(0) @binding(5) var<storage, read> o: array<Element>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
//#if MIRROR_QD == 1
@group(0) @binding(7) var dout: texture_storage_2d<rgba32float, read>;
//#else
@group(0) @binding(7) var<storage, read> dout: array<Element>;
//#endif
@group(0) @binding(8) var<storage, read_write> dq: array<Element>;
@group(0) @binding(9) var<storage, read_write> delta_out: array<f32>;  // [batch, heads, tokens]: sum of dout * o
@group(0) @binding(10) var<storage, read> delta: array<f32>;
@group(0) @binding(11) var<storage, read_write> dk: array<Element>;
@group(0) @binding(12) var<storage, read_write> dv: array<Element>;

// Vector i of the one that starts at `base`.
//#if VEC == 0
fn load_o(base: u32, i: u32) -> vec4f {
  let at = components(base, i);
  return whole(vec4f(o[at.x], o[at.y], o[at.z], o[at.w]), i);
}

fn load_dout(base: u32, i: u32) -> vec4f {
  let at = components(base, i);
  return whole(vec4f(dout[at.x], dout[at.y], dout[at.z], dout[at.w]), i);
}

fn store_dq(base: u32, i: u32, x: vec4f) {
  for (var c = 0u; c < min(4u, HEAD - 4u * i); c++) { dq[base + 4u * i + c] = x[c]; }
}

fn store_dk(base: u32, i: u32, x: vec4f) {
  for (var c = 0u; c < min(4u, HEAD - 4u * i); c++) { dk[base + 4u * i + c] = x[c]; }
}

fn store_dv(base: u32, i: u32, x: vec4f) {
  for (var c = 0u; c < min(4u, HEAD - 4u * i); c++) { dv[base + 4u * i + c] = x[c]; }
}
//#else
fn load_o(base: u32, i: u32) -> vec4f { return o[base + i]; }
fn load_dout(base: u32, i: u32) -> vec4f {
//#if MIRROR_QD == 1
  return textureLoad(dout, texel_of(base + i));
//#else
  return dout[base + i];
//#endif
}
fn store_dq(base: u32, i: u32, x: vec4f) { dq[base + i] = x; }
fn store_dk(base: u32, i: u32, x: vec4f) { dk[base + i] = x; }
fn store_dv(base: u32, i: u32, x: vec4f) { dv[base + i] = x; }
//#endif
