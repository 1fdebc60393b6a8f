// y = factor a + b;  da = factor dy;  db = dy, which needs no launch;  inverse: x = (y - b) / factor, which is a
//
// Shapes: a, b, y, dy, da, x [count]. Threads: one invocation for each element.
// Range: any; factor is not 0. Limits: count below 2^31.

#import lib/element

struct Params {
  count: u32,
  factor: f32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> da: array<Element>;
@group(0) @binding(5) var<storage, read_write> x: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = params.factor * a[i] + b[i];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = params.factor * y[i] + b[i];
  }
}

@compute @workgroup_size(GROUP)
fn inverse(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    x[i] = (y[i] - b[i]) / params.factor;
  }
}

@compute @workgroup_size(GROUP)
fn inverse_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    x[i] = (x[i] - b[i]) / params.factor;
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = params.factor * dy[i];
    if (params.accumulate != 0u) {
      gradient += da[i];
    }
    da[i] = gradient;
  }
}
