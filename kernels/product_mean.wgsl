// y = mean of a b
//
// Shapes: a, b [count], y [1]. Threads: one workgroup, in which each invocation sums every GROUP-th element. Range:
// any.
// Limits: a and b fit one binding each; meant for tensors of an adapter.

#import lib/element
#import lib/group_sum

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(local_invocation_id) local: vec3u) {
  var lane_sum = Element();
  for (var i = local.x; i * WIDTH < params.count; i += GROUP) {
    lane_sum = fma(a[i], b[i], lane_sum);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    y[0] = sum / f32(params.count);
  }
}
