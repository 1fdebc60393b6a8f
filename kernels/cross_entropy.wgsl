// loss = normalizer * sum_i row_loss[i],  row_loss[i] = lse[i] - (1 - e) x[i, label] - e / classes * sum_j x[i, j]
//
//   dx[i, j] = dloss * normalizer * (exp(x[i, j] - lse[i]) - (1 - e) [j = label] - e / classes)
//
// Rows whose label is `ignored` have loss and gradient 0. `e` is the label smoothing of torch.nn.CrossEntropyLoss. The
// host passes `normalizer` = 1 / (number of labels that are not ignored), so that micro-batches can share one mean.
//
// Shapes: x [rows, classes], labels, lse, row_loss [rows], normalizer, loss, dloss [1]. Threads: a workgroup for each
// row, in which each invocation takes every GROUP-th class; one workgroup for `temp_total`. Range: any logits, since
// the largest of a row is subtracted before exp. Limits: rows * classes of one launch below 2^32.

#import lib/element

struct Params {
  rows: u32,
  classes: u32,
  ignored: i32,
  smoothing: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> labels: array<i32>;
@group(0) @binding(2) var<storage, read> normalizer: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<Element>;
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> partial: array<f32, GROUP>;

fn group_max(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  for (var half = GROUP / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      partial[lane] = max(partial[lane], partial[lane + half]);
    }
    workgroupBarrier();
  }
  let result = partial[0];
  workgroupBarrier();
  return result;
}

fn group_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  for (var half = GROUP / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      partial[lane] += partial[lane + half];
    }
    workgroupBarrier();
  }
  let result = partial[0];
  workgroupBarrier();
  return result;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = params.classes / WIDTH;
  let first = row * elements;
  var lane_largest = Element(-3.4e38);
  for (var j = local.x; j < elements; j += GROUP) {
    lane_largest = max(lane_largest, x[first + j]);
  }
  let largest = group_max(largest_number(lane_largest), local.x);
  var lane_total = Element();
  var lane_logits = Element();
  for (var j = local.x; j < elements; j += GROUP) {
    lane_total += exp(x[first + j] - largest);
    lane_logits += x[first + j];
  }
  let total_exp = group_sum(number_sum(lane_total), local.x);
  let logit_sum = group_sum(number_sum(lane_logits), local.x);
  if (local.x == 0u) {
    let log_sum = largest + log(total_exp);
    let label = labels[row];
    lse[row] = log_sum;
    row_loss[row] = 0.0;
    if (label != params.ignored && label >= 0 && u32(label) < params.classes) {
      let smoothed = params.smoothing / f32(params.classes) * logit_sum;
      row_loss[row] = log_sum - (1.0 - params.smoothing) * number(x[first + u32(label) / WIDTH], u32(label) % WIDTH) - smoothed;
    }
  }
}

@compute @workgroup_size(GROUP)
fn temp_total(@builtin(local_invocation_id) local: vec3u) {
  var lane_sum = 0.0;
  for (var i = local.x; i < params.rows; i += GROUP) {
    lane_sum += row_loss[i];
  }
  let sum = group_sum(lane_sum, local.x);
  if (local.x == 0u) {
    loss[0] = sum * normalizer[0];
  }
}

// Gradients of element j of a row's logits if dloss is 1.
fn slope(row: u32, j: u32, logits: Element) -> Element {
  let label = labels[row];
  if (label == params.ignored) {
    return Element();
  }
  let smoothed = params.smoothing / f32(params.classes);
  var expected = Element(smoothed);
  if (u32(label) / WIDTH == j) {
    set_number(&expected, u32(label) % WIDTH, smoothed + (1.0 - params.smoothing));
  }
  return normalizer[0] * (exp(logits - lse[row]) - expected);
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = params.classes / WIDTH;
  for (var j = local.x; j < elements; j += GROUP) {
    dx[row * elements + j] = dloss[0] * slope(row, j, x[row * elements + j]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = params.classes / WIDTH;
  for (var j = local.x; j < elements; j += GROUP) {
    dx[row * elements + j] = dloss[0] * slope(row, j, dx[row * elements + j]);
  }
}

// Replaces logits by their slopes, for linear_cross_entropy.
@compute @workgroup_size(GROUP)
fn temp_slope(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = params.classes / WIDTH;
  for (var j = local.x; j < elements; j += GROUP) {
    dx[row * elements + j] = slope(row, j, dx[row * elements + j]);
  }
}
