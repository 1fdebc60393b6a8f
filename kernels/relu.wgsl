// y = max(x, 0);  dx = dy where y > 0, else 0
//
// Shapes: x, y, dy, dx [count]. Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart.
// Range: any; NaN stays NaN. Limits: count below 2^31.

#import lib/elementwise

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn rectified(v: f32) -> f32 {
  return select(v, 0.0, v < 0.0);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = rectified(x[i]);
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = rectified(y[i]);
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      var gradient = select(0.0, dy[i], y[i] > 0.0);
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
      dx[i] = select(0.0, dx[i], y[i] > 0.0);
    }
  }
}
