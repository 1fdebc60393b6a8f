// 1 / (1 + exp(-v)). exp(-|v|) cannot overflow, so that neither tail loses digits.

fn logistic(v: f32) -> f32 {
  let small = exp(-abs(v));
  return select(1.0, small, v < 0.0) / (1.0 + small);
}
