// What an invocation reads and writes at once: a number. element_vec4.wgsl takes the place of this part where sizes are
// multiples of four. A kernel that imports it is written for both: it counts in elements of WIDTH numbers.

#import lib/group

const WIDTH: u32 = 1u;

alias Element = f32;
alias Index = u32;
alias Truth = bool;

// The sum of an element's numbers.
fn number_sum(element: Element) -> f32 {
  return element;
}

// The element of an invocation of an elementwise kernel.
fn element_index(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.y * groups.x + group.x) * GROUP + local.x;
}

// Changes one of an element's numbers.
fn set_number(element: ptr<function, Element>, e: u32, number: f32) {
  *element = number;
}

// One of an element's numbers.
fn number(element: Element, e: u32) -> f32 {
  return element;
}

fn largest_number(element: Element) -> f32 {
  return element;
}
