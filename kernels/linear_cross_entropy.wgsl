// dx = dloss slope,  slope = d loss / d x
//
// The forward pass of a projection with its cross-entropy computes `slope` while it has the logits, by product.wgsl and
// cross_entropy.wgsl. The backward pass only multiplies it by dloss.
//
// Shapes: slope, dx [count], dloss [1]. Threads: one invocation for each element. Range: any. Limits: count below 2^31.

#import lib/element

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> slope: array<Element>;
@group(0) @binding(1) var<storage, read> dloss: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<Element>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dloss[0] * slope[i];
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] *= dloss[0];
  }
}
