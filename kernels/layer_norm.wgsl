// y = xhat weight + bias,  xhat = (x - mean) rstd,  rstd = 1 / sqrt(variance + eps), for each row
//   g = dy weight;  dx = rstd (g - mean(g) - xhat mean(g xhat));  dweight = sum over rows of dy xhat
//   dbias = sum over rows of dy, by column_sum.wgsl
//
// The variance is the biased one. Values are centred before they are squared, so that nothing cancels.
// Entries `..._from_y` compute xhat = (y - bias) / weight. Then only y is kept, which the next layer keeps anyway, but
// weights must not be near zero. Entries `..._from_x` compute xhat from x and from `statistics` (mean and rstd of each
// row), which `temp_statistics` recomputes.
//
// Entries `add_...` add `residual` to their input first, in place: they run in place of add.wgsl and the norm after it. In
// `add_y_forward` the residual lies in y, which the norm overwrites. Entries with `dropped` also run in place of dropout.wgsl: of the
// input before the sum, and of the gradient after the norm's, with `seed` [texts, 2].
//
// Shapes: x, y, residual, dy, dx, dropped_dx [rows, columns], weight, bias [columns], rstd [rows], statistics [rows, 2],
// partials [chunks, columns]. partials has a row of sums for each CHUNK_ROWS rows; column_sum.wgsl adds them. Both sums
// have a fixed order.
// Threads: a workgroup for each row, in which each invocation takes every GROUP-th column; in `temp_partials...` one
// invocation for each chunk and column. Range: statistics in f32; eps may be as small as 1e-12.
// Limits: rows * columns of one launch below 2^31; partials fit one binding.

#import lib/dropout
#import lib/norm

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read> weight: array<Element>;
@group(0) @binding(2) var<storage, read> bias: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<Element>;
@group(0) @binding(7) var<storage, read_write> dx: array<Element>;
@group(0) @binding(8) var<storage, read_write> partials: array<Element>;
@group(0) @binding(9) var<storage, read> residual: array<Element>;
@group(0) @binding(10) var<uniform> params: Params;
@group(0) @binding(11) var<storage, read> seed: array<u32>;
@group(0) @binding(12) var<storage, read_write> dropped_dx: array<Element>;
@group(0) @binding(13) var<uniform> dropout_params: DropoutParams;

fn inverse_deviation(variance: f32) -> f32 {
  return 1.0 / sqrt(variance + params.eps);
}

// The norm of a row of x.
fn row_norm(row: u32, lane: u32) {
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var sum = Element();
  for (var j = lane; j < columns; j += GROUP) {
    sum += x[first + j];
  }
  let mean = group_sum(number_sum(sum), lane) / f32(params.columns);
  var squares = Element();
  for (var j = lane; j < columns; j += GROUP) {
    let centred = x[first + j] - mean;
    squares = fma(centred, centred, squares);
  }
  let inverse = inverse_deviation(group_sum(number_sum(squares), lane) / f32(params.columns));
  for (var j = lane; j < columns; j += GROUP) {
    y[first + j] = fma((x[first + j] - mean) * inverse, weight[j], bias[j]);
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
  var sum = Element();
  for (var j = lane; j < columns; j += GROUP) {
    sum += y[first + j];
  }
  let mean = group_sum(number_sum(sum), lane) / f32(params.columns);
  var squares = Element();
  for (var j = lane; j < columns; j += GROUP) {
    let centred = y[first + j] - mean;
    squares = fma(centred, centred, squares);
  }
  let inverse = inverse_deviation(group_sum(number_sum(squares), lane) / f32(params.columns));
  for (var j = lane; j < columns; j += GROUP) {
    y[first + j] = fma((y[first + j] - mean) * inverse, weight[j], bias[j]);
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

// A dropout, the sum and the norm.
@compute @workgroup_size(GROUP)
fn add_dropped_forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    let i = row * columns + j;
    y[i] = dropped(y[i], i, dropout_params) + residual[i];
  }
  row_norm_in_place(row, local.x);
}

@compute @workgroup_size(GROUP)
fn temp_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var sum = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    sum += x[first + j];
  }
  let mean = group_sum(number_sum(sum), local.x) / f32(params.columns);
  var squares = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    let centred = x[first + j] - mean;
    squares = fma(centred, centred, squares);
  }
  let inverse = inverse_deviation(group_sum(number_sum(squares), local.x) / f32(params.columns));
  if (local.x == 0u) {
    statistics[2u * row] = mean;
    statistics[2u * row + 1u] = inverse;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var gradients = Element();
  var products = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    let gradient = dy[first + j];
    gradients += gradient * weight[j];
    products += gradient * (y[first + j] - bias[j]);
  }
  let means = group_sums(vec2f(number_sum(gradients), number_sum(products)), local.x) / f32(params.columns);
  for (var j = local.x; j < columns; j += GROUP) {
    let xhat = (y[first + j] - bias[j]) / weight[j];
    store_gradient(first + j, rstd[row] * (dy[first + j] * weight[j] - means.x - xhat * means.y));
  }
}

// The gradient of a row of x, where dx holds dy.
fn row_gradient_in_place(row: u32, lane: u32) {
  let columns = params.columns / WIDTH;
  let first = row * columns;
  var gradients = Element();
  var products = Element();
  for (var j = lane; j < columns; j += GROUP) {
    let gradient = dx[first + j];
    gradients += gradient * weight[j];
    products += gradient * (y[first + j] - bias[j]);
  }
  let means = group_sums(vec2f(number_sum(gradients), number_sum(products)), lane) / f32(params.columns);
  for (var j = lane; j < columns; j += GROUP) {
    let xhat = (y[first + j] - bias[j]) / weight[j];
    dx[first + j] = rstd[row] * (dx[first + j] * weight[j] - means.x - xhat * means.y);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  row_gradient_in_place(row, local.x);
}

// The norm's gradient, and that of the dropout before its sum.
@compute @workgroup_size(GROUP)
fn grad_x_from_y_in_place_dropped(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  row_gradient_in_place(row, local.x);
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    let i = row * columns + j;
    var gradient = dropped(dx[i], i, dropout_params);
    if (dropout_params.accumulate != 0u) {
      gradient += dropped_dx[i];
    }
    dropped_dx[i] = gradient;
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
  let mean = statistics[2u * row];
  let inverse = statistics[2u * row + 1u];
  var gradients = Element();
  var products = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    let gradient = dy[first + j] * weight[j];
    gradients += gradient;
    products += gradient * (x[first + j] - mean) * inverse;
  }
  let means = group_sums(vec2f(number_sum(gradients), number_sum(products)), local.x) / f32(params.columns);
  for (var j = local.x; j < columns; j += GROUP) {
    let xhat = (x[first + j] - mean) * inverse;
    store_gradient(first + j, inverse * (dy[first + j] * weight[j] - means.x - xhat * means.y));
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
  let mean = statistics[2u * row];
  let inverse = statistics[2u * row + 1u];
  var gradients = Element();
  var products = Element();
  for (var j = local.x; j < columns; j += GROUP) {
    let gradient = dx[first + j] * weight[j];
    gradients += gradient;
    products += gradient * (x[first + j] - mean) * inverse;
  }
  let means = group_sums(vec2f(number_sum(gradients), number_sum(products)), local.x) / f32(params.columns);
  for (var j = local.x; j < columns; j += GROUP) {
    let xhat = (x[first + j] - mean) * inverse;
    dx[first + j] = inverse * (dx[first + j] * weight[j] - means.x - xhat * means.y);
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
    sum = fma(dy[index], y[index] - bias[at.column], sum);
  }
  partials[(params.chunk0 + at.chunk) * columns + at.column] = sum / weight[at.column];
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
    sum = fma(dy[index], (x[index] - statistics[2u * i]) * statistics[2u * i + 1u], sum);
  }
  partials[(params.chunk0 + at.chunk) * columns + at.column] = sum;
}
