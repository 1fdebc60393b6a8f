// p <- sign(p) max(|p| - bound, 0), in place, if both the loss and the total of squared gradients are finite
//
// Shapes: p [count], total, loss [1]. Threads: one invocation for each element. Range: any. Limits: count below 2^31.

#import lib/is_finite

struct Params {
  count: u32,
  bound: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read> total: array<u32>;
@group(0) @binding(2) var<storage, read> loss: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && all(is_finite(Index(total[0]))) && all(is_finite(Index(loss[0])))) {
    p[i] = sign(p[i]) * max(abs(p[i]) - params.bound, Element());
  }
}
