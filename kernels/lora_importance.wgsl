// y[i] (+)= sum_j |g[i, j] (w + scale B A)[i, j]|,  g = dB A + B dA - dB dA
//
// g estimates the gradient of w from those of its LoRA matrices (LoRAPrune, Zhang et al. 2023). y has a sum for each
// row of w or, if `by_columns`, for each column. A row of w is an output or, if `transposed`, an input.
// Shapes: w [rows, columns], of which a launch binds the rows [row0, row0 + count); a, da [rank, in]; b, db
// [out, rank]; y [rows] or [columns]. Threads: a workgroup for each element of y, in which each invocation takes every
// GROUP-th summand.
// Range: any. Limits: a, b, da and db fit one binding each.

#import lib/group_sum

struct Params {
  count: u32,
  row0: u32,
  columns: u32,
  inputs: u32,
  rank: u32,
  transposed: u32,
  by_columns: u32,
  accumulate: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> da: array<f32>;
@group(0) @binding(4) var<storage, read> db: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

fn importance(row: u32, column: u32) -> f32 {
  let output_index = select(params.row0 + row, column, params.transposed != 0u);
  let input_index = select(column, params.row0 + row, params.transposed != 0u);
  var gradient = 0.0;
  var update = 0.0;
  for (var r = 0u; r < params.rank; r++) {
    let a_value = a[r * params.inputs + input_index];
    let b_value = b[output_index * params.rank + r];
    let db_value = db[output_index * params.rank + r];
    let da_value = da[r * params.inputs + input_index];
    gradient += db_value * a_value + b_value * da_value - db_value * da_value;
    update = fma(b_value, a_value, update);
  }
  return abs(gradient * fma(params.scale, update, w[row * params.columns + column]));
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.y * groups.x + group.x;
  if (index >= select(params.count, params.columns, params.by_columns != 0u)) {
    return;
  }
  var lane_sum = 0.0;
  if (params.by_columns != 0u) {
    for (var row = local.x; row < params.count; row += GROUP) {
      lane_sum += importance(row, index);
    }
  } else {
    for (var column = local.x; column < params.columns; column += GROUP) {
      lane_sum += importance(index, column);
    }
  }
  let sum = group_sum(lane_sum, local.x);
  if (local.x == 0u) {
    let y_index = select(params.row0 + index, index, params.by_columns != 0u);
    if (params.accumulate != 0u) {
      y[y_index] += sum;
    } else {
      y[y_index] = sum;
    }
  }
}
