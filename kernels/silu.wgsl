// y = x s, s = 1 / (1 + exp(-x));  dx = dy s (1 + x (1 - s))
//
// s and 1 - s are both computed from exp(-|x|), which cannot overflow, so that neither tail loses digits.
//
// Shapes: x, y, dy, dx [count]. Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart.
// Range: any. Limits: count below 2^31.

#import lib/elementwise
#import lib/logistic

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn silu(v: f32) -> f32 {
  return v * logistic(v);
}

fn slope(v: f32) -> f32 {
  return logistic(v) * fma(v, logistic(-v), 1.0);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = silu(x[i]);
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = silu(y[i]);
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      var gradient = dy[i] * slope(x[i]);
      if (params.accumulate != 0u) {
        gradient += dx[i];
      }
      dx[i] = gradient;
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      dx[i] *= slope(x[i]);
    }
  }
}
