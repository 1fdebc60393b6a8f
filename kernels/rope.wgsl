// y[i] = x[i] cos - x[i + h] sin,  y[i + h] = x[i + h] cos + x[i] sin,  cos, sin = table[row % length, 0 and 1, i], for i < h
// y[i] = x[i]  for i >= 2 h
//
// Rotary position embedding (Su et al. 2021) of the first 2 h of each head's d elements. dx is dy rotated by the opposite
// angle, so the gradient needs neither x nor y. Shapes: x, y, dy, dx [rows, heads * d], table [length, 2, h].
// Entries `..._both_in_place` also rotate `other`, by the same table, in place of another launch: queries and keys in one.
// Threads: one invocation for each element of pairs, and, where the result has a buffer of its own, for each element that
// stays; the pairs of `other` are shared out among the same invocations. Range: any. Limits: units of one launch below
// 2^31; the table fits one binding.

#import lib/element

// `units` and `row0` are the invocations and the first row of a launch; `half` is h; `head` are the elements of a head, and
// `head_units` its invocations: the first `half` have a pair each.
struct Params {
  units: u32,
  half: u32,
  head: u32,
  head_units: u32,
  heads: u32,
  length: u32,
  row0: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> table: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;
@group(0) @binding(5) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read_write> other: array<Element>;
@group(0) @binding(7) var<uniform> other_params: Params;

struct Pair {
  // Whether the invocation has the element at `second` alone, which stays as it is.
  is_single: bool,
  first: u32,
  second: u32,
  cosine: Element,
  sine: Element,
}

fn pair_at(index: u32, launch: Params) -> Pair {
  let i = index % launch.head_units;
  let head = index / launch.head_units;
  let first = head * launch.head + i;
  if (i >= launch.half) {
    return Pair(true, first, first + launch.half, Element(), Element());
  }
  let entry = 2u * ((launch.row0 + head / launch.heads) % launch.length) * launch.half + i;
  return Pair(false, first, first + launch.half, table[entry], table[entry + launch.half]);
}

fn rotate_in_place(index: u32) {
  let p = pair_at(index, params);
  let a = y[p.first];
  let b = y[p.second];
  y[p.first] = fma(a, p.cosine, -b * p.sine);
  y[p.second] = fma(b, p.cosine, a * p.sine);
}

fn rotate_back_in_place(index: u32) {
  let p = pair_at(index, params);
  let a = dx[p.first];
  let b = dx[p.second];
  dx[p.first] = fma(a, p.cosine, b * p.sine);
  dx[p.second] = fma(b, p.cosine, -a * p.sine);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    let p = pair_at(index, params);
    if (p.is_single) {
      y[p.second] = x[p.second];
      return;
    }
    let a = x[p.first];
    let b = x[p.second];
    y[p.first] = fma(a, p.cosine, -b * p.sine);
    y[p.second] = fma(b, p.cosine, a * p.sine);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    rotate_in_place(index);
  }
}

@compute @workgroup_size(GROUP)
fn forward_both_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    rotate_in_place(index);
  }
  for (var i = index; i < other_params.units; i += groups.x * groups.y * GROUP) {
    let p = pair_at(i, other_params);
    let a = other[p.first];
    let b = other[p.second];
    other[p.first] = fma(a, p.cosine, -b * p.sine);
    other[p.second] = fma(b, p.cosine, a * p.sine);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    let p = pair_at(index, params);
    if (p.is_single) {
      if (params.accumulate != 0u) {
        dx[p.second] += dy[p.second];
      } else {
        dx[p.second] = dy[p.second];
      }
      return;
    }
    let a = dy[p.first];
    let b = dy[p.second];
    var da = fma(a, p.cosine, b * p.sine);
    var db = fma(b, p.cosine, -a * p.sine);
    if (params.accumulate != 0u) {
      da += dx[p.first];
      db += dx[p.second];
    }
    dx[p.first] = da;
    dx[p.second] = db;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    rotate_back_in_place(index);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_both_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.units) {
    rotate_back_in_place(index);
  }
  for (var i = index; i < other_params.units; i += groups.x * groups.y * GROUP) {
    let p = pair_at(i, other_params);
    let a = other[p.first];
    let b = other[p.second];
    other[p.first] = fma(a, p.cosine, b * p.sine);
    other[p.second] = fma(b, p.cosine, -a * p.sine);
  }
}
