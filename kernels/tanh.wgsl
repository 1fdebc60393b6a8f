// y = tanh(x);  dx = dy (1 - y^2)
//
// This does not use WGSL's tanh, which is NaN for |x| >= 89 on some drivers and may have an error of 1e-5. From |x| =
// 0.6 on, tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|), which cannot overflow. Below 0.6, where 1 - e would lose
// digits, it is an odd polynomial (minimax). The relative error is 2e-7. NaN stays NaN.
//
// Shapes: x, y, dy, dx [count]. Threads: one invocation for each element.
// Range: any. Limits: count below 2^31.

#import lib/element

const POLYNOMIAL_BELOW: f32 = 0.6;
const ODD_3: f32 = -0.333333;
const ODD_5: f32 = 0.13331959;
const ODD_7: f32 = -0.053786684;
const ODD_9: f32 = 0.02080538;
const ODD_11: f32 = -0.005905861;

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

fn hyperbolic_tangent(v: Element) -> Element {
  let square = v * v;
  var odd = fma(Element(ODD_11), square, Element(ODD_9));
  odd = fma(odd, square, Element(ODD_7));
  odd = fma(odd, square, Element(ODD_5));
  odd = fma(odd, square, Element(ODD_3));
  let near_zero = fma(v * square, odd, v);
  let small = exp(-2.0 * abs(v));
  let size = (1.0 - small) / (1.0 + small);
  return select(select(size, -size, v < Element()), near_zero, abs(v) < Element(POLYNOMIAL_BELOW));
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = hyperbolic_tangent(x[i]);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = hyperbolic_tangent(y[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * fma(-y[i], y[i], Element(1.0));
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] *= fma(-y[i], y[i], Element(1.0));
  }
}
