// p <- sign(p) max(|p| - bound, 0), in place, if both the loss and the total of squared gradients are finite
//
// Shapes: p [count], total, loss [1]. Threads: each invocation computes PER_INVOCATION elements, a workgroup's width
// apart.
// Range: any. Limits: count below 2^31.

#import lib/elementwise
#import lib/is_finite

struct Params {
  count: u32,
  bound: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<f32>;
@group(0) @binding(1) var<storage, read> total: array<u32>;
@group(0) @binding(2) var<storage, read> loss: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      if (is_finite(total[0]) && is_finite(loss[0])) {
        p[i] = sign(p[i]) * max(abs(p[i]) - params.bound, 0.0);
      }
    }
  }
}
