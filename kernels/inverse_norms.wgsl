// y[o] = 1 / sqrt(sum_i (w[o, i] + scale sum_r l[o, r] a[r, i])^2), the inverse norm of the weights of output o with LoRA's update
//
// w is a weight in a format of base/packed.ts. It is called b and read as the product kernels read theirs: through strides that
// give input i of output o. A launch binds outputs from `output0` on or, where w is stored by inputs, inputs from `input0` on;
// then y holds the sum of the squares until the last launch. No element of w + scale l a is written.
//
// Shapes: w [outputs, inputs] or its transpose, a [rank, all inputs], l [all outputs, rank], y [all outputs].
// Threads: a workgroup for two outputs, which share what is read of a; each invocation takes every GROUP-th element of
// inputs. Elements are numbers where w is stored by inputs, since neighbours lie a row apart there.
// Range: sums in f32. A norm below 1e-15 counts as 1e-15, so that outputs without weights stay 0 instead of NaN.
// Limits: a, l and y fit one binding each.

#import lib/weight_element
#import lib/group_sum

const LEAST_SQUARES: f32 = 1e-30;

struct Params {
  outputs: u32,
  output0: u32,
  inputs: u32,
  input0: u32,
  all_inputs: u32,
  rank: u32,
  scale: f32,
  is_first: u32,
  is_last: u32,
  b_start: u32,
  b_row: u32,
  b_column: u32,
  b_transposed: u32,
  b_words: u32,
  b_codes: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Index>;
@group(0) @binding(2) var<storage, read> l: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn store(output: u32, launch_squares: f32) {
  var squares = launch_squares;
  if (params.is_first == 0u) {
    squares += y[params.output0 + output];
  }
  if (params.is_last != 0u) {
    squares = 1.0 / sqrt(max(squares, LEAST_SQUARES));
  }
  y[params.output0 + output] = squares;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = 2u * (group.y * groups.x + group.x);
  if (first >= params.outputs) {
    return;
  }
  // Of an odd number of outputs, the last one is computed twice.
  let second = min(first + 1u, params.outputs - 1u);
  let first_l = (params.output0 + first) * params.rank;
  let second_l = (params.output0 + second) * params.rank;
  var first_squares = Element();
  var second_squares = Element();
  for (var i = local.x; i * WIDTH < params.inputs; i += GROUP) {
    var first_update = Element();
    var second_update = Element();
    for (var r = 0u; r < params.rank; r++) {
      let a_value = a[(r * params.all_inputs + params.input0) / WIDTH + i];
      first_update = fma(Element(l[first_l + r]), a_value, first_update);
      second_update = fma(Element(l[second_l + r]), a_value, second_update);
    }
    let first_value = fma(Element(params.scale), first_update, weight_element(first, i));
    let second_value = fma(Element(params.scale), second_update, weight_element(second, i));
    first_squares = fma(first_value, first_value, first_squares);
    second_squares = fma(second_value, second_value, second_squares);
  }
  let squares = group_sums(vec2f(number_sum(first_squares), number_sum(second_squares)), local.x);
  if (local.x == 0u) {
    store(first, squares.x);
    if (second > first) {
      store(second, squares.y);
    }
  }
}
