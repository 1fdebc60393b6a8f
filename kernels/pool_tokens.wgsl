// y[b, p] = sum_t weights[b, p, t] x[b, t], in order of t: sums over the tokens of each text, a mean for instance
//   dx[b, t] = sum_p weights[b, p, t] dy[b, p]
//
// Shapes: x, dx [texts, tokens, columns], y, dy [texts, pooled, columns], weights [texts, pooled, tokens], or [pooled, tokens]
// for all texts (weights_stride 0). Threads: one invocation for each element of y or dx; neighbours read neighbouring
// elements. Range: any. Limits: count below 2^31.

#import lib/element

// `count` is the number of elements of y or dx that a launch writes; `columns` counts elements too.
struct Params {
  count: u32,
  tokens: u32,
  pooled: u32,
  columns: u32,
  weights_stride: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let row = i / params.columns;
    let text = row / params.pooled;
    let weight = text * params.weights_stride + (row % params.pooled) * params.tokens;
    let first = text * params.tokens * params.columns + i % params.columns;
    var sum = Element();
    for (var t = 0u; t < params.tokens; t++) {
      sum += weights[weight + t] * x[first + t * params.columns];
    }
    y[i] = sum;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let row = i / params.columns;
    let text = row / params.tokens;
    let weight = text * params.weights_stride + row % params.tokens;
    let first = text * params.pooled * params.columns + i % params.columns;
    var sum = Element();
    for (var p = 0u; p < params.pooled; p++) {
      sum += weights[weight + p * params.tokens] * dy[first + p * params.columns];
    }
    if (params.accumulate != 0u) {
      sum += dx[i];
    }
    dx[i] = sum;
  }
}
