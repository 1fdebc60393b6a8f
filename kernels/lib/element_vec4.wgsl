// As element.wgsl, with elements of four numbers, which are read and written by one access of 16 bytes.

#import lib/group

const WIDTH: u32 = 4u;

alias Element = vec4f;
alias Index = vec4u;
alias Truth = vec4<bool>;

fn number_sum(element: Element) -> f32 {
  return element.x + element.y + element.z + element.w;
}

fn number_indices(i: u32) -> Index {
  return 4u * i + vec4u(0u, 1u, 2u, 3u);
}

fn is_in_span(i: u32, first: u32, count: u32) -> Truth {
  return number_indices(i) - first < vec4u(count);
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

fn word(words: Index, e: u32) -> u32 {
  return words[e];
}

fn set_word(words: ptr<function, Index>, e: u32, bits: u32) {
  (*words)[e] = bits;
}

fn largest_index(indices: Index) -> u32 {
  return max(max(indices.x, indices.y), max(indices.z, indices.w));
}

fn largest_number(element: Element) -> f32 {
  return max(max(element.x, element.y), max(element.z, element.w));
}
