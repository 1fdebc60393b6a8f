// y[b, j, i] = x[b, i, j];  dx[b, i, j] = dy[b, j, i]
//
// Shapes: x, dx [matrices, m, n], y, dy [matrices, n, m]. Threads: one invocation for each element of y or dx. Range:
// any. Limits: count below 2^31.

#import lib/element

// `rows` and `columns` are those of a matrix of y in `forward`, of dx in `grad_x`.
struct Params {
  count: u32,
  rows: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn source_index(i: u32) -> u32 {
  let size = params.rows * params.columns;
  let within = i % size;
  return i - within + (within % params.columns) * params.rows + within / params.columns;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    y[i] = x[source_index(i)];
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    var gradient = dy[source_index(i)];
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}
