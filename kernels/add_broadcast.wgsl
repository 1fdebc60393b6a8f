// y[i, j] = a[i, j] + b[j];  da = dy, which needs no launch;  db[j] = sum_i dy[i, j], by column_sum.wgsl
//
// Shapes: a, y [count] = [rows, columns], b [columns]. A row may be several axes, such as position embeddings [t, d].
// Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart. Range: any.
// Limits: count below 2^31; b fits one binding.

#import lib/elementwise

struct Params {
  count: u32,
  columns: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = a[i] + b[i % params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] += b[i % params.columns];
    }
  }
}
