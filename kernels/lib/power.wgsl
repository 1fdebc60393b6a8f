// base to the power of exponent. WGSL's pow is for positive bases: a negative one has a result for whole exponents, and is NaN
// otherwise. 0 to the power of 0 is 1.

#import lib/element

fn power(base: Element, exponent: Element) -> Element {
  let magnitude = pow(abs(base), exponent);
  let is_negative = base < Element();
  let is_whole = floor(exponent) == exponent;
  let is_odd = exponent - 2.0 * floor(0.5 * exponent) == Element(1.0);
  let signed = select(magnitude, -magnitude, is_negative & is_odd);
  let real = select(signed, sqrt(base), is_negative & !is_whole);
  return select(real, Element(1.0), exponent == Element());
}
