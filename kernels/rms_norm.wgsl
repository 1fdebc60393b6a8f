// y = xhat weight,  xhat = x rstd,  rstd = 1 / sqrt(mean(x^2) + eps), per row
//   g = dy weight;  dx = rstd (g - xhat mean(g xhat));  dweight = sum_rows dy xhat
//
// Entries `..._from_y` recover xhat = y / weight, so that only y is kept, which the next layer keeps anyway; they need
// weights away from zero. Entries `..._from_x` take xhat from x and rstd.
//
// Shapes: x, y, dy, dx [rows, columns], weight [columns], rstd [rows], partials [chunks, columns]: sums over CHUNK_ROWS
// rows, added up by column_sum.wgsl, both in a fixed order.
// Threads: a workgroup a row, strided over columns; in `temp_partials...` one invocation a chunk and column.
// Range: f32 statistics. Limits: rows * columns of one launch below 2^31; partials fit one binding.

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

// Mean over the row, in a fixed order: eight lanes at a time, then the eight sums.
fn row_mean(own: f32, lane: u32) -> f32 {
  lanes[lane] = own;
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
  var own = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    own = fma(dy[first + j], y[first + j], own);
  }
  let mean = row_mean(own, local.x);
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
  var own = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    own = fma(dx[first + j], y[first + j], own);
  }
  let mean = row_mean(own, local.x);
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
  var own = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    own = fma(dy[first + j] * weight[j], x[first + j] * inverse, own);
  }
  let mean = row_mean(own, local.x);
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
  var own = 0.0;
  for (var j = local.x; j < params.columns; j += GROUP) {
    own = fma(dx[first + j] * weight[j], x[first + j] * inverse, own);
  }
  let mean = row_mean(own, local.x);
  for (var j = local.x; j < params.columns; j += GROUP) {
    dx[first + j] = inverse * (dx[first + j] * weight[j] - x[first + j] * inverse * mean);
  }
}

struct Place {
  chunk: u32,
  column: u32,
}

fn chunk_place(group: vec3u, groups: vec3u, local: vec3u) -> Place {
  let across = (params.columns + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  return Place(index / across, (index % across) * GROUP + local.x);
}

@compute @workgroup_size(GROUP)
fn temp_partials_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = chunk_place(group, groups, local);
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
  let at = chunk_place(group, groups, local);
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
