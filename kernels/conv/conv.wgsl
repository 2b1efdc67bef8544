// What every variant of the convolution shares: y[b, oy, ox, n] = act(bias[n] + sum x[b, iy, ix, c] w[ky, kx, c, n] + residual[b, oy, ox, n])
// over ky, kx and c, with iy = step oy + ky - pad and ix likewise in a picture that is first made 2^up times as large by repeating
// its pixels; what lies outside of it is zero. Tensors are [batch, height, width, channels]. It is a matrix product whose first factor
// is never written out: its rows are the pixels of y, its columns the taps (ky, kx) and, within each, the channels of x. So a variant
// walks along the taps, asks once per tap where its rows lie in x, and then along the channels.
//
// Overrides (the linker turns them into constants and resolves the //#if lines):
//   VEC_IN    1: channels of x come four at a time. Needs `channels` divisible by 4. 0: any number.
//   VEC_OUT   1: columns of w and channels of y come four at a time. Needs `columns` divisible by 4. 0: any number.
//   F16       1: w is f16, two to a u32. Sums are f32 in every case.
//   BIAS, RESIDUAL  1: they are added.   RELU  1: max(0, sum) is stored.
//   MIRROR_X, MIRROR_W  1: x or w is read through a texture (engine/mirrors.ts). Need VEC_IN, VEC_OUT.
//   DILATE    1: x is enlarged by zeros (taps.wgsl), as the gradient of what a stride of two left out is.
// Grid: x and z: tiles of pixels (a long row of them is folded), y: tiles of columns.

override VEC_IN: u32 = 1;
override VEC_OUT: u32 = 1;
override F16: u32 = 0;
override BIAS: u32 = 1;
override RESIDUAL: u32 = 0;
override RELU: u32 = 0;
override MIRROR_X: u32 = 0;
override MIRROR_W: u32 = 0;

struct Params {
  rows: u32,        // pixels of y, of all pictures
  columns: u32,     // channels of y
  channels: u32,    // of x
  height: u32,      // of x, before it is enlarged
  width: u32,
  outHeight: u32,
  outWidth: u32,
  side: u32,        // taps across and down
  step: u32,        // pixels from one result to the next
  pad: u32,         // zeros before the first row and column
  up: u32,          // x is enlarged 2^up times
  passed: u32,      // of a band: rows of the enlarged x before the one that y's first row begins at, zeros included
}
@group(1) @binding(0) var<uniform> params: Params;

//#if VEC_IN == 1
alias In = vec4f;
//#else
alias In = f32;
//#endif
//#if VEC_OUT == 1
alias Out = vec4f;
//#if F16 == 1
alias Weight = vec2u;
//#else
alias Weight = vec4f;
//#endif
//#else
alias Out = f32;
//#if F16 == 1
alias Weight = u32;
//#else
alias Weight = f32;
//#endif
//#endif

//#if MIRROR_X == 1
@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;
//#else
@group(0) @binding(0) var<storage, read> x: array<In>;
//#endif
// w: [side * side * channels, columns]
//#if MIRROR_W == 1
//#if F16 == 1
@group(0) @binding(1) var w: texture_storage_2d<rgba16float, read>;
//#else
@group(0) @binding(1) var w: texture_storage_2d<rgba32float, read>;
//#endif
//#else
@group(0) @binding(1) var<storage, read> w: array<Weight>;
//#endif
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
//#if BIAS == 1
@group(0) @binding(3) var<storage, read> bias: array<Out>;
//#endif
//#if RESIDUAL == 1
@group(0) @binding(4) var<storage, read> residual: array<Out>; // shaped as y
//#endif

/// A row far above the picture: none of its taps is inside.
const NOWHERE: i32 = -1000000000;

fn pixel(row: u32) -> Pixel {
  let line = row / params.outWidth;
  let picture = line / params.outHeight;
  var p = pixel_at(picture, line - picture * params.outHeight, row - line * params.outWidth);
  p.top = select(NOWHERE, p.top + i32(params.passed), row < params.rows);
  return p;
}

/// Channels c..c+3 of the pixel of x that begins at `base`; zero where there are none.
fn load_x(base: u32, c: u32) -> vec4f {
//#if VEC_IN == 1
  let inside = (base != OUTSIDE) & (c < params.channels);
  let i = select(0u, (base + c) / 4u, inside);
//#if MIRROR_X == 1
  return select(vec4f(), textureLoad(x, texel_of(i)), inside);
//#else
  return select(vec4f(), x[i], inside);
//#endif
//#else
  var v = vec4f();
  if (base != OUTSIDE) {
    for (var j = 0u; j < min(4u, max(params.channels, c) - c); j++) { v[j] = x[base + c + j]; }
  }
  return v;
//#endif
}

/// Columns n..n+3 of channel c of tap `tap` of w; zero where there are none.
fn load_w(tap: u32, c: u32, n: u32) -> vec4f {
  let at = (tap * params.channels + c) * params.columns + n;
//#if VEC_OUT == 1
//#if VEC_IN == 1
  let inside = n < params.columns;
//#else
  let inside = (n < params.columns) & (c < params.channels);
//#endif
  let i = select(0u, at / 4u, inside);
//#if MIRROR_W == 1
  return select(vec4f(), textureLoad(w, texel_of(i)), inside);
//#else
//#if F16 == 1
  return select(vec4f(), unpack_halves(w[i]), inside);
//#else
  return select(vec4f(), w[i], inside);
//#endif
//#endif
//#else
  var v = vec4f();
  if (c < params.channels) {
    for (var j = 0u; j < min(4u, max(params.columns, n) - n); j++) {
//#if F16 == 1
      v[j] = unpack2x16float(w[(at + j) / 2u])[(at + j) % 2u];
//#else
      v[j] = w[at + j];
//#endif
    }
  }
  return v;
//#endif
}

/// Bias, residual and activation, and the store of `sum` at element `at` of y (in units of Out), column n.
fn finish(sum: Out, n: u32, at: u32) {
  var v = sum;
//#if BIAS == 1
  v += bias[n];
//#endif
//#if RESIDUAL == 1
  v += residual[at];
//#endif
//#if RELU == 1
  v = max(v, Out());
//#endif
  y[at] = v;
}

/// Stores columns n..n+3 of a row, if they are inside.
fn store(sum: vec4f, row: u32, n: u32) {
  if (row < params.rows && n < params.columns) {
//#if VEC_OUT == 1
    finish(sum, n / 4u, (row * params.columns + n) / 4u);
//#else
    for (var j = 0u; j < min(4u, params.columns - n); j++) { finish(sum[j], n + j, row * params.columns + n + j); }
//#endif
  }
}

/// Which tile of pixels a workgroup makes.
fn tile(group: vec3u, groups: vec3u) -> u32 {
  return group.x + group.z * groups.x;
}
