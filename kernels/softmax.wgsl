// Softmax of each row, y = exp(x - lse), or its logarithm, y = x - lse, with lse = log sum_j exp(x[j])
//
// Softmax: dx = y (dy - sum_j dy[j] y[j]). Logarithm (LOGARITHM = 1): dx = dy - exp(y) sum_j dy[j]. Both are computed from y.
//
// Shapes: x, y, dy, dx [rows, columns]. Threads: a workgroup for each row, whose lanes take every GROUP-th element. Range: the
// largest element of a row is subtracted first, so that nothing overflows; sums in f32, in a fixed order. Limits: rows * columns
// below 2^31.

#import lib/group_sum

const LOGARITHM: u32 = 0u;

struct Params {
  rows: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> lane_maxima: array<f32, GROUP>;

// The largest of the lanes' numbers.
fn group_max(value: f32, lane: u32) -> f32 {
  lane_maxima[lane] = value;
  workgroupBarrier();
  var largest = lane_maxima[0];
  for (var i = 1u; i < GROUP; i++) {
    largest = max(largest, lane_maxima[i]);
  }
  return largest;
}

fn result(value: f32, largest: f32, sum: f32) -> f32 {
  if (LOGARITHM == 1u) {
    return value - largest - log(sum);
  }
  return exp(value - largest) / sum;
}

// What is summed over a row for its gradient.
fn weighted(gradient: f32, output: f32) -> f32 {
  if (LOGARITHM == 1u) {
    return gradient;
  }
  return gradient * output;
}

fn slope(gradient: f32, output: f32, sum: f32) -> f32 {
  if (LOGARITHM == 1u) {
    return gradient - exp(output) * sum;
  }
  return output * (gradient - sum);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_largest = x[first + min(local.x, params.columns - 1u)];
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_largest = max(lane_largest, x[first + j]);
  }
  let largest = group_max(lane_largest, local.x);
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum += exp(x[first + j] - largest);
  }
  let sum = group_sum(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    y[first + j] = result(x[first + j], largest, sum);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_largest = y[first + min(local.x, params.columns - 1u)];
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_largest = max(lane_largest, y[first + j]);
  }
  let largest = group_max(lane_largest, local.x);
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum += exp(y[first + j] - largest);
  }
  let sum = group_sum(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    y[first + j] = result(y[first + j], largest, sum);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum += weighted(dy[first + j], y[first + j]);
  }
  let sum = group_sum(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    var gradient = slope(dy[first + j], y[first + j], sum);
    if (params.accumulate != 0u) {
      gradient += dx[first + j];
    }
    dx[first + j] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum += weighted(dx[first + j], y[first + j]);
  }
  let sum = group_sum(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    dx[first + j] = slope(dx[first + j], y[first + j], sum);
  }
}
