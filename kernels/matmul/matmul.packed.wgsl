// How the variants of the matrix product read what may be packed: the second factor as f16 or i8 (PACK_B), the first and the residual as
// f16 (F16_A, F16_C).

//#if VEC == 1
/** Elements 4 i .. 4 i + 3 of a. */
fn loadA(i: u32) -> vec4f {
//#if MIRROR_A == 1
  return textureLoad(a, texel_of(i));
//#else
//#if F16_A == 1
  return unpack_halves(a[i]);
//#else
  return a[i];
//#endif
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
//#if MIRROR_B == 1
  return vec4f(textureLoad(b, texel_of(i)));
//#else
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
/** Number i of four bytes of b. */
fn wordB(i: u32) -> u32 {
//#if MIRROR_B == 1
  let bytes = bitcast<vec4u>(textureLoad(b, texel_of(i)) & vec4i(255)) << vec4u(0u, 8u, 16u, 24u);
  return bytes.x | bytes.y | bytes.z | bytes.w;
//#else
  return b[i];
//#endif
}

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
  return bitcast<vec4f>(vec4u(wordB(at), wordB(at + 1u), wordB(at + 2u), wordB(at + 3u)));
//#else
  return bitcast<f32>(wordB(start + n));
//#endif
}
//#endif
