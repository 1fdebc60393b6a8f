// Up to three operands that are read through strides, by the elements of an iteration over at most six axes: broadcasting, slices,
// permuted axes and sums over any axes. Axis 0 is the innermost one; a launch has RANK of them, and those beyond have one
// element. The iteration has `reduced` elements for each element of the target. Operands and target may be larger than a
// binding: a launch binds ranges of them, `first` is the first element of the target that it writes, of `count`, and `a_first`,
// `a_count` and so on are the elements of the operands that are bound. All of these count in elements. Strides may be
// negative (two's complement) or, where an operand is repeated, 0.

#import lib/element

const RANK: u32 = 6u;

struct Params {
  size0: u32,
  size1: u32,
  size2: u32,
  size3: u32,
  size4: u32,
  size5: u32,
  a0: u32,
  a1: u32,
  a2: u32,
  a3: u32,
  a4: u32,
  a5: u32,
  b0: u32,
  b1: u32,
  b2: u32,
  b3: u32,
  b4: u32,
  b5: u32,
  c0: u32,
  c1: u32,
  c2: u32,
  c3: u32,
  c4: u32,
  c5: u32,
  a_start: u32,
  b_start: u32,
  c_start: u32,
  a_first: u32,
  b_first: u32,
  c_first: u32,
  a_count: u32,
  b_count: u32,
  c_count: u32,
  first: u32,
  count: u32,
  reduced: u32,
  factor: f32,
  accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Where an element of the iteration lies within what is bound of the operands, and whether it is bound in all of them.
struct Place {
  at: vec3u,
  is_bound: bool,
}

fn step_along(rest: ptr<function, u32>, size: u32, strides: vec3u) -> vec3u {
  let k = *rest % size;
  *rest /= size;
  return k * strides;
}

fn place(i: u32) -> Place {
  var rest = i;
  var at = vec3u(params.a_start, params.b_start, params.c_start);
  at += step_along(&rest, params.size0, vec3u(params.a0, params.b0, params.c0));
  if (RANK > 1u) {
    at += step_along(&rest, params.size1, vec3u(params.a1, params.b1, params.c1));
  }
  if (RANK > 2u) {
    at += step_along(&rest, params.size2, vec3u(params.a2, params.b2, params.c2));
  }
  if (RANK > 3u) {
    at += step_along(&rest, params.size3, vec3u(params.a3, params.b3, params.c3));
  }
  if (RANK > 4u) {
    at += step_along(&rest, params.size4, vec3u(params.a4, params.b4, params.c4));
  }
  if (RANK > 5u) {
    at += step_along(&rest, params.size5, vec3u(params.a5, params.b5, params.c5));
  }
  at -= vec3u(params.a_first, params.b_first, params.c_first);
  return Place(at, all(at < vec3u(params.a_count, params.b_count, params.c_count)));
}
