// Where a convolution's taps lie in the picture that it reads: for the convolution itself, and for the product that gives its weights
// their gradient. The kernel's Params have the fields used here, of which conv.wgsl says what they mean.

/// The picture is enlarged by zeros instead of repeated pixels.
override DILATE: u32 = 0;

/// Where a pixel of the result looks in the enlarged picture: its picture's first pixel, and the place of tap (0, 0).
struct Pixel {
  picture: u32,
  top: i32,
  left: i32,
}

/// The place of what is not in the picture.
const OUTSIDE: u32 = 0xffffffffu;

/// Of the pixel in this row and column of a picture of the result.
fn pixel_at(picture: u32, row: u32, column: u32) -> Pixel {
  let top = i32(row * params.step) - i32(params.pad);
  let left = i32(column * params.step) - i32(params.pad);
  return Pixel(picture * params.height * params.width, top, left);
}

/// The element that tap (dy, dx) of a pixel begins at, or OUTSIDE.
fn place(p: Pixel, dy: u32, dx: u32) -> u32 {
  let iy = p.top + i32(dy);
  let ix = p.left + i32(dx);
//#if DILATE == 1
  let there = ((iy | ix) & 1) == 0;
//#else
  let there = true;
//#endif
  let inside = there & (iy >= 0) & (iy < i32(params.height << params.up)) & (ix >= 0) & (ix < i32(params.width << params.up));
  let at = (p.picture + (u32(max(iy, 0)) >> params.up) * params.width + (u32(max(ix, 0)) >> params.up)) * params.channels;
  return select(OUTSIDE, at, inside);
}
