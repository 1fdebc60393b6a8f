// y = mean of |x|;  dx = dy sign(x) / count, which is 0 where x is 0
//
// Shapes: x, dx [count], y, dy [1]. Threads: one workgroup for `forward`, in which each invocation sums every GROUP-th
// element; one invocation for each element in `grad_x`. Range: any. Limits: meant for small vectors such as the gates
// of an adapter.

#import lib/element
#import lib/group_sum

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(local_invocation_id) local: vec3u) {
  var lane_sum = Element();
  for (var i = local.x; i * WIDTH < params.count; i += GROUP) {
    lane_sum += abs(x[i]);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    y[0] = sum / f32(params.count);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH >= params.count) {
    return;
  }
  var gradient = dy[0] * sign(x[i]) / f32(params.count);
  if (params.accumulate != 0u) {
    gradient += dx[i];
  }
  dx[i] = gradient;
}
