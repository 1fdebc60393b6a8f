// y[i, j] = x[i, j] for i < rows and j < columns;  dx[i, j] = dy[i, j] there, 0 elsewhere
//
// Shapes: x, dx [m, x_columns], y, dy [rows, columns]. Threads: one invocation for each element of y or dx. Range: any.
// Limits: every tensor fits one binding, count below 2^31.

#import lib/element

// `count` is the number of elements of y in `forward`, of dx in `grad_x`; columns are elements too.
struct Params {
  count: u32,
  rows: u32,
  columns: u32,
  x_columns: u32,
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
  if (i < params.count) {
    y[i] = x[(i / params.columns) * params.x_columns + i % params.columns];
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let row = i / params.x_columns;
    let column = i % params.x_columns;
    var gradient = Element();
    if (row < params.rows && column < params.columns) {
      gradient = dy[row * params.columns + column];
    }
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}
