// loss = normalizer * sum_i row_loss[i],  row_loss[i] = lse[i] - (1 - e) x[i, label] - e / classes * sum_j x[i, j]
//
// Rows whose label is `ignored` count nothing. `e` is the label smoothing of torch.nn.CrossEntropyLoss; `normalizer` is
// 1 / (number of labels that count), given by the host so that micro-batches can share one mean.
//   dx[i, j] = dloss * normalizer * (exp(x[i, j] - lse[i]) - (1 - e) [j = label] - e / classes)
//
// Shapes: x [rows, classes], labels, lse, row_loss [rows], normalizer, loss, dloss [1]. Threads: a workgroup a row for
// `forward` (strided, then a tree in shared memory), one workgroup for `temp_total`, a row a workgroup for the gradient.
// Range: the largest logit is taken out first. Limits: rows * classes of one launch below 2^32.

const GROUP: u32 = 64u;

struct Params {
  rows: u32,
  classes: u32,
  ignored: i32,
  smoothing: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<i32>;
@group(0) @binding(2) var<storage, read> normalizer: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> partial: array<f32, GROUP>;

fn group_max(own: f32, at: u32) -> f32 {
  partial[at] = own;
  workgroupBarrier();
  for (var half = GROUP / 2u; half > 0u; half /= 2u) {
    if (at < half) {
      partial[at] = max(partial[at], partial[at + half]);
    }
    workgroupBarrier();
  }
  let found = partial[0];
  workgroupBarrier();
  return found;
}

fn group_sum(own: f32, at: u32) -> f32 {
  partial[at] = own;
  workgroupBarrier();
  for (var half = GROUP / 2u; half > 0u; half /= 2u) {
    if (at < half) {
      partial[at] += partial[at + half];
    }
    workgroupBarrier();
  }
  let found = partial[0];
  workgroupBarrier();
  return found;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.classes;
  var own_largest = -3.4e38;
  for (var j = local.x; j < params.classes; j += GROUP) {
    own_largest = max(own_largest, x[first + j]);
  }
  let largest = group_max(own_largest, local.x);
  var own_total = 0.0;
  var own_plain = 0.0;
  for (var j = local.x; j < params.classes; j += GROUP) {
    own_total += exp(x[first + j] - largest);
    own_plain += x[first + j];
  }
  let total = group_sum(own_total, local.x);
  let plain = group_sum(own_plain, local.x);
  if (local.x == 0u) {
    let log_sum = largest + log(total);
    let label = labels[row];
    lse[row] = log_sum;
    row_loss[row] = 0.0;
    if (label != params.ignored && label >= 0 && u32(label) < params.classes) {
      let smoothed = params.smoothing / f32(params.classes) * plain;
      row_loss[row] = log_sum - (1.0 - params.smoothing) * x[first + u32(label)] - smoothed;
    }
  }
}

@compute @workgroup_size(GROUP)
fn temp_total(@builtin(local_invocation_id) local: vec3u) {
  var own = 0.0;
  for (var i = local.x; i < params.rows; i += GROUP) {
    own += row_loss[i];
  }
  let total = group_sum(own, local.x);
  if (local.x == 0u) {
    loss[0] = total * normalizer[0];
  }
}

// The gradient for a dloss of 1.
fn slope(row: u32, column: u32, logit: f32) -> f32 {
  let label = labels[row];
  if (label == params.ignored) {
    return 0.0;
  }
  var wanted = params.smoothing / f32(params.classes);
  if (u32(label) == column) {
    wanted += 1.0 - params.smoothing;
  }
  return normalizer[0] * (exp(logit - lse[row]) - wanted);
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  for (var j = local.x; j < params.classes; j += GROUP) {
    dx[row * params.classes + j] = dloss[0] * slope(row, j, x[row * params.classes + j]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  for (var j = local.x; j < params.classes; j += GROUP) {
    dx[row * params.classes + j] = dloss[0] * slope(row, j, dx[row * params.classes + j]);
  }
}

// Logits become their slopes; for a loss whose projection wants these at once.
@compute @workgroup_size(GROUP)
fn temp_slope(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  for (var j = local.x; j < params.classes; j += GROUP) {
    dx[row * params.classes + j] = slope(row, j, dx[row * params.classes + j]);
  }
}
