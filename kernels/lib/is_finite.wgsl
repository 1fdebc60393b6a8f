// Whether a number is finite. It tests the bits, since a WGSL compiler may assume that no number is infinite or NaN.

fn is_finite(bits: u32) -> bool {
  return (bits & 0x7fffffffu) < 0x7f800000u;
}
