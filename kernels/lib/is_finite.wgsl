// Whether the numbers of an element are finite. It tests their bits, since a WGSL compiler may assume that no number is infinite
// or NaN.

#import lib/element

fn is_finite(bits: Index) -> Truth {
  return (bits & Index(0x7fffffffu)) < Index(0x7f800000u);
}
