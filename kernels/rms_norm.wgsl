// y = xhat weight,  xhat = x rstd,  rstd = 1 / sqrt(mean(x^2) + eps), for each row
//   g = dy weight;  dx = rstd (g - xhat mean(g xhat));  dweight = sum over rows of dy xhat
//
// Entries `..._from_y` compute xhat = y / weight. Then only y is kept, which the next layer keeps anyway, but weights
// must not be near zero. Entries `..._from_x` compute xhat from x and rstd.
//
// Shapes: x, y, dy, dx [rows, columns], weight [columns], rstd [rows], partials [chunks, columns]. partials has a row
// of sums for each CHUNK_ROWS rows; column_sum.wgsl adds them. Both sums have a fixed order. Threads: a workgroup for
// each row, in which each invocation takes every GROUP-th column; in `temp_partials...` one invocation for each chunk
// and column.
// Range: statistics in f32. Limits: rows * columns of one launch below 2^31; partials fit one binding.

const GROUP: u32 = 64u;
const BRANCH: u32 = 8u;
const CHUNK_ROWS: u32 = 32u;

struct Params {
  rows: u32,
  columns: u32,
  eps: f32,
  accumulate: u32,
  chunk0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> lanes: array<f32, GROUP>;
var<workgroup> branches: array<f32, BRANCH>;

// Mean over the row, summed in a fixed order: eight lanes at a time, then the eight sums. This takes two barriers,
// where halving would take six: barriers are expensive on a CPU.
fn row_mean(value: f32, lane: u32) -> f32 {
  lanes[lane] = value;
  workgroupBarrier();
  if (lane < BRANCH) {
    var branch = lanes[lane * BRANCH];
    for (var i = 1u; i < BRANCH; i++) {
      branch += lanes[lane * BRANCH + i];
    }
    branches[lane] = branch;
  }
  workgroupBarrier();
  var sum = branches[0];
  for (var i = 1u; i < BRANCH; i++) {
    sum += branches[i];
  }
  return sum / f32(params.columns);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var squares = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    squares = fma(x[first + j], x[first + j], squares);
  }
  let inverse = 1.0 / sqrt(row_mean(squares, local.x) + params.eps);
  for (var j = local.x; j < params.columns; j += GROUP) {
    y[first + j] = x[first + j] * inverse * weight[j];
  }
  if (local.x == 0u) {
    rstd[row] = inverse;
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var squares = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    squares = fma(y[first + j], y[first + j], squares);
  }
  let inverse = 1.0 / sqrt(row_mean(squares, local.x) + params.eps);
  for (var j = local.x; j < params.columns; j += GROUP) {
    y[first + j] = y[first + j] * inverse * weight[j];
  }
  if (local.x == 0u) {
    rstd[row] = inverse;
  }
}

fn store_gradient(index: u32, gradient: f32) {
  if (params.accumulate != 0u) {
    dx[index] += gradient;
  } else {
    dx[index] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum = fma(dy[first + j], y[first + j], lane_sum);
  }
  let mean = row_mean(lane_sum, local.x);
  let inverse = rstd[row];
  for (var j = local.x; j < params.columns; j += GROUP) {
    let xhat = y[first + j] / weight[j];
    store_gradient(first + j, inverse * (dy[first + j] * weight[j] - xhat * mean));
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum = fma(dx[first + j], y[first + j], lane_sum);
  }
  let mean = row_mean(lane_sum, local.x);
  let inverse = rstd[row];
  for (var j = local.x; j < params.columns; j += GROUP) {
    let xhat = y[first + j] / weight[j];
    dx[first + j] = inverse * (dx[first + j] * weight[j] - xhat * mean);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  let inverse = rstd[row];
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum = fma(dy[first + j] * weight[j], x[first + j] * inverse, lane_sum);
  }
  let mean = row_mean(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    store_gradient(first + j, inverse * (dy[first + j] * weight[j] - x[first + j] * inverse * mean));
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.columns;
  let inverse = rstd[row];
  var lane_sum = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    lane_sum = fma(dx[first + j] * weight[j], x[first + j] * inverse, lane_sum);
  }
  let mean = row_mean(lane_sum, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    dx[first + j] = inverse * (dx[first + j] * weight[j] - x[first + j] * inverse * mean);
  }
}

struct ChunkColumn {
  chunk: u32,
  column: u32,
}

fn chunk_column(group: vec3u, groups: vec3u, local: vec3u) -> ChunkColumn {
  let per_row = (params.columns + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  return ChunkColumn(index / per_row, (index % per_row) * GROUP + local.x);
}

@compute @workgroup_size(GROUP)
fn temp_partials_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    let index = i * params.columns + at.column;
    sum = fma(dy[index], y[index], sum);
  }
  partials[(params.chunk0 + at.chunk) * params.columns + at.column] = sum / weight[at.column];
}

@compute @workgroup_size(GROUP)
fn temp_partials_from_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    let index = i * params.columns + at.column;
    sum = fma(dy[index], x[index] * rstd[i], sum);
  }
  partials[(params.chunk0 + at.chunk) * params.columns + at.column] = sum;
}
