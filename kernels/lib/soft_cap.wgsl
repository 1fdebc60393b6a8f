// Soft caps of scores, for kernels that declare Element as f32 or vec4f.
//
// WGSL's tanh is NaN for |x| >= 89 on some drivers. tanh x = 1 - 2 / (exp(2 x) + 1) cannot overflow, but has an absolute error of
// 1e-7, which counts where x is small; there, two terms of its series are exact to 1e-6 of it.

const SERIES_BELOW: f32 = 0.05;

fn soft_cap(scores: Element, cap: f32) -> Element {
  let ratio = scores / cap;
  let series = fma(ratio * ratio, scores * -0.33333333, scores);
  let capped = cap - 2.0 * cap / (exp(2.0 * ratio) + 1.0);
  return select(capped, series, abs(ratio) < Element(SERIES_BELOW));
}
