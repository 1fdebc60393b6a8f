// An elementwise kernel: each invocation of a workgroup computes PER_INVOCATION elements, a workgroup's width apart, so that
// neighbours read neighbouring elements.

#import lib/group

const PER_INVOCATION: u32 = 4u;

// The first element of an invocation.
fn first_element(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
}
