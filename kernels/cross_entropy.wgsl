// loss = normalizer * sum_i row_loss[i],  row_loss[i] = lse[i] - (1 - e) x[i, label] - e / classes * sum_j x[i, j]
//
//   dx[i, j] = dloss * normalizer * (exp(x[i, j] - lse[i]) - (1 - e) [j = label] - e / classes)
//
// If `cap` is not 0, x stands for cap tanh(x / cap), and dx is the gradient of what is in memory (Gemma 2).
//
// Rows whose label is `ignored` have loss and gradient 0. `e` is the label smoothing of torch.nn.CrossEntropyLoss. The
// host passes `normalizer` = 1 / (number of labels that are not ignored), so that micro-batches can share one mean.
//
// Shapes: x [rows, classes] (in `temp_total`: the losses of the rows), labels, lse, row_loss [rows], normalizer, loss,
// dloss [1]. Threads: a workgroup for each row, in which each invocation takes every GROUP-th element; one workgroup for
// `temp_total`. Rows may begin within an element: `forward` leaves numbers of other rows out, and the gradient of an
// element is written by the row in which it begins. Range: any logits, since
// the largest of a row is subtracted before exp. Limits: rows * classes of one launch below 2^32.

#import lib/element
#import lib/lane_numbers
#import lib/soft_cap

struct Params {
  rows: u32,
  classes: u32,
  ignored: i32,
  smoothing: f32,
  cap: f32,
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

// A workgroup's numbers are halved six times, by BRANCH invocations that halve BRANCH numbers each, and then one by one: this takes
// two barriers rather than one for each half.
const BRANCH: u32 = 8u;

alias Branch = array<f32, BRANCH>;

var<workgroup> partial: array<f32, GROUP>;
var<workgroup> branches: Branch;

// Numbers of every BRANCH-th invocation from `first` on.
fn branch_of(first: u32) -> Branch {
  var numbers: Branch;
  for (var i = 0u; i < BRANCH; i++) {
    numbers[i] = partial[first + i * BRANCH];
  }
  return numbers;
}

fn largest_of(numbers: Branch) -> f32 {
  var largest = numbers[0];
  for (var i = 1u; i < BRANCH; i++) {
    largest = max(largest, numbers[i]);
  }
  return largest;
}

// The sum of halves of halves.
fn sum_of(numbers: Branch) -> f32 {
  let even = (numbers[0] + numbers[4]) + (numbers[2] + numbers[6]);
  let odd = (numbers[1] + numbers[5]) + (numbers[3] + numbers[7]);
  return even + odd;
}

fn group_max(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  if (lane < BRANCH) {
    branches[lane] = largest_of(branch_of(lane));
  }
  workgroupBarrier();
  return largest_of(branches);
}

fn group_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  if (lane < BRANCH) {
    branches[lane] = sum_of(branch_of(lane));
  }
  workgroupBarrier();
  return sum_of(branches);
}

fn capped(logits: Element) -> Element {
  if (params.cap == 0.0) {
    return logits;
  }
  return soft_cap(logits, params.cap);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let start = row * params.classes;
  let first = start / WIDTH + local.x;
  let last = (start + params.classes - 1u) / WIDTH;
  var lane_largest = Element(-3.4e38);
  for (var i = first; i <= last; i += GROUP) {
    lane_largest = max(lane_largest, select(Element(-3.4e38), capped(x[i]), is_in_span(i, start, params.classes)));
  }
  let largest = group_max(largest_number(lane_largest), local.x);
  var lane_total = Element();
  var lane_logits = Element();
  for (var i = first; i <= last; i += GROUP) {
    let is_own = is_in_span(i, start, params.classes);
    let logits = capped(x[i]);
    lane_total += select(Element(), exp(logits - largest), is_own);
    lane_logits += select(Element(), logits, is_own);
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
      let index = start + u32(label);
      row_loss[row] = log_sum - (1.0 - params.smoothing) * number(capped(x[index / WIDTH]), index % WIDTH) - smoothed;
    }
  }
}

@compute @workgroup_size(GROUP)
fn temp_total(@builtin(local_invocation_id) local: vec3u) {
  var lane_sum = 0.0;
  for (var i = 0u; i * WIDTH < params.rows; i += GROUP) {
    var losses = Element();
    if ((i + local.x) * WIDTH < params.rows) {
      losses = x[i + local.x];
    }
    let numbers = lane_numbers(losses, local.x);
    for (var e = 0u; e < WIDTH; e++) {
      lane_sum += number(numbers, e);
    }
  }
  let sum = group_sum(lane_sum, local.x);
  if (local.x == 0u) {
    loss[0] = sum * normalizer[0];
  }
}

// Gradients of element i of x if dloss is 1 and all its numbers lie in this row.
fn row_slope(row: u32, i: u32, logits: Element) -> Element {
  let label = labels[row];
  if (label == params.ignored) {
    return Element();
  }
  let smoothed = params.smoothing / f32(params.classes);
  var expected = Element(smoothed);
  let index = row * params.classes + u32(label);
  if (index / WIDTH == i) {
    set_number(&expected, index % WIDTH, smoothed + (1.0 - params.smoothing));
  }
  let shown = capped(logits);
  let gradient = normalizer[0] * (exp(shown - lse[row]) - expected);
  if (params.cap == 0.0) {
    return gradient;
  }
  let ratio = shown / params.cap;
  return gradient * fma(-ratio, ratio, Element(1.0));
}

// Gradients of element i of x if dloss is 1, for numbers of several rows.
fn slope(i: u32, logits: Element) -> Element {
  var slopes = Element();
  for (var e = 0u; e < WIDTH; e++) {
    set_number(&slopes, e, number(row_slope((i * WIDTH + e) / params.classes, i, logits), e));
  }
  return slopes;
}

struct RowElements {
  // First element that lies in the row.
  first: u32,
  // First element that does not end in the row.
  end: u32,
  // Whether element `end` begins in the row.
  is_cut: bool,
}

fn row_elements(row: u32) -> RowElements {
  let start = row * params.classes;
  let end = (start + params.classes) / WIDTH;
  return RowElements((start + WIDTH - 1u) / WIDTH, end, end * WIDTH >= start && end * WIDTH < start + params.classes);
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = row_elements(row);
  for (var i = elements.first + local.x; i < elements.end; i += GROUP) {
    dx[i] = dloss[0] * row_slope(row, i, x[i]);
  }
  if (elements.is_cut && local.x == 0u) {
    dx[elements.end] = dloss[0] * slope(elements.end, x[elements.end]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = row_elements(row);
  for (var i = elements.first + local.x; i < elements.end; i += GROUP) {
    dx[i] = dloss[0] * row_slope(row, i, dx[i]);
  }
  if (elements.is_cut && local.x == 0u) {
    dx[elements.end] = dloss[0] * slope(elements.end, dx[elements.end]);
  }
}

// Replaces logits by their slopes, for linear_cross_entropy.
@compute @workgroup_size(GROUP)
fn temp_slope(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let elements = row_elements(row);
  for (var i = elements.first + local.x; i < elements.end; i += GROUP) {
    dx[i] = row_slope(row, i, dx[i]);
  }
  if (elements.is_cut && local.x == 0u) {
    dx[elements.end] = slope(elements.end, dx[elements.end]);
  }
}
