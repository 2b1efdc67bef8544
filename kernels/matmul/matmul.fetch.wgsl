// How the variants of the matrix product read A and B, four elements at a time: lines of the matrix as it is stored, or fragments of
// 4 x 4 turned as the product wants them. What lies outside is zero; `whole...` reads what is known to lie inside.
// Of an A that is made of a picture (PATCHES), matmul.patches.wgsl does the same.

//#if PATCHES == 0
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
//#endif

/** Where element b[line, at] of a stored matrix of lines of `length` is. */
fn placeB(line: u32, at: u32, length: u32) -> u32 {
//#if THREE == 1
  return line * params.stride + at + part_of(at) * (params.spacing - params.stride);
//#else
  return line * length + at;
//#endif
}

fn fetchB(line: u32, at: u32, lines: u32, end: u32, length: u32) -> vec4f {
//#if VEC == 1
  let inside = (line < lines) & (at < end);
  return select(vec4f(), loadB(select(0u, placeB(line, at, length) / 4u, inside)), inside);
//#else
  var v = vec4f();
  for (var j = 0u; j < min(4u, max(end, at) - at) && line < lines; j++) {
    v[j] = loadB(placeB(line, at + j, length));
  }
  return v;
//#endif
}

//#if PATCHES == 0
/** Columns of the result: op(A)[m + t, k..k+3] for t = 0..3; zero for k >= kEnd. */
fn fragmentA(m: u32, k: u32, kEnd: u32) -> mat4x4f {
  let rows = params.M;
//#unroll i 4
//#if TRANSPOSE_A == 1
  let line_i = fetchA(k + i, m, kEnd, rows, rows);
//#else
  let line_i = fetchA(m + i, k, rows, kEnd, params.K);
//#endif
//#end
  let lines = mat4x4f(line_0, line_1, line_2, line_3);
//#if TRANSPOSE_A == 1
  return transpose(lines);
//#else
  return lines;
//#endif
}
//#endif

/** Columns of the result: op(B)[k + i, n..n+3] for i = 0..3; zero for k >= kEnd. */
fn fragmentB(n: u32, k: u32, kEnd: u32) -> mat4x4f {
  let columns = params.N;
//#unroll i 4
//#if TRANSPOSE_B == 1
  let line_i = fetchB(n + i, k, columns, kEnd, params.K);
//#else
  let line_i = fetchB(k + i, n, kEnd, columns, columns);
//#endif
//#end
  return turnedB(mat4x4f(line_0, line_1, line_2, line_3));
}

/** Lines of B as columns of the result. */
fn turnedB(lines: mat4x4f) -> mat4x4f {
//#if TRANSPOSE_B == 1
  return transpose(lines);
//#else
  return lines;
//#endif
}

//#if PATCHES == 0
/** Four elements a[line, at..at+3] of lines of `length`, all of them inside. */
fn wholeA(line: u32, at: u32, length: u32) -> vec4f {
  let i = line * length + at;
//#if VEC == 1
  return loadA(i / 4u);
//#else
  return vec4f(a[i], a[i + 1u], a[i + 2u], a[i + 3u]);
//#endif
}
//#endif

fn wholeB(line: u32, at: u32, length: u32) -> vec4f {
//#if VEC == 1
  return loadB(placeB(line, at, length) / 4u);
//#else
  var v = vec4f();
  for (var j = 0u; j < 4u; j++) { v[j] = loadB(placeB(line, at + j, length)); }
  return v;
//#endif
}
