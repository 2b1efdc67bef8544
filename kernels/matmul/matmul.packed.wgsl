// How the variants of the matrix product read what may be packed: the second factor as f16 or i8 (PACK_B), the first and the residual as
// f16 (F16_A, F16_C).

//#if VEC == 1
/** Elements 4 i .. 4 i + 3 of a. */
fn loadA(i: u32) -> vec4f {
//#if F16_A == 1
  return unpack_halves(a[i]);
//#else
  return a[i];
//#endif
}

//#if EPILOGUE == 4
/** Elements 4 i .. 4 i + 3 of the residual. */
fn loadC(i: u32) -> vec4f {
//#if F16_C == 1
  return unpack_halves(residual[i]);
//#else
  return residual[i];
//#endif
}
//#endif

/** Elements 4 i .. 4 i + 3 of b as it is stored. */
fn loadB(i: u32) -> vec4f {
//#if PACK_B == 0
  return b[i];
//#endif
//#if PACK_B == 1
  return unpack_halves(b[i]);
//#endif
//#if PACK_B == 2
  // By shifts, as unpack4x8snorm need not be exact.
  return vec4f(bitcast<vec4i>(vec4u(b[i]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
//#endif
}
//#else
/** Element i of b as it is stored. */
fn loadB(i: u32) -> f32 {
//#if PACK_B == 0
  return b[i];
//#endif
//#if PACK_B == 1
  return unpack2x16float(b[i / 2u])[i % 2u];
//#endif
//#if PACK_B == 2
  return f32(bitcast<i32>(b[i / 4u] << (24u - i % 4u * 8u)) >> 24u);
//#endif
}
//#endif

//#if PACK_B == 2
/** Scales of the columns of Element n. */
fn scaleB(n: u32) -> Element {
//#if THREE == 1
  let part = part_of(n * UNIT);
  let start = (params.K * params.stride + 3u) / 4u + part * (params.spacing / 4u - params.stride);
//#else
  let start = (params.K * params.N + 3u) / 4u;
//#endif
//#if VEC == 1
  let at = start + n * 4u;
  return bitcast<vec4f>(vec4u(b[at], b[at + 1u], b[at + 2u], b[at + 3u]));
//#else
  return bitcast<f32>(b[start + n]);
//#endif
}
//#endif
