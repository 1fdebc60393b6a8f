// The product of product.wgsl, with the same bits, for a c of few columns, as in LoRA's x A^T, dy B and gradient of B,
// and for adapters whose subgroups all have SUBGROUP invocations.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j],  n <= SUBGROUP
//
// Shapes, strides, dropout of a and Params are those of product.wgsl; b is f32.
// Threads: a workgroup is one subgroup and covers all columns of SUBGROUP * ROWS rows of c. Each invocation computes
// ROWS rows, SUBGROUP apart. For each step of k it reads one element of b and gets the others from its neighbours by
// shuffles. With A_ALONG_K or B_ALONG_K, a or b is contiguous along k and is loaded in vectors of four, since loads
// take most of the time of a narrow product. Range: f32 throughout, summed in order of k.
// Limits: m and k below 2^31; a and b have a multiple of 16 bytes; k is a multiple of 4 if A_ALONG_K or B_ALONG_K, as
// are the starts and strides of that matrix.

enable subgroups;

#import lib/product_params
#import lib/product_dropout
#import lib/product_steps

const SUBGROUP: u32 = 8u;
const ROWS: u32 = 8u;
const COLUMNS: u32 = 8u;

// Whether b is contiguous along k, as A_ALONG_K says of a. Then k is a multiple of 4, and each round sums four steps.
const B_ALONG_K: u32 = 0u;
const STEPS: u32 = select(1u, 4u, A_ALONG_K + B_ALONG_K > 0u);

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

alias Tile = array<array<f32, COLUMNS>, ROWS>;

// Rows past the edge repeat the last one. They are never written.
fn row_of(first: u32, i: u32) -> u32 {
  return min(first + i * SUBGROUP, params.m - 1u);
}

fn first_row(group: vec3u, groups: vec3u, lane: u32) -> u32 {
  return (group.y * groups.x + group.x) * SUBGROUP * ROWS + lane;
}

// STEPS elements of b along k, in the column of this invocation; the other components are 0.
fn steps_of_b(k: u32, lane: u32) -> vec4f {
  let start = params.b_start + min(lane, params.n - 1u) * params.b_column;
  if (B_ALONG_K == 1u) {
    return b[(start + k) / 4u];
  }
  var steps = vec4f();
  for (var step = 0u; step < STEPS; step++) {
    let index = start + (k + step) * params.b_row;
    steps[step] = b[index / 4u][index % 4u];
  }
  return steps;
}

// tile[i][j] += left[i] * right[j] for each step, where lane j holds column j.
fn add_steps(left: ptr<function, array<vec4f, ROWS>>, lane_column: vec4f, tile: ptr<function, Tile>) {
  for (var step = 0u; step < STEPS; step++) {
    for (var j = 0u; j < COLUMNS; j++) {
      let right = subgroupShuffle(lane_column[step], j);
      for (var i = 0u; i < ROWS; i++) {
        (*tile)[i][j] = fma((*left)[i][step], right, (*tile)[i][j]);
      }
    }
  }
}

// The loop over rows ends at a number that compilers do not know: LLVM, by which software adapters compile, takes longer for the stores
// of an unrolled one.
fn store(first: u32, tile: ptr<function, Tile>) {
  // A copy, because this loop would keep the tile in memory.
  var copy = *tile;
  for (var row = first; row < min(first + ROWS * SUBGROUP, params.m); row += SUBGROUP) {
    for (var j = 0u; j < COLUMNS; j++) {
      if (j < params.n) {
        let index = row * params.c_row + params.column0 + j;
        if (params.accumulate != 0u) {
          c[index] += copy[(row - first) / SUBGROUP][j];
        } else {
          c[index] = copy[(row - first) / SUBGROUP][j];
        }
      }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let first = first_row(group, groups, lane);
  var tile: Tile;
  var start: array<u32, ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    start[i] = params.a_start + row_of(first, i) * params.a_row;
  }
  for (var k = 0u; k < params.k; k += STEPS) {
    var left: array<vec4f, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
      left[i] = steps_of_a(start[i], k);
    }
    add_steps(&left, steps_of_b(k, lane), &tile);
  }
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < COLUMNS; j++) {
      tile[i][j] *= params.factor;
    }
  }
  store(first, &tile);
}

@compute @workgroup_size(SUBGROUP)
fn dropped_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let first = first_row(group, groups, lane);
  var tile: Tile;
  var start: array<u32, ROWS>;
  var dropped: array<DroppedRow, ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    start[i] = params.a_start + row_of(first, i) * params.a_row;
    dropped[i] = dropped_row(row_of(first, i), params.k);
  }
  for (var k = 0u; k < params.k; k += STEPS) {
    var left: array<vec4f, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
      left[i] = steps_of_a(start[i], k);
      for (var step = 0u; step < STEPS; step++) {
        left[i][step] *= mask_factor(dropped[i], k + step);
      }
    }
    add_steps(&left, steps_of_b(k, lane), &tile);
  }
  store(first, &tile);
}
