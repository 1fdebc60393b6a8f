// tanh, for kernels that declare Element as f32 or vec4f.
//
// This does not use WGSL's tanh, which is NaN for |x| >= 89 on some drivers and may have an error of 1e-5. From |x| =
// 0.6 on, tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|), which cannot overflow. Below 0.6, where 1 - e would lose
// digits, it is an odd polynomial (minimax). The relative error is 2e-7. NaN stays NaN.

const POLYNOMIAL_BELOW: f32 = 0.6;
const ODD_3: f32 = -0.333333;
const ODD_5: f32 = 0.13331959;
const ODD_7: f32 = -0.053786684;
const ODD_9: f32 = 0.02080538;
const ODD_11: f32 = -0.005905861;

fn hyperbolic_tangent(argument: Element) -> Element {
  let square = argument * argument;
  var odd = fma(Element(ODD_11), square, Element(ODD_9));
  odd = fma(odd, square, Element(ODD_7));
  odd = fma(odd, square, Element(ODD_5));
  odd = fma(odd, square, Element(ODD_3));
  let near_zero = fma(argument * square, odd, argument);
  let small = exp(-2.0 * abs(argument));
  let size = (1.0 - small) / (1.0 + small);
  return select(select(size, -size, argument < Element()), near_zero, abs(argument) < Element(POLYNOMIAL_BELOW));
}
