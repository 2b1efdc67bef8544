// Logarithm, sine and cosine to within a few roundings of float32 on every device: WGSL promises the built-in ones only
// to 2^-21 (log near 1) and 2^-11 (sin, cos).

/// Natural logarithm of a positive normal number: 2 atanh((m - 1) / (m + 1)) + e ln 2, m in [sqrt(1/2), sqrt(2)).
fn precise_log(x: f32) -> f32 {
  // Offsets the bits so that the exponent field steps at sqrt(1/2).
  let bits = bitcast<u32>(x) + (0x3f800000u - 0x3f3504f3u);
  let e = i32(bits >> 23u) - 127;
  let m = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u);
  let s = (m - 1.0) / (m + 1.0);
  let z = s * s;
  let series = z * (0.33333333 + z * (0.2 + z * (0.14285714 + z * 0.11111111)));
  return 2.0 * s + (2.0 * s * series + f32(e) * 0.69314718);
}

/// (cos, sin) of x + quarters * pi/2, for |x| <= pi/4.
fn precise_cos_sin(x: f32, quarters: i32) -> vec2f {
  let z = x * x;
  let c = 1.0 + z * (-0.5 + z * (0.041666667 + z * (-0.0013888889 + z * 2.4801587e-5)));
  let s = x + x * z * (-0.16666667 + z * (0.0083333333 + z * (-1.9841270e-4 + z * 2.7557319e-6)));
  let even = (quarters & 1) == 0;
  let cosine = select(s, c, even);
  let sine = select(c, s, even);
  return vec2f(select(cosine, -cosine, ((quarters + 1) & 2) != 0), select(sine, -sine, (quarters & 2) != 0));
}
