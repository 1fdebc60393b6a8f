// y[i, j] = a[i, j] b[i];  da[i, j] = dy[i, j] b[i];  db[i] = sum_j dy[i, j] a[i, j], in order of j
//
// Shapes: a, y, dy, da [count] = [rows, columns], b, db [rows].
// Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart; in `grad_b` one invocation for
// each row, since rows are as short as the rank of an adapter. Range: any. Limits: count below 2^31.

#import lib/elementwise

// `count` is the number of elements, in `grad_b` of rows.
struct Params {
  count: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;
@group(0) @binding(5) var<storage, read_write> db: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = a[i] * b[i / params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] *= b[i / params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      var gradient = dy[i] * b[i / params.columns];
      if (params.accumulate != 0u) {
        gradient += da[i];
      }
      da[i] = gradient;
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_a_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      da[i] *= b[i / params.columns];
    }
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
  for (var i = row * params.columns; i < (row + 1u) * params.columns; i++) {
    sum = fma(dy[i], a[i], sum);
  }
  db[row] = sum;
}
