// What every update of an optimizer begins with: whether loss and gradients of the step are finite, and the factor by which
// gradients are clipped, min(1, max_norm / (sqrt(total) + 1e-6)), or 1 for max_norm 0.
// Its kernels declare `total` [1], the sum of squares of all gradients, and `loss` [1], both as bits, since a WGSL compiler may
// assume that no number is NaN.

#import lib/is_finite

fn is_good_step() -> bool {
  return all(is_finite(Index(total[0]))) && all(is_finite(Index(loss[0])));
}

fn clip_factor(max_norm: f32) -> f32 {
  if (max_norm > 0.0) {
    return min(1.0, max_norm / (sqrt(bitcast<f32>(total[0])) + 1e-6));
  }
  return 1.0;
}
