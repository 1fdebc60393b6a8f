// As element.wgsl, with elements of four numbers, which are read and written by one access of 16 bytes.

#import lib/group

const WIDTH: u32 = 4u;

alias Element = vec4f;
alias Index = vec4u;
alias Truth = vec4<bool>;

fn number_sum(element: Element) -> f32 {
  return element.x + element.y + element.z + element.w;
}

fn element_index(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.y * groups.x + group.x) * GROUP + local.x;
}

fn set_number(element: ptr<function, Element>, e: u32, number: f32) {
  (*element)[e] = number;
}

fn number(element: Element, e: u32) -> f32 {
  return element[e];
}

fn largest_number(element: Element) -> f32 {
  return max(max(element.x, element.y), max(element.z, element.w));
}
