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

// The indices of an element's numbers, as in a list of numbers.
fn number_indices(i: u32) -> Index {
  return i;
}

// Which numbers of element i lie among the `count` numbers from `first` on. It has to be one of the elements that cover them.
fn is_in_span(i: u32, first: u32, count: u32) -> Truth {
  return true;
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

// One of the words, which have the indices of numbers.
fn word(words: Index, e: u32) -> u32 {
  return words;
}

fn set_word(words: ptr<function, Index>, e: u32, bits: u32) {
  *words = bits;
}

fn largest_index(indices: Index) -> u32 {
  return indices;
}

fn largest_number(element: Element) -> f32 {
  return element;
}
