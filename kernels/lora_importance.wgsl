// y[i] (+)= sum_j |g[i, j] (w + scale B A)[i, j]|,  g = dB A + B dA - dB dA
//
// g estimates the gradient of w from those of its LoRA matrices (LoRAPrune, Zhang et al. 2023). y has a sum for each
// row of w or, if `by_columns`, for each column. A row of w is an output or, if `transposed`, an input.
// Shapes: w [rows, columns], of which a launch binds the rows [row0, row0 + count); a, da [rank, in]; b, db
// [out, rank]; y [rows] or [columns]. Threads: a workgroup for each row or for the columns of an element, in which each
// invocation takes every GROUP-th element.
// Range: any. Limits: a, b, da and db fit one binding each; elements are numbers if `transposed`, since neighbours in a row
// of w are then rank numbers apart in b.

#import lib/element
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

@group(0) @binding(0) var<storage, read> w: array<Element>;
@group(0) @binding(1) var<storage, read> a: array<Element>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> da: array<Element>;
@group(0) @binding(4) var<storage, read> db: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

fn importance(row: u32, column: u32) -> Element {
  let output_index = select(params.row0 + row, column, params.transposed != 0u);
  let input_index = select(column, params.row0 + row, params.transposed != 0u);
  var gradient = Element();
  var update = Element();
  for (var r = 0u; r < params.rank; r++) {
    let a_value = a[r * (params.inputs / WIDTH) + input_index];
    let b_value = b[output_index * params.rank + r];
    let db_value = db[output_index * params.rank + r];
    let da_value = da[r * (params.inputs / WIDTH) + input_index];
    gradient += db_value * a_value + b_value * da_value - db_value * da_value;
    update = fma(Element(b_value), a_value, update);
  }
  return abs(gradient * fma(Element(params.scale), update, w[row * (params.columns / WIDTH) + column]));
}

fn store(index: u32, sum: f32, lane: u32) {
  if (lane == 0u) {
    if (params.accumulate != 0u) {
      y[index] += sum;
    } else {
      y[index] = sum;
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let index = group.y * groups.x + group.x;
  if (index >= select(params.count, columns, params.by_columns != 0u)) {
    return;
  }
  var lane_sum = Element();
  if (params.by_columns != 0u) {
    for (var row = local.x; row < params.count; row += GROUP) {
      lane_sum += importance(row, index);
    }
    for (var e = 0u; e < WIDTH; e++) {
      store(index * WIDTH + e, group_sum(number(lane_sum, e), local.x), local.x);
    }
  } else {
    for (var column = local.x; column < columns; column += GROUP) {
      lane_sum += importance(index, column);
    }
    store(params.row0 + index, group_sum(number_sum(lane_sum), local.x), local.x);
  }
}
