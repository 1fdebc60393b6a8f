// y[i, j] = a[i, j] b[j];  da[i, j] = dy[i, j] b[j];  db[j] = sum_i dy[i, j] a[i, j]
//
// db is summed in two stages, both in a fixed order: `temp_partials` sums chunks of CHUNK_ROWS rows, column_sum.wgsl
// adds the chunks. Shapes: a, y, dy, da [count] = [rows, columns], b [columns], partials [chunks, columns].
// Threads: one invocation for each element; in `temp_partials` one
// invocation for each chunk and column. Range: any. Limits: count below 2^31; b and partials fit one binding each.

#import lib/chunk_sums
#import lib/element

// Only the elementwise entries read `count` and `accumulate`; only `temp_partials` reads `rows` (of the launch) and
// `chunk0`.
struct Params {
  count: u32,
  columns: u32,
  accumulate: u32,
  rows: u32,
  chunk0: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> da: array<Element>;
@group(0) @binding(5) var<storage, read_write> partials: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = a[i] * b[i % (params.columns / WIDTH)];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] *= b[i % (params.columns / WIDTH)];
  }
}

@compute @workgroup_size(GROUP)
fn grad_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * b[i % (params.columns / WIDTH)];
    if (params.accumulate != 0u) {
      gradient += da[i];
    }
    da[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_a_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    da[i] *= b[i % (params.columns / WIDTH)];
  }
}

@compute @workgroup_size(GROUP)
fn temp_partials(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let at = chunk_column(group, groups, local);
  if (at.chunk * CHUNK_ROWS >= params.rows || at.column >= columns) {
    return;
  }
  var sum = Element();
  for (var i = at.chunk * CHUNK_ROWS; i < min(params.rows, (at.chunk + 1u) * CHUNK_ROWS); i++) {
    sum = fma(dy[i * columns + at.column], a[i * columns + at.column], sum);
  }
  partials[(params.chunk0 + at.chunk) * columns + at.column] = sum;
}
