// x <- x mask, in place
//
// Shapes: x, mask [count]. Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart. Range:
// any; where the mask is 0, x becomes 0 even if it is not finite. Limits: count below 2^31.

#import lib/elementwise

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      if (mask[i] == 0.0) {
        x[i] = 0.0;
      } else {
        x[i] *= mask[i];
      }
    }
  }
}
