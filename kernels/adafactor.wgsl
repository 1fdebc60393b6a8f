// One step of Adafactor (Shazeer and Stern 2018, algorithms 4 and 5) without first moment, as in torch.optim.Adafactor after
// clip_grad_norm_. For a matrix of R rows and C columns:
//   g' = g min(1, max_norm / (sqrt(total) + 1e-6))                              (max_norm 0: g' = g)
//   rows = rows + rate (mean_j g'^2 - rows);  columns = columns + rate (mean_i g'^2 - columns)
//   u = g' / sqrt(max(rows columns / max(mean rows, eps1), floor))
//   p = p (1 - lr weight_decay) - step u,
//   step = rho max(eps2, rms p) / max(1, rms u / threshold)                     (is_scaled 0: without rms p)
// A vector keeps v = v + rate (g'^2 - v) in place of rows and columns, and u = g' / sqrt(max(v, floor)).
//
// hyper = [rho, rate, max_norm, lr]. `floor` is eps1^2, at least the smallest normal number.
// `total` is the sum of squares of all gradients, `loss` the loss of the step. If one of them is not finite, p, rows, columns and v
// stay as they are.
//
// A matrix takes, in this order: `row_moments`, `column_partials` (sums over CHUNK rows), `column_moments`, `row_mean`,
// `change_squares`, `step_size`, `matrix`; a vector `vector_moments`, `step_size`, `vector`.
//
// Shapes: p, g [R, C] or [count], rows [R], columns [C], v [count], total, loss [1], hyper [4], partials [chunks, C],
// parameter_squares, changes [R] or [segments], factors [2]: mean of rows, step. Threads: a workgroup for each row (or SEGMENT elements of a
// vector), one invocation for an element of CHUNK rows, of columns, of p; one workgroup for mean and step. Range: |g'| below
// 1e19. Limits: p below 2^31 elements; partials fit one binding.

#import lib/update
#import lib/group_sum

const CHUNK: u32 = 32u;
const SEGMENT: u32 = 512u;

// Counts of what a launch has: rows, or elements. `row0` and `chunk0` are its first row (or segment) and chunk.
struct Params {
  count: u32,
  rows: u32,
  columns: u32,
  row0: u32,
  chunk0: u32,
  chunks: u32,
  size: f32,
  eps1: f32,
  floor: f32,
  eps2: f32,
  threshold: f32,
  is_scaled: u32,
  weight_decay: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read> g: array<Element>;
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;
@group(0) @binding(3) var<storage, read_write> columns: array<Element>;
@group(0) @binding(4) var<storage, read_write> v: array<Element>;
@group(0) @binding(5) var<storage, read_write> partials: array<Element>;
@group(0) @binding(6) var<storage, read_write> parameter_squares: array<f32>;
@group(0) @binding(7) var<storage, read_write> changes: array<f32>;
@group(0) @binding(8) var<storage, read_write> factors: array<f32>;
@group(0) @binding(9) var<storage, read> total: array<u32>;
@group(0) @binding(10) var<storage, read> loss: array<u32>;
@group(0) @binding(11) var<storage, read> hyper: array<f32>;
@group(0) @binding(12) var<uniform> params: Params;

fn gradient(i: u32) -> Element {
  return g[i] * clip_factor(hyper[2]);
}

// Change of element i of a launch's rows, before the step size.
fn matrix_change(i: u32, row: u32, column: u32) -> Element {
  let relative = rows[params.row0 + row] / max(factors[0], params.eps1);
  return gradient(i) * inverseSqrt(max(relative * columns[column], Element(params.floor)));
}

@compute @workgroup_size(GROUP)
fn row_moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.count) {
    return;
  }
  let width = params.columns / WIDTH;
  var squares = Element();
  var own = Element();
  for (var i = local.x; i < width; i += GROUP) {
    let value = gradient(row * width + i);
    let parameter = p[row * width + i];
    squares = fma(value, value, squares);
    own = fma(parameter, parameter, own);
  }
  let sums = group_sums(vec2f(number_sum(squares), number_sum(own)), local.x);
  if (local.x == 0u) {
    let r = params.row0 + row;
    parameter_squares[r] = sums.y;
    if (is_good_step()) {
      rows[r] = fma(hyper[1], sums.x / f32(params.columns) - rows[r], rows[r]);
    }
  }
}

@compute @workgroup_size(GROUP)
fn column_partials(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.columns / WIDTH;
  let i = element_index(group, groups, local);
  let chunk = i / width;
  let column = i % width;
  if (chunk >= params.chunks) {
    return;
  }
  var squares = Element();
  for (var row = chunk * CHUNK; row < min(params.count, (chunk + 1u) * CHUNK); row++) {
    let value = gradient(row * width + column);
    squares = fma(value, value, squares);
  }
  partials[(params.chunk0 + chunk) * width + column] = squares;
}

@compute @workgroup_size(GROUP)
fn column_moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.columns / WIDTH;
  let column = element_index(group, groups, local);
  if (column >= width || !is_good_step()) {
    return;
  }
  var squares = Element();
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    squares += partials[chunk * width + column];
  }
  columns[column] = fma(Element(hyper[1]), squares / f32(params.rows) - columns[column], columns[column]);
}

@compute @workgroup_size(GROUP)
fn row_mean(@builtin(local_invocation_id) local: vec3u) {
  var sum = 0.0;
  for (var row = local.x; row < params.rows; row += GROUP) {
    sum += rows[row];
  }
  let mean = group_sum(sum, local.x) / f32(params.rows);
  if (local.x == 0u) {
    factors[0] = mean;
  }
}

@compute @workgroup_size(GROUP)
fn change_squares(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= params.count) {
    return;
  }
  let width = params.columns / WIDTH;
  var squares = Element();
  for (var i = local.x; i < width; i += GROUP) {
    let change = matrix_change(row * width + i, row, i);
    squares = fma(change, change, squares);
  }
  let sum = group_sum(number_sum(squares), local.x);
  if (local.x == 0u) {
    changes[params.row0 + row] = sum;
  }
}

@compute @workgroup_size(GROUP)
fn step_size(@builtin(local_invocation_id) local: vec3u) {
  var sums = vec2f();
  for (var row = local.x; row < params.rows; row += GROUP) {
    sums += vec2f(parameter_squares[row], changes[row]);
  }
  let roots = sqrt(group_sums(sums, local.x) / params.size);
  if (local.x == 0u) {
    let scale = select(1.0, max(params.eps2, roots.x), params.is_scaled == 1u);
    factors[1] = hyper[0] * scale / max(1.0, roots.y / params.threshold);
  }
}

@compute @workgroup_size(GROUP)
fn matrix(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = params.columns / WIDTH;
  let i = element_index(group, groups, local);
  if (i < params.count * width && is_good_step()) {
    let decayed = p[i] * (1.0 - hyper[3] * params.weight_decay);
    p[i] = decayed - factors[1] * matrix_change(i, i / width, i % width);
  }
}

@compute @workgroup_size(GROUP)
fn vector_moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let segment = group.y * groups.x + group.x;
  if (segment * SEGMENT >= params.count) {
    return;
  }
  let is_good = is_good_step();
  var squares = Element();
  var own = Element();
  for (var e = local.x; e < SEGMENT / WIDTH; e += GROUP) {
    let i = segment * (SEGMENT / WIDTH) + e;
    if (i * WIDTH < params.count) {
      let value = gradient(i);
      let moment = fma(Element(hyper[1]), value * value - v[i], v[i]);
      let change = value * inverseSqrt(max(moment, Element(params.floor)));
      squares = fma(change, change, squares);
      own = fma(p[i], p[i], own);
      if (is_good) {
        v[i] = moment;
      }
    }
  }
  let sums = group_sums(vec2f(number_sum(own), number_sum(squares)), local.x);
  if (local.x == 0u) {
    parameter_squares[params.row0 + segment] = sums.x;
    changes[params.row0 + segment] = sums.y;
  }
}

@compute @workgroup_size(GROUP)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && is_good_step()) {
    let change = gradient(i) * inverseSqrt(max(v[i], Element(params.floor)));
    p[i] = p[i] * (1.0 - hyper[3] * params.weight_decay) - factors[1] * change;
  }
}
