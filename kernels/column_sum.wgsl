// total[j] (+)= sum_i x[i, j]: the gradient of a tensor that was broadcast over rows, such as a bias
//
// Shapes: x [rows, columns], total [columns]. Threads: one invocation for each element of a row; neighbours read
// neighbouring elements. Range: f32, summed in order of i. Limits: rows * columns below 2^32.

#import lib/element

struct Params {
  rows: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> total: array<Element>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let column = element_index(group, groups, local);
  if (column >= columns) {
    return;
  }
  var sum = Element();
  for (var i = 0u; i < params.rows; i++) {
    sum += x[i * columns + column];
  }
  if (params.accumulate != 0u) {
    sum += total[column];
  }
  total[column] = sum;
}
