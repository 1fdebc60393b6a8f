// y[i, j] = a[i, j] b[i];  da[i, j] = dy[i, j] b[i];  db[i] = sum_j dy[i, j] a[i, j], in order of j
//
// Shapes: a, y, dy, da [count] = [rows, columns], b, db [rows].
// Threads: one invocation for each element; in `grad_b` one invocation for
// each row, since rows are as short as the rank of an adapter. Range: any. Limits: count below 2^31.

#import lib/element

// `count` is the number of elements, in `grad_b` of rows.
struct Params {
  count: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> da: array<Element>;
@group(0) @binding(5) var<storage, read_write> db: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = a[i] * b[i * WIDTH / params.columns];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] *= b[i * WIDTH / params.columns];
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * b[i * WIDTH / params.columns];
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
    da[i] *= b[i * WIDTH / params.columns];
  }
}

@compute @workgroup_size(GROUP)
fn grad_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = (group.y * groups.x + group.x) * GROUP + local.x;
  if (row >= params.count) {
    return;
  }
  var sum = 0.0;
  if (params.accumulate != 0u) {
    sum = db[row];
  }
  let elements = params.columns / WIDTH;
  for (var i = row * elements; i < (row + 1u) * elements; i++) {
    for (var e = 0u; e < WIDTH; e++) {
      sum = fma(number(dy[i], e), number(a[i], e), sum);
    }
  }
  db[row] = sum;
}
