// Exact: y = x P(x), where P is the standard normal distribution function
//   dx = dy (P(x) + x exp(-x^2 / 2) / sqrt(2 pi))
// tanh approximation (GPT-2): y = x s,  s = (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)),  u = sqrt(2 / pi) (x + 0.044715 x^3)
//   dx = dy (s + 2 x s (1 - s) u')
//
// Shapes: x, y, dy, dx [count]. Threads: one invocation for each element.
// Range: |x| below 1e12. Limits: count below 2^31.

#import lib/element
#import lib/gelu

struct Params {
  count: u32,
  by_tanh: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = gelu(x[i]);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = gelu(y[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * slope(x[i]);
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
    dx[i] *= slope(x[i]);
  }
}
