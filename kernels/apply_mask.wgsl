// x <- x mask, in place
//
// Shapes: x, mask [count]. Threads: one invocation for each element. Range:
// any; where the mask is 0, x becomes 0 even if it is not finite. Limits: count below 2^31.

#import lib/element

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read> mask: array<Element>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    x[i] = select(x[i] * mask[i], Element(), mask[i] == Element());
  }
}
