// y[i, j] = a[i, j] + b[j];  da = dy, which needs no launch;  db[j] = sum_i dy[i, j], by column_sum.wgsl
//
// Shapes: a, y [count] = [rows, columns], b [columns]. A row may be several axes, such as position embeddings [t, d].
// Threads: one invocation for each element. Range: any.
// Limits: count below 2^31; b fits one binding.

#import lib/element

struct Params {
  count: u32,
  columns: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = a[i] + b[i % (params.columns / WIDTH)];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] += b[i % (params.columns / WIDTH)];
  }
}
