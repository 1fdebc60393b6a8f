// y[i] = a[i] b[i];  da[i] = dy[i] b[i];  db[i] = dy[i] a[i]
//
// Shapes: a, b, y, dy, da, db [count]. Threads: one invocation for each element. Range: any. Limits: count below 2^31.

#import lib/element

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> da: array<Element>;
@group(0) @binding(5) var<storage, read_write> db: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = a[i] * b[i];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] *= b[i];
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * b[i];
    if (params.accumulate != 0u) {
      gradient += da[i];
    }
    da[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_a_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    da[i] *= b[i];
  }
}

@compute @workgroup_size(GROUP)
fn grad_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * a[i];
    if (params.accumulate != 0u) {
      gradient += db[i];
    }
    db[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_b_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    db[i] *= a[i];
  }
}
