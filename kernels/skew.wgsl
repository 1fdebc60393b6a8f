// q[t, i, j] = factor v[t, p(i, j)] above the diagonal, -q[t, j, i] below it, `diagonal` on it, with
// p(i, j) = i (2 n - i - 1) / 2 + j - i - 1: v has the rows above the diagonal one after the other;
// dv[t, p(i, j)] (+)= factor (dq[t, i, j] - dq[t, j, i])
//
// Shapes: v, dv [blocks, n (n - 1) / 2], q, dq [blocks, n, n]. Threads: one invocation for each element of q; in `fold` those above the
// diagonal write. Range: any. Limits: blocks n n below 2^31.

#import lib/group

// `count` is the number of elements of q.
struct Params {
  count: u32,
  n: u32,
  factor: f32,
  diagonal: f32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> v: array<f32>;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read> dq: array<f32>;
@group(0) @binding(3) var<storage, read_write> dv: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

// The place in v of an element above the diagonal.
fn place(block: u32, i: u32, j: u32) -> u32 {
  let n = params.n;
  return block * (n * (n - 1u) / 2u) + i * (2u * n - i - 1u) / 2u + j - i - 1u;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = (group.y * groups.x + group.x) * GROUP + local.x;
  if (at >= params.count) {
    return;
  }
  let n = params.n;
  let block = at / (n * n);
  let i = at / n % n;
  let j = at % n;
  var element = params.diagonal;
  if (i < j) {
    element = params.factor * v[place(block, i, j)];
  } else if (i > j) {
    element = -params.factor * v[place(block, j, i)];
  }
  q[at] = element;
}

@compute @workgroup_size(GROUP)
fn fold(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = (group.y * groups.x + group.x) * GROUP + local.x;
  let n = params.n;
  let i = at / n % n;
  let j = at % n;
  if (at >= params.count || i >= j) {
    return;
  }
  let block = at / (n * n);
  let to = place(block, i, j);
  var gradient = params.factor * (dq[at] - dq[(block * n + j) * n + i]);
  if (params.accumulate != 0u) {
    gradient += dv[to];
  }
  dv[to] = gradient;
}
