// y[b, i] = x[b, from[i]], or zeros where from[i] is negative;  dx[b, j] = dy[b, back[j]], or zeros where back[j] is negative
//
// No row is read twice, and `back` names for each row of x the row of y that reads it, so that the gradient gathers too.
// Shapes: x, dx [texts, x_rows, columns], y, dy [texts, y_rows, columns], from [y_rows], back [x_rows]. Threads: one
// invocation for each element of y or dx. Range: any. Limits: count below 2^31; a text may not exceed a binding.

#import lib/element

// `count` is the number of elements of y in `forward`, of dx in `grad_x`; columns are elements too.
struct Params {
  count: u32,
  x_rows: u32,
  y_rows: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> from_rows: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> back_rows: array<i32>;
@group(0) @binding(4) var<storage, read> dy: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let row = i / params.columns;
    let source = from_rows[row % params.y_rows];
    var value = Element();
    if (source >= 0) {
      value = x[(row / params.y_rows * params.x_rows + u32(source)) * params.columns + i % params.columns];
    }
    y[i] = value;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let row = i / params.columns;
    let reader = back_rows[row % params.x_rows];
    var gradient = Element();
    if (reader >= 0) {
      gradient = dy[(row / params.x_rows * params.y_rows + u32(reader)) * params.columns + i % params.columns];
    }
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}
