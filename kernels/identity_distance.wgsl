// y = ||x - I|| in the Frobenius norm;  dx = dy (x - I) / y, or 0 if y is 0
//
// Shapes: x, dx [count] = [size, size], y, dy [1]. Threads: one workgroup for `forward`, in which each invocation sums
// every GROUP-th element; one invocation for each element in `grad_x`. Range: squares must not overflow f32. Limits:
// meant for matrices as small as the rank of an adapter.

#import lib/element
#import lib/group_sum

struct Params {
  count: u32,
  size: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

fn difference(i: u32) -> Element {
  let numbers = number_indices(i);
  let size = Index(params.size);
  return x[i] - select(Element(), Element(1.0), numbers / size == numbers % size);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(local_invocation_id) local: vec3u) {
  var lane_sum = Element();
  for (var i = local.x; i * WIDTH < params.count; i += GROUP) {
    let d = difference(i);
    lane_sum = fma(d, d, lane_sum);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    y[0] = sqrt(sum);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH >= params.count) {
    return;
  }
  var gradient = Element();
  if (y[0] > 0.0) {
    gradient = dy[0] * difference(i) / y[0];
  }
  if (params.accumulate != 0u) {
    gradient += dx[i];
  }
  dx[i] = gradient;
}
