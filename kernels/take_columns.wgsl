// y[i, g size + j] = x[i, offset + g stride + j] for j < size;  dx is dy there
//
// Elsewhere dx is 0, or stays where gradients of other columns are there already. Shapes: x, dx [rows, x_columns], y, dy
// [rows, groups size]. Threads: one invocation for each element of y or dx. Range: any. Limits: count below 2^31.

#import lib/element

// `count` is the number of elements of y in `forward`, of dx in `grad_x`; columns, sizes and offsets are elements too.
struct Params {
  count: u32,
  offset: u32,
  size: u32,
  stride: u32,
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
    let column = i % params.columns;
    let from_column = params.offset + column / params.size * params.stride + column % params.size;
    y[i] = x[i / params.columns * params.x_columns + from_column];
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  // Left of the offset this wraps around, to more than there are columns.
  let after_offset = i % params.x_columns - params.offset;
  let within = after_offset % params.stride;
  let column = after_offset / params.stride * params.size + within;
  if (within < params.size && column < params.columns) {
    let gradient = dy[i / params.x_columns * params.columns + column];
    if (params.accumulate != 0u) {
      dx[i] += gradient;
    } else {
      dx[i] = gradient;
    }
  } else if (params.accumulate == 0u) {
    dx[i] = Element();
  }
}
