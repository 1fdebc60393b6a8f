// The first element of an invocation of an elementwise kernel, which declares GROUP, the invocations of a workgroup, and
// PER_INVOCATION, the elements of each, a workgroup's width apart.

fn first_element(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
}
