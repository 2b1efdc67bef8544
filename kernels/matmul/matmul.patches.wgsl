// The first factor of the product that gives a convolution's weights their gradient (PATCHES 1, with TRANSPOSE_A 1): line k of A is what
// pixel k of the result sees of the picture `a`, tap by tap, the channels of each. It is never written out. Needs conv/taps.wgsl.

/// A pixel of the result, by its place.
struct Seat {
  picture: u32,
  row: u32,
  column: u32,
}

fn seat(line: u32) -> Seat {
  let row = line / params.outWidth;
  let picture = row / params.outHeight;
  return Seat(picture, row - picture * params.outHeight, line - row * params.outWidth);
}

/// The pixel after it, without a division.
fn after(s: Seat) -> Seat {
  let column = s.column + 1u;
  let row = s.row + select(0u, 1u, column == params.outWidth);
  let past = row == params.outHeight;
  return Seat(s.picture + select(0u, 1u, past), select(row, 0u, past), select(column, 0u, column == params.outWidth));
}

/// Elements at..at+3 of a pixel's line; zero where there are none.
fn sight(s: Seat, at: u32, inside: bool) -> vec4f {
  let p = pixel_at(s.picture, s.row, s.column);
//#if VEC == 1
  let tap = at / params.channels;
  let base = place(p, tap / params.side, tap % params.side);
  let there = inside & (at < params.M) & (base != OUTSIDE);
  return select(vec4f(), loadA(select(0u, (base + at - tap * params.channels) / 4u, there)), there);
//#else
  var v = vec4f();
  for (var j = 0u; j < 4u && inside && at + j < params.M; j++) {
    let tap = (at + j) / params.channels;
    let base = place(p, tap / params.side, tap % params.side);
    if (base != OUTSIDE) { v[j] = a[base + at + j - tap * params.channels]; }
  }
  return v;
//#endif
}

fn fetchA(line: u32, at: u32, lines: u32, end: u32, length: u32) -> vec4f {
  return sight(seat(line), at, line < lines);
}

fn wholeA(line: u32, at: u32, length: u32) -> vec4f {
  return sight(seat(line), at, true);
}

fn fragmentA(m: u32, k: u32, kEnd: u32) -> mat4x4f {
  let s0 = seat(k);
  let s1 = after(s0);
  let s2 = after(s1);
  let s3 = after(s2);
  return transpose(mat4x4f(
    sight(s0, m, k < kEnd), sight(s1, m, k + 1u < kEnd), sight(s2, m, k + 2u < kEnd), sight(s3, m, k + 3u < kEnd)));
}
