// loss (+)= normalizer * sum over rows i with mask[i] != 0 of (prediction[i] - targets[i])^2
//   dprediction[i] = 2 dloss normalizer (prediction[i] - targets[i]) [mask[i] != 0]
//
// The host passes `normalizer` = 1 / (number of rows whose mask is not 0), so that micro-batches can share one mean.
// Shapes: prediction, targets, mask, dprediction [count], normalizer, loss, dloss [1]. Threads: one workgroup for
// `forward`, in which each invocation sums every GROUP-th row; in the gradient one invocation for each row. Range: f32;
// rows whose mask is 0 may hold any values. Limits: count below 2^31.

#import lib/element
#import lib/group_sum

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> prediction: array<Element>;
@group(0) @binding(1) var<storage, read> targets: array<Element>;
@group(0) @binding(2) var<storage, read> mask: array<Index>;
@group(0) @binding(3) var<storage, read> normalizer: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
@group(0) @binding(5) var<storage, read> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> dprediction: array<Element>;
@group(0) @binding(7) var<uniform> params: Params;

// prediction - targets, or 0 where the mask is 0.
fn difference(i: u32) -> Element {
  return select(prediction[i] - targets[i], Element(), mask[i] == Index());
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  var lane_sum = Element();
  for (var i = local.x; i * WIDTH < params.count; i += GROUP) {
    let d = difference(i);
    lane_sum = fma(d, d, lane_sum);
  }
  var total = normalizer[0] * group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    if (params.accumulate != 0u) {
      total += loss[0];
    }
    loss[0] = total;
  }
}

@compute @workgroup_size(GROUP)
fn grad_prediction(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = 2.0 * dloss[0] * normalizer[0] * difference(i);
    if (params.accumulate != 0u) {
      gradient += dprediction[i];
    }
    dprediction[i] = gradient;
  }
}
