// y[i] = x[i] cos - x[i + h] sin,  y[i + h] = x[i + h] cos + x[i] sin,  cos, sin = table[row % length, 0 and 1, i], for i < h
//
// Rotary position embedding (Su et al. 2021) of each head, which has 2 h elements. dx is dy rotated by the opposite
// angle, so the gradient needs neither x nor y. Shapes: x, y, dy, dx [rows, heads * 2 h], table [length, 2, h].
// Threads: one invocation for each element of pairs. Range: any. Limits: pairs of one launch below 2^31; the table fits
// one binding.

#import lib/element

// `pairs` and `row0` are the pairs and the first row of a launch; `half` is h; `row_pairs` are the pairs of a row. Pairs are of
// elements.
struct Params {
  pairs: u32,
  half: u32,
  row_pairs: u32,
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

struct Pair {
  first: u32,
  second: u32,
  cosine: Element,
  sine: Element,
}

fn pair_at(index: u32) -> Pair {
  let row = index / params.row_pairs;
  let within = index % params.row_pairs;
  let i = within % params.half;
  let first = row * 2u * params.row_pairs + (within / params.half) * 2u * params.half + i;
  let entry = 2u * ((params.row0 + row) % params.length) * params.half + i;
  return Pair(first, first + params.half, table[entry], table[entry + params.half]);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.pairs) {
    let p = pair_at(index);
    let a = x[p.first];
    let b = x[p.second];
    y[p.first] = fma(a, p.cosine, -b * p.sine);
    y[p.second] = fma(b, p.cosine, a * p.sine);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.pairs) {
    let p = pair_at(index);
    let a = y[p.first];
    let b = y[p.second];
    y[p.first] = fma(a, p.cosine, -b * p.sine);
    y[p.second] = fma(b, p.cosine, a * p.sine);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = element_index(group, groups, local);
  if (index < params.pairs) {
    let p = pair_at(index);
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
  if (index < params.pairs) {
    let p = pair_at(index);
    let a = dx[p.first];
    let b = dx[p.second];
    dx[p.first] = fma(a, p.cosine, b * p.sine);
    dx[p.second] = fma(b, p.cosine, -a * p.sine);
  }
}
