// y = xhat w,  w = OFFSET + weight,  xhat = x rstd,  rstd = 1 / sqrt(mean(x^2) + eps), for each row
//   g = dy w;  dx = rstd (g - xhat mean(g xhat));  dweight = sum over rows of dy xhat
//
// Entries `..._from_y` compute xhat = y / w. Then only y is kept, which the next layer keeps anyway, but w must not be
// near zero. Entries `..._from_x` compute xhat from x and rstd.
//
// Entries `add_...` add `residual` to their input first, in place: they run in place of add.wgsl and the norm after it. In
// `add_y_forward` the residual lies in y, which the norm overwrites.
//
// Shapes: x, y, residual, dy, dx [rows, columns], weight [columns], rstd [rows], partials [chunks, columns]. partials has a row
// of sums for each CHUNK_ROWS rows; column_sum.wgsl adds them. Both sums have a fixed order. Threads: a workgroup for
// each row, in which each invocation takes every GROUP-th column; in `temp_partials...` one invocation for each chunk
// and column.
// Range: statistics in f32. Limits: rows * columns of one launch below 2^31; partials fit one binding.

#import lib/norm

// Gemma's norms store w - 1.
const OFFSET: u32 = 0u;

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read> weight: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;
@group(0) @binding(6) var<storage, read_write> partials: array<Element>;
@group(0) @binding(7) var<storage, read> residual: array<Element>;
@group(0) @binding(8) var<uniform> params: Params;

fn scale_at(column: u32) -> Element {
  return weight[column] + f32(OFFSET);
}

// The norm of a row of x.
fn row_norm(row: u32, lane: u32) {
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var squares = Element();
  for (var j = lane; j < columns; j += GROUP) {
    squares = fma(x[first + j], x[first + j], squares);
  }
  let inverse = 1.0 / sqrt(group_sum(number_sum(squares), lane) / f32(params.columns) + params.eps);
  for (var j = lane; j < columns; j += GROUP) {
    y[first + j] = x[first + j] * inverse * scale_at(j);
  }
  if (lane == 0u) {
    rstd[row] = inverse;
  }
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  row_norm(row, local.x);
}

@compute @workgroup_size(GROUP)
fn add_forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    x[row * columns + j] += residual[row * columns + j];
  }
  row_norm(row, local.x);
}

@compute @workgroup_size(GROUP)
fn add_y_forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    x[row * columns + j] += y[row * columns + j];
  }
  row_norm(row, local.x);
}

// The norm of a row of y, which holds the input.
fn row_norm_in_place(row: u32, lane: u32) {
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var squares = Element();
  for (var j = lane; j < columns; j += GROUP) {
    squares = fma(y[first + j], y[first + j], squares);
  }
  let inverse = 1.0 / sqrt(group_sum(number_sum(squares), lane) / f32(params.columns) + params.eps);
  for (var j = lane; j < columns; j += GROUP) {
    y[first + j] = y[first + j] * inverse * scale_at(j);
  }
  if (lane == 0u) {
    rstd[row] = inverse;
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  row_norm_in_place(row, local.x);
}

@compute @workgroup_size(GROUP)
fn add_forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    y[row * columns + j] += residual[row * columns + j];
  }
  row_norm_in_place(row, local.x);
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var lane_sum = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    lane_sum = fma(dy[first + j], y[first + j], lane_sum);
  }
  let mean = group_sum(number_sum(lane_sum), local.x) / f32(params.columns);
  let inverse = rstd[row];
  for (var j = local.x; j < columns; j += GROUP) {
    let xhat = y[first + j] / scale_at(j);
    store_gradient(first + j, inverse * (dy[first + j] * scale_at(j) - xhat * mean));
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var lane_sum = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    lane_sum = fma(dx[first + j], y[first + j], lane_sum);
  }
  let mean = group_sum(number_sum(lane_sum), local.x) / f32(params.columns);
  let inverse = rstd[row];
  for (var j = local.x; j < columns; j += GROUP) {
    let xhat = y[first + j] / scale_at(j);
    dx[first + j] = inverse * (dx[first + j] * scale_at(j) - xhat * mean);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  let inverse = rstd[row];
  var lane_sum = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    lane_sum = fma(dy[first + j] * scale_at(j), x[first + j] * inverse, lane_sum);
  }
  let mean = group_sum(number_sum(lane_sum), local.x) / f32(params.columns);
  for (var j = local.x; j < columns; j += GROUP) {
    store_gradient(first + j, inverse * (dy[first + j] * scale_at(j) - x[first + j] * inverse * mean));
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  let inverse = rstd[row];
  var lane_sum = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    lane_sum = fma(dx[first + j] * scale_at(j), x[first + j] * inverse, lane_sum);
  }
  let mean = group_sum(number_sum(lane_sum), local.x) / f32(params.columns);
  for (var j = local.x; j < columns; j += GROUP) {
    dx[first + j] = inverse * (dx[first + j] * scale_at(j) - x[first + j] * inverse * mean);
  }
}

@compute @workgroup_size(GROUP)
fn temp_partials_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= columns) {
    return;
  }
  var sum = Element();
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    let index = i * columns + at.column;
    sum = fma(dy[index], y[index], sum);
  }
  partials[(params.chunk0 + at.chunk) * columns + at.column] = sum / scale_at(at.column);
}

@compute @workgroup_size(GROUP)
fn temp_partials_from_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= columns) {
    return;
  }
  var sum = Element();
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    let index = i * columns + at.column;
    sum = fma(dy[index], x[index] * rstd[i], sum);
  }
  partials[(params.chunk0 + at.chunk) * columns + at.column] = sum;
}
