// Matrix product with a fused epilogue: C[M,N] = epilogue(op(A)[M,K] op(B)[K,N]), all row-major. The N columns may be some of a
// wider result: C, bias, residual and pre then hold `stride` columns, of which these start at `first`.
//
// Variants (overrides; the linker turns them into constants and resolves the //#if lines):
//   STRATEGY     0: register tile without subgroups or barriers (SwiftShader, and every device as a fallback);
//                1: 64x64 tile staged in workgroup memory, 256 invocations, 4x4 each (GPUs);
//                2: 32x32 tile by one subgroup of at least 8 lanes, A passed around by broadcast (lavapipe). Needs `subgroups`.
//   TRANSPOSE_A  0: a is [M,K]; 1: a is [K,M].      TRANSPOSE_B  0: b is [K,N]; 1: b is [N,K].
//   VEC          1: buffers as vec4f. Needs N and the row length of a and of b (and gateStride, gateOffset) divisible by 4;
//                0: scalars, any size. Slower to run and to compile: use it with STRATEGY 0 or 1.
//   PACK_B       0: b is f32; 1: f16, two to a u32; 2: i8, four to a u32, column n being B[:,n] / scale[n], and the N scales (f32)
//                follow the last u32. Sums are f32 in every case. 1 and 2 need TRANSPOSE_B 0.
//   F16_A, F16_C 1: a, or c and residual, are f16, two to a u32. Needs VEC 1 and TRANSPOSE_A 0.
//   EPILOGUE     0: AB; 1: AB + bias; 2: gelu_tanh(AB + bias); 3: silu(AB + bias);
//                4: residual + gate[row / tokens, gateOffset + n] * (AB + bias).
//   SAVE_PRE     1: also pre[M,N] = AB + bias, for the backward pass of 2, 3 and 4.
//   SPLIT_K      0: the whole K in one workgroup; 1: slice z = k in [z kChunk, (z+1) kChunk) goes to c[z,M,N] (EPILOGUE 0 only;
//                kChunk divisible by 4); the caller adds the slices in a fixed order.
//   WG_X, WG_Y, NV   of STRATEGY 0: workgroup shape and vec4 columns per lane (1, 2 or 4).
// Grid: x = ceil(N / tileN), y = ceil(M / tileM), z = SPLIT_K ? ceil(K / kChunk) : 1, where tileM x tileN is
//   STRATEGY 0: 8 WG_Y x 4 WG_X NV;   1: 64 x 64;   2: 32 x 32.
// No element outside the matrices is read or written; M, N, K may be anything the grid covers (K = 0 gives zeros).
//
// Why not one tile for all: on lavapipe (Mesa 25.0) an 8-lane storage load is eight checked scalar loads (86 cycles,
// whether or not the lanes agree) while a broadcast is one or two instructions, so loads are shared across lanes; a const
// index into private memory is a plain vector load there, a computed one a gather, hence the written-out rows below.
// All loads of a step come before its arithmetic: each load is forty basic blocks, across which nothing should stay live.
// Loops stay rolled in the stores (bounds from `params`): each unrolled store would cost 30 ms of LLVM time.

//#if STRATEGY == 2
enable subgroups;
//#endif

override STRATEGY: u32 = 0;
override TRANSPOSE_A: u32 = 0;
override TRANSPOSE_B: u32 = 0;
override VEC: u32 = 1;
override PACK_B: u32 = 0;
override F16_A: u32 = 0;
override F16_C: u32 = 0;
override EPILOGUE: u32 = 0;
override SAVE_PRE: u32 = 0;
override SPLIT_K: u32 = 0;
override WG_X: u32 = 4;
override WG_Y: u32 = 4;
override NV: u32 = 2;

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
}

//#if VEC == 1
alias Element = vec4f;
//#else
alias Element = f32;
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

@group(0) @binding(0) var<storage, read> a: array<ElementA>; // [M,K], or [K,M] if TRANSPOSE_A
@group(0) @binding(1) var<storage, read> b: array<ElementB>; // [K,N], or [N,K] if TRANSPOSE_B
@group(0) @binding(2) var<storage, read_write> c: array<ElementC>; // [M,stride], or [slices,M,N] if SPLIT_K
//#if EPILOGUE > 0
@group(0) @binding(3) var<storage, read> bias: array<Element>; // [stride]
//#endif
//#if EPILOGUE == 4
@group(0) @binding(4) var<storage, read> residual: array<ElementC>; // [M,stride]
@group(0) @binding(5) var<storage, read> gate: array<Element>; // [M / tokens, gateStride]
//#endif
//#if SAVE_PRE == 1
@group(0) @binding(6) var<storage, read_write> pre: array<Element>; // [M,stride]
//#endif
@group(1) @binding(0) var<uniform> params: Params;

/** Four elements a[line, at..at+3] of the stored matrix of `lines` lines of `length`; zero where outside. */
fn fetchA(line: u32, at: u32, lines: u32, end: u32, length: u32) -> vec4f {
//#if VEC == 1
  let inside = (line < lines) & (at < end);
  return select(vec4f(), loadA(select(0u, (line * length + at) / 4u, inside)), inside);
//#else
  var v = vec4f();
  for (var j = 0u; j < min(4u, max(end, at) - at) && line < lines; j++) {
    v[j] = a[line * length + at + j];
  }
  return v;
//#endif
}

fn fetchB(line: u32, at: u32, lines: u32, end: u32, length: u32) -> vec4f {
//#if VEC == 1
  let inside = (line < lines) & (at < end);
  return select(vec4f(), loadB(select(0u, (line * length + at) / 4u, inside)), inside);
//#else
  var v = vec4f();
  for (var j = 0u; j < min(4u, max(end, at) - at) && line < lines; j++) {
    v[j] = loadB(line * length + at + j);
  }
  return v;
//#endif
}

/** Columns of the result: op(A)[m + t, k..k+3] for t = 0..3; zero for k >= kEnd. */
fn fragmentA(m: u32, k: u32, kEnd: u32) -> mat4x4f {
//#if TRANSPOSE_A == 1
  return transpose(mat4x4f(
    fetchA(k, m, kEnd, params.M, params.M), fetchA(k + 1u, m, kEnd, params.M, params.M),
    fetchA(k + 2u, m, kEnd, params.M, params.M), fetchA(k + 3u, m, kEnd, params.M, params.M)));
//#else
  return mat4x4f(
    fetchA(m, k, params.M, kEnd, params.K), fetchA(m + 1u, k, params.M, kEnd, params.K),
    fetchA(m + 2u, k, params.M, kEnd, params.K), fetchA(m + 3u, k, params.M, kEnd, params.K));
//#endif
}

/** Columns of the result: op(B)[k + i, n..n+3] for i = 0..3; zero for k >= kEnd. */
fn fragmentB(n: u32, k: u32, kEnd: u32) -> mat4x4f {
//#if TRANSPOSE_B == 1
  return transpose(mat4x4f(
    fetchB(n, k, params.N, kEnd, params.K), fetchB(n + 1u, k, params.N, kEnd, params.K),
    fetchB(n + 2u, k, params.N, kEnd, params.K), fetchB(n + 3u, k, params.N, kEnd, params.K)));
//#else
  return mat4x4f(
    fetchB(k, n, kEnd, params.N, params.N), fetchB(k + 1u, n, kEnd, params.N, params.N),
    fetchB(k + 2u, n, kEnd, params.N, params.N), fetchB(k + 3u, n, kEnd, params.N, params.N));
//#endif
}

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

/** Epilogue and store of `sum` at element `at` of c, column n of B's and `column` of C's (all in units of Element). */
fn finish(sum: Element, row: u32, n: u32, column: u32, at: u32) {
  var v = sum;
//#if PACK_B == 2
  v *= scaleB(n);
//#endif
//#if EPILOGUE > 0
  v += bias[column];
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
//#if F16_C == 1
  c[at] = pack_halves(v);
//#else
  c[at] = v;
//#endif
}

/** Stores four columns from n on of one row, if they are inside; `slice` is the split of K. */
fn store(v: vec4f, row: u32, n: u32, slice: u32) {
  if (row < params.M && n < params.N) {
//#if VEC == 1
    let column = params.first + n;
    finish(v, row, n / 4u, column / 4u, ((slice * params.M + row) * params.stride + column) / 4u);
//#else
    for (var j = 0u; j < min(4u, params.N - n); j++) {
      let column = params.first + n + j;
      finish(v[j], row, n + j, column, (slice * params.M + row) * params.stride + column);
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

//#if STRATEGY == 0
var<private> acc: array<vec4f, 8 * NV>; // [8 rows, NV] x 4 columns

fn accumulate(rows: u32, x: mat4x4f, j: u32, y: mat4x4f) {
  acc[rows * NV + j] += y * x[0];
  acc[(rows + 1u) * NV + j] += y * x[1];
  acc[(rows + 2u) * NV + j] += y * x[2];
  acc[(rows + 3u) * NV + j] += y * x[3];
}

@compute @workgroup_size(WG_X, WG_Y)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let m = (group.y * WG_Y + local.y) * 8u;
  let n = (group.x * WG_X * NV + local.x) * 4u; // the lane's column vectors are 4 WG_X apart
  let end = kStop(group.z);
  for (var k = kStart(group.z); k < end; k += 4u) {
    let x0 = fragmentA(m, k, end);
    let x1 = fragmentA(m + 4u, k, end);
    let y0 = fragmentB(n, k, end);
//#if NV > 1
    let y1 = fragmentB(n + 4u * WG_X, k, end);
//#endif
//#if NV > 2
    let y2 = fragmentB(n + 8u * WG_X, k, end);
    let y3 = fragmentB(n + 12u * WG_X, k, end);
//#endif
    accumulate(0u, x0, 0u, y0);
    accumulate(4u, x1, 0u, y0);
//#if NV > 1
    accumulate(0u, x0, 1u, y1);
    accumulate(4u, x1, 1u, y1);
//#endif
//#if NV > 2
    accumulate(0u, x0, 2u, y2);
    accumulate(4u, x1, 2u, y2);
    accumulate(0u, x0, 3u, y3);
    accumulate(4u, x1, 3u, y3);
//#endif
  }
  let rows = min(8u, max(params.M, m) - m);
  for (var r = 0u; r < rows; r++) {
    for (var j = 0u; j < min(NV, params.N); j++) {
      store(acc[r * NV + j], m + r, n + j * 4u * WG_X, group.z);
    }
  }
}
//#endif

//#if STRATEGY == 1
const TILE: u32 = 64u;
const DEPTH: u32 = 16u; // k per step
const PITCH: u32 = 17u; // vec4f per line of 64, padded against bank conflicts
var<workgroup> tileA: array<vec4f, DEPTH * PITCH>; // [k, m]
var<workgroup> tileB: array<vec4f, DEPTH * PITCH>; // [k, n]

@compute @workgroup_size(16, 16)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = local.y * 16u + local.x;
  let m0 = group.y * TILE;
  let n0 = group.x * TILE;
  let end = kStop(group.z);
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var k = kStart(group.z); k < end; k += DEPTH) {
    // Each invocation brings one vec4f of each operand, neighbours along the contiguous direction.
    let across = index % 16u;
    let line = index / 16u;
    let quad = index % 4u * 4u;
    let other = index / 4u;
//#if TRANSPOSE_A == 1
    tileA[line * PITCH + across] = fetchA(k + line, m0 + across * 4u, end, params.M, params.M);
//#else
    let x = fetchA(m0 + other, k + quad, params.M, end, params.K);
    tileA[quad * PITCH + other / 4u][other % 4u] = x.x;
    tileA[(quad + 1u) * PITCH + other / 4u][other % 4u] = x.y;
    tileA[(quad + 2u) * PITCH + other / 4u][other % 4u] = x.z;
    tileA[(quad + 3u) * PITCH + other / 4u][other % 4u] = x.w;
//#endif
//#if TRANSPOSE_B == 1
    let y = fetchB(n0 + other, k + quad, params.N, end, params.K);
    tileB[quad * PITCH + other / 4u][other % 4u] = y.x;
    tileB[(quad + 1u) * PITCH + other / 4u][other % 4u] = y.y;
    tileB[(quad + 2u) * PITCH + other / 4u][other % 4u] = y.z;
    tileB[(quad + 3u) * PITCH + other / 4u][other % 4u] = y.w;
//#else
    tileB[line * PITCH + across] = fetchB(k + line, n0 + across * 4u, end, params.N, params.N);
//#endif
    workgroupBarrier();
    for (var i = 0u; i < DEPTH; i++) {
      let xs = tileA[i * PITCH + local.y];
      let ys = tileB[i * PITCH + local.x];
      acc0 = fma(vec4f(xs.x), ys, acc0);
      acc1 = fma(vec4f(xs.y), ys, acc1);
      acc2 = fma(vec4f(xs.z), ys, acc2);
      acc3 = fma(vec4f(xs.w), ys, acc3);
    }
    workgroupBarrier();
  }
  let m = m0 + local.y * 4u;
  let n = n0 + local.x * 4u;
  store(acc0, m, n, group.z);
  store(acc1, m + 1u, n, group.z);
  store(acc2, m + 2u, n, group.z);
  store(acc3, m + 3u, n, group.z);
}
//#endif

//#if STRATEGY == 2
var<private> acc: array<f32, 128>; // [slot, 4 columns]; scalars, as vec4f take LLVM three times as long

fn add(slot: u32, v: vec4f) {
  acc[slot * 4u] += v.x;
  acc[slot * 4u + 1u] += v.y;
  acc[slot * 4u + 2u] += v.z;
  acc[slot * 4u + 3u] += v.w;
}

/** Eight rows: lane j of x holds A[row of slot + j, k..k+3]. */
fn accumulate(slot: u32, x: vec4f, y: mat4x4f) {
  add(slot, y * subgroupBroadcast(x, 0u));
  add(slot + 1u, y * subgroupBroadcast(x, 1u));
  add(slot + 2u, y * subgroupBroadcast(x, 2u));
  add(slot + 3u, y * subgroupBroadcast(x, 3u));
  add(slot + 4u, y * subgroupBroadcast(x, 4u));
  add(slot + 5u, y * subgroupBroadcast(x, 5u));
  add(slot + 6u, y * subgroupBroadcast(x, 6u));
  add(slot + 7u, y * subgroupBroadcast(x, 7u));
}

@compute @workgroup_size(8)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let m = group.y * 32u;
  let n = group.x * 32u + lane * 4u;
  let end = kStop(group.z);
  for (var k = kStart(group.z); k < end; k += 4u) {
    let y = fragmentB(n, k, end);
//#if TRANSPOSE_A == 1
    // Contiguous along m: the lane takes rows 4 lane .. 4 lane + 3, so slot 8 t + j is row 4 j + t.
    let x = fragmentA(m + lane * 4u, k, end);
    accumulate(0u, x[0], y);
    accumulate(8u, x[1], y);
    accumulate(16u, x[2], y);
    accumulate(24u, x[3], y);
//#else
    let x0 = fetchA(m + lane, k, params.M, end, params.K);
    let x1 = fetchA(m + 8u + lane, k, params.M, end, params.K);
    let x2 = fetchA(m + 16u + lane, k, params.M, end, params.K);
    let x3 = fetchA(m + 24u + lane, k, params.M, end, params.K);
    accumulate(0u, x0, y);
    accumulate(8u, x1, y);
    accumulate(16u, x2, y);
    accumulate(24u, x3, y);
//#endif
  }
  let slots = min(32u, params.M * 32u); // a bound the compiler cannot see through, so that the stores stay one loop
  for (var slot = 0u; slot < slots; slot++) {
    let i = slot * 4u;
    let v = vec4f(acc[i], acc[i + 1u], acc[i + 2u], acc[i + 3u]);
//#if TRANSPOSE_A == 1
    store(v, m + slot % 8u * 4u + slot / 8u, n, group.z);
//#else
    store(v, m + slot, n, group.z);
//#endif
  }
}
//#endif
