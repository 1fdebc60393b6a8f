// GELU and its derivative, where `Params` has a field `by_tanh`: exactly, or by GPT-2's approximation.
//
// WGSL has no erf. P(-|x|) = exp(-x^2 / 2) k (T0 + T1 k + ... + T6 k^6) with k = 1 / (1 + 0.45 |x|): the form of
// Abramowitz and Stegun 7.1.26 with two more terms, fitted to P (minimax, 2.2e-9). The remaining error is f32 rounding:
// 2e-7 in P, 1e-7 in y for x < 1, an ulp of y above. exp is applied to negative numbers only, so nothing overflows, and
// NaN stays NaN.

#import lib/element
#import lib/logistic

const TAIL_SLOPE: f32 = 0.45;
const TAIL_0: f32 = 0.1772716;
const TAIL_1: f32 = 0.20540091;
const TAIL_2: f32 = 0.018136417;
const TAIL_3: f32 = 0.39363924;
const TAIL_4: f32 = -0.4740411;
const TAIL_5: f32 = 0.21744677;
const TAIL_6: f32 = -0.037853837;
const INVERSE_SQRT_TWO_PI: f32 = 0.3989422804;
const TWICE_SQRT_TWO_OVER_PI: f32 = 1.5957691216;
const CUBIC: f32 = 0.044715;

fn normal_distribution(v: Element) -> Element {
  let k = 1.0 / fma(Element(TAIL_SLOPE), abs(v), Element(1.0));
  var tail = fma(Element(TAIL_6), k, Element(TAIL_5));
  tail = fma(tail, k, Element(TAIL_4));
  tail = fma(tail, k, Element(TAIL_3));
  tail = fma(tail, k, Element(TAIL_2));
  tail = fma(tail, k, Element(TAIL_1));
  tail = fma(tail, k, Element(TAIL_0));
  tail *= k * exp(-0.5 * v * v);
  return select(1.0 - tail, tail, v < Element());
}

fn gelu(v: Element) -> Element {
  if (params.by_tanh != 0u) {
    return v * logistic(TWICE_SQRT_TWO_OVER_PI * v * fma(CUBIC * v, v, Element(1.0)));
  }
  return v * normal_distribution(v);
}

fn slope(v: Element) -> Element {
  if (params.by_tanh != 0u) {
    let twice_u = TWICE_SQRT_TWO_OVER_PI * v * fma(CUBIC * v, v, Element(1.0));
    let small = exp(-abs(twice_u));
    let twice_du = TWICE_SQRT_TWO_OVER_PI * fma(3.0 * CUBIC * v, v, Element(1.0));
    return logistic(twice_u) + v * twice_du * small / ((1.0 + small) * (1.0 + small));
  }
  return normal_distribution(v) + v * INVERSE_SQRT_TWO_PI * exp(-0.5 * v * v);
}
