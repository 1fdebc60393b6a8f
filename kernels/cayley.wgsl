// y[t] = 2 (y[t]^-1 - I), in place, for every matrix t
//
// By Gauss-Jordan elimination without pivots: the symmetric part of I + Q is I where Q is skew-symmetric, so that every pivot is at
// least 1. Shapes: y [blocks, n, n]. Threads: a workgroup for each matrix, whose lanes share its elements in each of n steps.
// Range: f32. Limits: meant for blocks of some hundred rows at most; one matrix takes 2 n^3 operations of a single workgroup.

#import lib/group

struct Params {
  blocks: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn inverse(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let block = group.y * groups.x + group.x;
  if (block >= params.blocks) {
    return;
  }
  let n = params.n;
  let first = block * n * n;
  for (var p = 0u; p < n; p++) {
    let pivot = 1.0 / y[first + p * n + p];
    for (var j = local.x; j < n; j += GROUP) {
      if (j != p) {
        y[first + p * n + j] *= pivot;
      }
    }
    storageBarrier();
    for (var e = local.x; e < n * n; e += GROUP) {
      let i = e / n;
      let j = e % n;
      if (i != p && j != p) {
        y[first + e] -= y[first + i * n + p] * y[first + p * n + j];
      }
    }
    storageBarrier();
    for (var i = local.x; i < n; i += GROUP) {
      let at = first + i * n + p;
      y[at] = select(-pivot * y[at], pivot, i == p);
    }
    storageBarrier();
  }
  for (var e = local.x; e < n * n; e += GROUP) {
    y[first + e] = 2.0 * (y[first + e] - select(0.0, 1.0, e / n == e % n));
  }
}
