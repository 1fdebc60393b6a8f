// sums[s, t] = sum of the squares in tile t of L^T R, for (L, R) = (y, x), (x, x), (y, y): the parts of ||L^T R||_F^2
//
// Linear CKA (Kornblith et al. 2019) is computed from these by the host, in float64. Rows whose mask is 0 are left out,
// and columns are centred over the others. The columns x columns matrix is never stored: a workgroup computes a square
// tile of L^T R in registers and writes only the sum of its squares. Of a symmetric product, only the tiles on and
// above the diagonal are computed, and those above it count twice. `temp_means` computes the mean of each column and
// then corrects it by the mean of the differences, so that a large mean costs no digits. Values are centred when they
// are loaded.
//
// Shapes: left, right (each x or y) [rows, columns], mask [rows], means [2, columns] (of x, then of y), sums
// [3, tiles].
// Threads: a workgroup of SIDE x SIDE invocations for each tile; each invocation computes TILE x TILE elements and
// loops over the rows. In `temp_means`, one invocation for each element of a row. Range: f32; the relative error of a sum is
// below 1e-6 for 4096 rows. Limits: x and y fit one binding each.

#import lib/element
#import lib/group_sum

const SIDE: u32 = 8u;
const TILE: u32 = 8u;
const PARTS: u32 = TILE / WIDTH;

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

@group(0) @binding(0) var<storage, read> left: array<Element>;
@group(0) @binding(1) var<storage, read> right: array<Element>;
@group(0) @binding(2) var<storage, read> mask: array<i32>;
@group(0) @binding(3) var<storage, read_write> means: array<Element>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn temp_means(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let column = element_index(group, groups, local);
  if (column >= columns) {
    return;
  }
  var mean = Element();
  if (params.centering != 0u) {
    var sum = Element();
    var count = 0.0;
    for (var i = 0u; i < params.rows; i++) {
      if (mask[i] != 0) {
        sum += left[i * columns + column];
        count += 1.0;
      }
    }
    count = max(count, 1.0);
    mean = sum / count;
    var residual = Element();
    for (var i = 0u; i < params.rows; i++) {
      if (mask[i] != 0) {
        residual += left[i * columns + column] - mean;
      }
    }
    mean += residual / count;
  }
  means[params.mean0 / WIDTH + column] = mean;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let width = SIDE * TILE;
  let per_row = (params.columns + width - 1u) / width;
  let index = group.y * groups.x + group.x;
  if (index >= per_row * per_row) {
    return;
  }
  let tile_row = index / per_row;
  let tile_column = index % per_row;
  if (params.symmetric != 0u && tile_row > tile_column) {
    if (local.x == 0u) {
      sums[params.sum0 + index] = 0.0;
    }
    return;
  }
  let columns = params.columns / WIDTH;
  let row0 = (tile_row * width + (local.x / SIDE) * TILE) / WIDTH;
  let column0 = (tile_column * width + (local.x % SIDE) * TILE) / WIDTH;
  var tile: array<array<Element, PARTS>, TILE>;
  var left_column: array<u32, PARTS>;
  var right_column: array<u32, PARTS>;
  var left_mean: array<Element, PARTS>;
  var right_mean: array<Element, PARTS>;
  // Columns past the edge repeat the last ones. They are left out of the sum.
  for (var i = 0u; i < PARTS; i++) {
    left_column[i] = min(row0 + i, columns - 1u);
    right_column[i] = min(column0 + i, columns - 1u);
    left_mean[i] = means[params.left_mean0 / WIDTH + left_column[i]];
    right_mean[i] = means[params.right_mean0 / WIDTH + right_column[i]];
  }
  for (var k = 0u; k < params.rows; k++) {
    if (mask[k] != 0) {
      var right_values: array<Element, PARTS>;
      for (var j = 0u; j < PARTS; j++) {
        right_values[j] = right[k * columns + right_column[j]] - right_mean[j];
      }
      for (var i = 0u; i < PARTS; i++) {
        let left_values = left[k * columns + left_column[i]] - left_mean[i];
        for (var e = 0u; e < WIDTH; e++) {
          for (var j = 0u; j < PARTS; j++) {
            tile[i * WIDTH + e][j] = fma(Element(number(left_values, e)), right_values[j], tile[i * WIDTH + e][j]);
          }
        }
      }
    }
  }
  var lane_sum = 0.0;
  for (var i = 0u; i < TILE; i++) {
    for (var j = 0u; j < TILE; j++) {
      if (row0 + i / WIDTH < columns && column0 + j / WIDTH < columns) {
        let value = number(tile[i][j / WIDTH], j % WIDTH);
        lane_sum = fma(value, value, lane_sum);
      }
    }
  }
  let sum = group_sum(lane_sum, local.x);
  if (local.x == 0u) {
    let twice = params.symmetric != 0u && tile_row != tile_column;
    sums[params.sum0 + index] = select(1.0, 2.0, twice) * sum;
  }
}
