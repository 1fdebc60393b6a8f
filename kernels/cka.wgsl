// sums[which] = parts of || L^T R ||_F^2 for (L, R) = (y, x), (x, x), (y, y), with columns centred over the rows that
// the mask counts: what linear CKA (Kornblith et al. 2019) is made of. The host adds the parts and divides, in float64.
//
// No columns x columns matrix exists: a workgroup computes one square tile of L^T R in registers and writes the sum of
// its squares alone. Of a symmetric product only the tiles on and above the diagonal are computed, those above it
// counted twice. `temp_means` takes the mean of each column, then the mean of what that leaves, so that a large mean
// costs no digits; values are centred as they are loaded.
//
// Shapes: left, right (each x or y) [rows, columns], mask [rows], means [2, columns] (of x, then of y), sums [3, tiles].
// Threads: SIDE x SIDE invocations a workgroup, each a TILE x TILE register tile, walking the rows; for `temp_means` one
// invocation a column. Range: f32, good to 1e-6 of the sum for 4096 rows. Limits: x and y fit one binding each.

const GROUP: u32 = 64u;
const BRANCH: u32 = 8u;
const SIDE: u32 = 8u;
const TILE: u32 = 8u;

struct Params {
  rows: u32,
  columns: u32,
  centering: u32,
  mean0: u32,
  left_mean0: u32,
  right_mean0: u32,
  symmetric: u32,
  sum0: u32,
}

@group(0) @binding(0) var<storage, read> left: array<f32>;
@group(0) @binding(1) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<i32>;
@group(0) @binding(3) var<storage, read_write> means: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> lanes: array<f32, GROUP>;
var<workgroup> branches: array<f32, BRANCH>;

// Sums over the workgroup, in a fixed order: eight lanes at a time, then the eight sums. Two barriers, not one a
// halving, since a barrier is dear on a CPU.
fn group_sum(own: f32, lane: u32) -> f32 {
  lanes[lane] = own;
  workgroupBarrier();
  if (lane < BRANCH) {
    var branch = lanes[lane * BRANCH];
    for (var i = 1u; i < BRANCH; i++) {
      branch += lanes[lane * BRANCH + i];
    }
    branches[lane] = branch;
  }
  workgroupBarrier();
  var sum = branches[0];
  for (var i = 1u; i < BRANCH; i++) {
    sum += branches[i];
  }
  return sum;
}

@compute @workgroup_size(GROUP)
fn temp_means(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let column = (group.y * groups.x + group.x) * GROUP + local.x;
  if (column >= params.columns) {
    return;
  }
  var mean = 0.0;
  if (params.centering != 0u) {
    var sum = 0.0;
    var counted = 0.0;
    for (var i = 0u; i < params.rows; i++) {
      if (mask[i] != 0) {
        sum += left[i * params.columns + column];
        counted += 1.0;
      }
    }
    counted = max(counted, 1.0);
    mean = sum / counted;
    var rest = 0.0;
    for (var i = 0u; i < params.rows; i++) {
      if (mask[i] != 0) {
        rest += left[i * params.columns + column] - mean;
      }
    }
    mean += rest / counted;
  }
  means[params.mean0 + column] = mean;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = SIDE * TILE;
  let across = (params.columns + width - 1u) / width;
  let index = group.y * groups.x + group.x;
  if (index >= across * across) {
    return;
  }
  let tile_row = index / across;
  let tile_column = index % across;
  if (params.symmetric != 0u && tile_row > tile_column) {
    if (local.x == 0u) {
      sums[params.sum0 + index] = 0.0;
    }
    return;
  }
  let row0 = tile_row * width + (local.x / SIDE) * TILE;
  let column0 = tile_column * width + (local.x % SIDE) * TILE;
  var tile: array<array<f32, TILE>, TILE>;
  var left_column: array<u32, TILE>;
  var right_column: array<u32, TILE>;
  var left_mean: array<f32, TILE>;
  var right_mean: array<f32, TILE>;
  // Columns past the edge repeat the last one; they are left out of the sum.
  for (var i = 0u; i < TILE; i++) {
    left_column[i] = min(row0 + i, params.columns - 1u);
    right_column[i] = min(column0 + i, params.columns - 1u);
    left_mean[i] = means[params.left_mean0 + left_column[i]];
    right_mean[i] = means[params.right_mean0 + right_column[i]];
  }
  for (var k = 0u; k < params.rows; k++) {
    if (mask[k] != 0) {
      var across_k: array<f32, TILE>;
      for (var j = 0u; j < TILE; j++) {
        across_k[j] = right[k * params.columns + right_column[j]] - right_mean[j];
      }
      for (var i = 0u; i < TILE; i++) {
        let down = left[k * params.columns + left_column[i]] - left_mean[i];
        for (var j = 0u; j < TILE; j++) {
          tile[i][j] = fma(down, across_k[j], tile[i][j]);
        }
      }
    }
  }
  var own = 0.0;
  for (var i = 0u; i < TILE; i++) {
    for (var j = 0u; j < TILE; j++) {
      if (row0 + i < params.columns && column0 + j < params.columns) {
        own = fma(tile[i][j], tile[i][j], own);
      }
    }
  }
  let sum = group_sum(own, local.x);
  if (local.x == 0u) {
    let twice = params.symmetric != 0u && tile_row != tile_column;
    sums[params.sum0 + index] = select(1.0, 2.0, twice) * sum;
  }
}
