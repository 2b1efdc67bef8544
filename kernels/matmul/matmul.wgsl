// What every variant of the matrix product shares: C[M,N] = epilogue(op(A)[M,K] op(B)[K,N]), all row-major: bindings, parameters, the
// part of K that a workgroup sums, the epilogue and the store. The N columns may be some of a wider result: C, bias, residual and
// pre then hold `stride` columns, of which these start at `first`. matmul.fetch.wgsl reads A and B; each variant's own file
// (register, subgroup, tile, rows, units) has the entry point `matmul`.
//
// Overrides (the linker turns them into constants and resolves the //#if lines):
//   TRANSPOSE_A  0: a is [M,K]; 1: a is [K,M].      TRANSPOSE_B  0: b is [K,N]; 1: b is [N,K].
//   VEC          1: buffers as vec4f. Needs N and the row length of a and of b (and gateStride, gateOffset) divisible by 4;
//                0: scalars, any size. Slower to run and to compile.
//   PACK_B       0: b is f32; 1: f16, two to a u32; 2: i8, four to a u32, column n being B[:,n] / scale[n], and the N scales (f32)
//                follow the last u32. Sums are f32 in every case. 1 and 2 need TRANSPOSE_B 0.
//   F16_A, F16_C 1: a, or c and residual, are f16, two to a u32. Needs VEC 1 and TRANSPOSE_A 0.
//   THREE        1: B is three matrices of `stride` columns, `spacing` elements apart; biases likewise, `biasSpacing` apart; and the results
//                are c, c1 and c2. Needs TRANSPOSE_B 0, EPILOGUE 1, `first` 0; with VEC 1, spacings divisible by 4.
//   PATCHES      1: A is a picture, seen through a convolution's taps (matmul.patches.wgsl, which patches.ts adds). Needs TRANSPOSE_A 1 and,
//                with VEC 1, channels divisible by 4.
//   MIRROR_A, MIRROR_B 1: a or b is read through a texture (engine/mirrors.ts). Need VEC 1.
//   EPILOGUE     0: AB; 1: AB + bias; 2: gelu_tanh(AB + bias); 3: silu(AB + bias);
//                4: residual + gate[row / tokens, gateOffset + n] * (AB + bias);
//                5: residual + AB, 6: AB * gelu_tanh'(before), which gradients are: no bias, all f32.
//   SAVE_PRE     1: also pre[M,N] = AB + bias, for the backward pass of 2, 3 and 4.
//   SPLIT_K      0: the whole K in one workgroup; 1: slice z = k in [z kChunk, (z+1) kChunk) goes to c[z,M,N] (EPILOGUE 0 only;
//                kChunk divisible by 4); the caller adds the slices in a fixed order.
// Grid: x = ceil(N / tileN), y = ceil(M / tileM), z = SPLIT_K ? ceil(K / kChunk) : 1, for the tile that the variant makes. Register and
// subgroup tiles have x and y the other way round: the next tile is the one below (ProductVariant.next).
// No element outside the matrices is read or written; M, N, K may be anything the grid covers (K = 0 gives zeros).

override TRANSPOSE_A: u32 = 0;
override TRANSPOSE_B: u32 = 0;
override VEC: u32 = 1;
override PACK_B: u32 = 0;
override THREE: u32 = 0;
override F16_A: u32 = 0;
override F16_C: u32 = 0;
override EPILOGUE: u32 = 0;
override SAVE_PRE: u32 = 0;
override SPLIT_K: u32 = 0;
override PATCHES: u32 = 0;
override MIRROR_A: u32 = 0;
override MIRROR_B: u32 = 0;

struct Params {
  M: u32,
  N: u32,
  K: u32,
  kChunk: u32, // SPLIT_K: length of a slice
  first: u32, // column of C that column 0 of B makes
  stride: u32, // row length of C
  tokens: u32, // EPILOGUE 4: rows per row of gate
  gateStride: u32, // EPILOGUE 4: row length of gate
  gateOffset: u32, // EPILOGUE 4: first column of this chunk in gate
//#if THREE == 1
  spacing: u32,
  biasSpacing: u32,
//#endif
//#if PATCHES == 1
  channels: u32, // of the picture, and what else conv.wgsl says of it
  height: u32,
  width: u32,
  outHeight: u32,
  outWidth: u32,
  side: u32,
  step: u32,
  pad: u32,
  up: u32,
//#endif
}

//#if VEC == 1
alias Element = vec4f;
const UNIT = 4u; // numbers in an Element
//#else
alias Element = f32;
const UNIT = 1u;
//#endif
//#if PACK_B == 0
alias ElementB = Element;
//#else
//#if PACK_B == 1 && VEC == 1
alias ElementB = vec2u;
//#else
alias ElementB = u32;
//#endif
//#endif

//#if F16_A == 1
alias ElementA = vec2u;
//#else
alias ElementA = Element;
//#endif
//#if F16_C == 1
alias ElementC = vec2u;
//#else
alias ElementC = Element;
//#endif

// a: [M,K], or [K,M] if TRANSPOSE_A
//#if MIRROR_A == 1
//#if F16_A == 1
@group(0) @binding(0) var a: texture_storage_2d<rgba16float, read>;
//#else
@group(0) @binding(0) var a: texture_storage_2d<rgba32float, read>;
//#endif
//#else
@group(0) @binding(0) var<storage, read> a: array<ElementA>;
//#endif
// b: [K,N], or [N,K] if TRANSPOSE_B
//#if MIRROR_B == 1
//#if PACK_B == 0
@group(0) @binding(1) var b: texture_storage_2d<rgba32float, read>;
//#endif
//#if PACK_B == 1
@group(0) @binding(1) var b: texture_storage_2d<rgba16float, read>;
//#endif
//#if PACK_B == 2
@group(0) @binding(1) var b: texture_storage_2d<rgba8sint, read>;
//#endif
//#else
@group(0) @binding(1) var<storage, read> b: array<ElementB>;
//#endif
@group(0) @binding(2) var<storage, read_write> c: array<ElementC>; // [M,stride], or [slices,M,N] if SPLIT_K
//#if THREE == 1
@group(0) @binding(8) var<storage, read_write> c1: array<ElementC>;
@group(0) @binding(9) var<storage, read_write> c2: array<ElementC>;
//#endif
//#if EPILOGUE > 0 && EPILOGUE < 5
@group(0) @binding(3) var<storage, read> bias: array<Element>; // [stride]
//#endif
//#if EPILOGUE == 4 || EPILOGUE == 5
@group(0) @binding(4) var<storage, read> residual: array<ElementC>; // [M,stride]
//#endif
//#if EPILOGUE == 4
@group(0) @binding(5) var<storage, read> gate: array<Element>; // [M / tokens, gateStride]
//#endif
//#if SAVE_PRE == 1
@group(0) @binding(6) var<storage, read_write> pre: array<Element>; // [M,stride]
//#endif
//#if EPILOGUE == 6
@group(0) @binding(7) var<storage, read> before: array<Element>; // [M,stride]
//#endif
@group(1) @binding(0) var<uniform> params: Params;

//#if EPILOGUE == 2
/** x / (1 + exp(-2u)) = x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU without overflow. */
fn gelu(x: f32) -> f32 {
  return x / (1.0 + exp(min(-1.5957691216057308 * (x + 0.044715 * x * x * x), 80.0)));
}
//#endif
//#if EPILOGUE == 3
fn silu(x: f32) -> f32 {
  return x / (1.0 + exp(min(-x, 80.0)));
}
//#endif

//#if EPILOGUE == 6
/** d gelu_tanh(x) / dx = s + 2 x s (1 - s) u', s = 1 / (1 + exp(-2u)) of the above. */
fn gelu_slope(x: f32) -> f32 {
  let s = 1.0 / (1.0 + exp(min(-1.5957691216057308 * (x + 0.044715 * x * x * x), 80.0)));
  return s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * x * x);
}
//#endif

/** Which of the matrices that B is has its column n, and which column of C that makes. */
fn part_of(n: u32) -> u32 {
//#if THREE == 1
  return u32(n >= params.stride) + u32(n >= 2u * params.stride);
//#else
  return 0u;
//#endif
}

fn column_of(n: u32) -> u32 {
  return params.first + n - part_of(n) * params.stride;
}

/** Epilogue and store of `sum` at element `at` of c (or of the result of this `part`), column n of B's and `column` of C's (all in units of Element). */
fn finish(sum: Element, row: u32, n: u32, column: u32, at: u32, part: u32) {
  var v = sum;
//#if PACK_B == 2
  v *= scaleB(n);
//#endif
//#if EPILOGUE > 0 && EPILOGUE < 5
//#if THREE == 1
  v += bias[column + part * params.biasSpacing / UNIT];
//#else
  v += bias[column];
//#endif
//#endif
//#if SAVE_PRE == 1
  pre[at] = v;
//#endif
//#if EPILOGUE == 2
//#if VEC == 1
  v = vec4f(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w));
//#else
  v = gelu(v);
//#endif
//#endif
//#if EPILOGUE == 3
//#if VEC == 1
  v = vec4f(silu(v.x), silu(v.y), silu(v.z), silu(v.w));
//#else
  v = silu(v);
//#endif
//#endif
//#if EPILOGUE == 4
//#if VEC == 1
  v = loadC(at) + gate[(row / params.tokens * params.gateStride + params.gateOffset) / 4u + column] * v;
//#else
  v = residual[at] + gate[row / params.tokens * params.gateStride + params.gateOffset + column] * v;
//#endif
//#endif
//#if EPILOGUE == 5
  v = residual[at] + v;
//#endif
//#if EPILOGUE == 6
  let x = before[at];
//#if VEC == 1
  v *= vec4f(gelu_slope(x.x), gelu_slope(x.y), gelu_slope(x.z), gelu_slope(x.w));
//#else
  v *= gelu_slope(x);
//#endif
//#endif
//#if F16_C == 1
  let stored = pack_halves(v);
//#else
  let stored = v;
//#endif
//#if THREE == 1
  if (part == 1u) { c1[at] = stored; }
  if (part == 2u) { c2[at] = stored; }
  if (part > 0u) { return; }
//#endif
  c[at] = stored;
}

/** Stores four columns from n on of one row, if they are inside; `slice` is the split of K. */
fn store(v: vec4f, row: u32, n: u32, slice: u32) {
  if (row < params.M && n < params.N) {
    let start = (slice * params.M + row) * params.stride;
//#if VEC == 1
    let column = column_of(n);
    finish(v, row, n / 4u, column / 4u, (start + column) / 4u, part_of(n));
//#else
    for (var j = 0u; j < min(4u, params.N - n); j++) {
      let column = column_of(n + j);
      finish(v[j], row, n + j, column, start + column, part_of(n + j));
    }
//#endif
  }
}

fn kStart(slice: u32) -> u32 {
//#if SPLIT_K == 1
  return slice * params.kChunk;
//#else
  return 0u;
//#endif
}

fn kStop(slice: u32) -> u32 {
//#if SPLIT_K == 1
  return min(params.K, (slice + 1u) * params.kChunk);
//#else
  return params.K;
//#endif
}
