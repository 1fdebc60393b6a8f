// target[i] = source[i], or target[i] += source[i] if `accumulate`
//
// Shapes: source, target [count]. Threads: one invocation for each element. Range: any. Limits: count below 2^32.

#import lib/element

struct Params {
  count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> source: array<Element>;
@group(0) @binding(1) var<storage, read_write> target_: array<Element>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH >= params.count) {
    return;
  }
  if (params.accumulate != 0u) {
    target_[i] += source[i];
  } else {
    target_[i] = source[i];
  }
}
