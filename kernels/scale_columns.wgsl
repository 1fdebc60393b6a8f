// y[i, j] = a[i, j] b[j];  da[i, j] = dy[i, j] b[j];  db[j] = sum_i dy[i, j] a[i, j]
//
// db is summed in two stages, both in a fixed order: `temp_partials` sums chunks of CHUNK_ROWS rows, column_sum.wgsl
// adds the chunks. Shapes: a, y, dy, da [count] = [rows, columns], b [columns], partials [chunks, columns].
// Threads: each invocation computes PER_INVOCATION elements, a workgroup's width apart; in `temp_partials` one
// invocation for each chunk and column. Range: any. Limits: count below 2^31; b and partials fit one binding each.

#import lib/chunk_sums
#import lib/elementwise

// Only the elementwise entries read `count` and `accumulate`; only `temp_partials` reads `rows` (of the launch) and
// `chunk0`.
struct Params {
  count: u32,
  columns: u32,
  accumulate: u32,
  rows: u32,
  chunk0: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] = a[i] * b[i % params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      y[i] *= b[i % params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      var gradient = dy[i] * b[i % params.columns];
      if (params.accumulate != 0u) {
        gradient += da[i];
      }
      da[i] = gradient;
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_a_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      da[i] *= b[i % params.columns];
    }
  }
}

@compute @workgroup_size(GROUP)
fn temp_partials(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    sum = fma(dy[i * params.columns + at.column], a[i * params.columns + at.column], sum);
  }
  partials[(params.chunk0 + at.chunk) * params.columns + at.column] = sum;
}
