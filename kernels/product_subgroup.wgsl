// The product of product.wgsl, with the same bits, for adapters whose subgroups all have SUBGROUP invocations.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl.
// Threads: a workgroup is one subgroup and covers TILE_M rows and SUBGROUP * TILE_N columns of c. Each invocation
// computes all rows of TILE_N columns, SUBGROUP apart. For each step of k it reads TILE_M / SUBGROUP elements of a and
// gets the others from its neighbours by shuffles. This saves loads, which take most of the time on a software adapter,
// where each is a gather. With four STEPS in a round, a sum stays in its register between them. With A_ALONG_K or
// B_ALONG_K, a or b is contiguous along k and is loaded in vectors of four. With B_ALONG_N, b is contiguous along n and
// is loaded in vectors of four columns, which in packed formats are in one word and share a scale; an invocation then
// computes groups of four neighbouring columns.
// Range: f32 throughout, summed in order of k.
// Limits: m, n, k below 2^31; TILE_M is a multiple of SUBGROUP; TILE_M * TILE_N is 32, 64 or 128; a and b have a
// multiple of 16 bytes; starts and strides of a matrix that is loaded in vectors are multiples of four elements.

enable subgroups;

#import lib/product_params
#import lib/product_dropout
#import lib/product_weight_vector
#import lib/product_tile
#import lib/product_multiply
#import lib/product_steps

const SUBGROUP: u32 = 8u;
const TILE_M: u32 = 16u;
const TILE_N: u32 = 8u;

// Steps of k that are summed in one round: 1, or 4 if k is a multiple of 4.
const STEPS: u32 = 1u;
// Whether b is contiguous along k, as A_ALONG_K says of a, and is loaded in vectors. Only with four steps.
const B_ALONG_K: u32 = 0u;
// Whether b is contiguous along n, and is loaded in vectors. Then n and TILE_N are multiples of 4. Not with B_ALONG_K.
const B_ALONG_N: u32 = 0u;

// Rows that are summed in one loop. llvmpipe unrolls only short loops, and keeps a tile in memory if a loop is not
// unrolled.
const PART: u32 = 32u / TILE_N;

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

alias LaneRows = array<u32, TILE_M / SUBGROUP>;
// The elements of a and b that an invocation reads in a round.
alias Left = array<vec4f, TILE_M / SUBGROUP>;
alias Right = array<vec4f, TILE_N>;

struct Origin {
  row: u32,
  column: u32,
  lane: u32,
}

fn origin(group: vec3u, groups: vec3u, lane: u32) -> Origin {
  let per_row = (params.n + SUBGROUP * TILE_N - 1u) / (SUBGROUP * TILE_N);
  let index = group.y * groups.x + group.x;
  let first = lane * select(1u, 4u, B_ALONG_N == 1u);
  return Origin((index / per_row) * TILE_M, (index % per_row) * SUBGROUP * TILE_N + first, lane);
}

// The j-th column of an invocation.
fn column_of(at: Origin, j: u32) -> u32 {
  if (B_ALONG_N == 1u) {
    return at.column + (j / 4u) * 4u * SUBGROUP + j % 4u;
  }
  return at.column + j * SUBGROUP;
}

// STEPS elements of b along k, in each column of this invocation; the other components are 0.
fn steps_of_b(k: u32, column: Columns) -> Right {
  var steps: Right;
  if (B_ALONG_K == 1u) {
    for (var j = 0u; j < TILE_N; j++) {
      steps[j] = b_vector(column[j], k, params.b_column);
    }
    return steps;
  }
  for (var step = 0u; step < STEPS; step++) {
    if (B_ALONG_N == 1u) {
      for (var j = 0u; j + 3u < TILE_N; j += 4u) {
        // Past the edge, every column is the last one, and a vector from there would exceed the row.
        let four = b_vector(k + step, min(column[j], params.n - 4u), params.b_row);
        steps[j][step] = four.x;
        steps[j + 1u][step] = four.y;
        steps[j + 2u][step] = four.z;
        steps[j + 3u][step] = four.w;
      }
    } else {
      for (var j = 0u; j < TILE_N; j++) {
        steps[j][step] = b_at(k + step, column[j]);
      }
    }
  }
  return steps;
}

// tile[i][j] += left[i] * right[j] for each step, for PART rows from `first` on.
fn add_rows(first: u32, lane_rows: ptr<function, Left>, right: ptr<function, Right>, tile: ptr<function, Tile>) {
  for (var i = first; i < first + PART; i++) {
    var left: array<f32, 4>;
    for (var step = 0u; step < STEPS; step++) {
      left[step] = subgroupShuffle((*lane_rows)[i / SUBGROUP][step], i % SUBGROUP);
    }
    for (var j = 0u; j < TILE_N; j++) {
      for (var step = 0u; step < STEPS; step++) {
        (*tile)[i][j] = fma(left[step], (*right)[j][step], (*tile)[i][j]);
      }
    }
  }
}

fn product(at: Origin, tile: ptr<function, Tile>) {
  let column = clamped_columns(at);
  var row_starts: LaneRows;
  for (var i = 0u; i < TILE_M / SUBGROUP; i++) {
    row_starts[i] = params.a_start + clamped_row(at.row + i * SUBGROUP + at.lane) * params.a_row;
  }
  for (var k = 0u; k < params.k; k += STEPS) {
    var right = steps_of_b(k, column);
    var lane_rows: Left;
    for (var i = 0u; i < TILE_M / SUBGROUP; i++) {
      lane_rows[i] = steps_of_a(row_starts[i], k);
    }
    add_rows(0u, &lane_rows, &right, tile);
    if (TILE_M > PART) {
      add_rows(PART, &lane_rows, &right, tile);
    }
    if (TILE_M > 2u * PART) {
      add_rows(2u * PART, &lane_rows, &right, tile);
      add_rows(3u * PART, &lane_rows, &right, tile);
    }
  }
}

fn drop_tile(at: Origin, tile: ptr<function, Tile>) {
  // A copy, because this loop is not unrolled and would keep the tile in memory.
  var dropped_tile = *tile;
  for (var i = 0u; i < TILE_M; i++) {
    let dropped = dropped_row(clamped_row(at.row + i), params.c_row);
    for (var j = 0u; j < TILE_N; j++) {
      dropped_tile[i][j] *= mask_factor(dropped, params.column0 + column_of(at, j));
    }
  }
  *tile = dropped_tile;
}

// The loop over rows ends at a number that compilers do not know: LLVM, by which software adapters compile, takes up to ten times as long
// for the stores of an unrolled one.
fn store(at: Origin, tile: ptr<function, Tile>) {
  // A copy, because this loop would keep the tile in memory.
  var copy = *tile;
  for (var row = at.row; row < min(at.row + TILE_M, params.m); row++) {
    for (var j = 0u; j < TILE_N; j++) {
      let column = column_of(at, j);
      if (column < params.n) {
        let index = row * params.c_row + params.column0 + column;
        if (params.accumulate != 0u) {
          c[index] += copy[row - at.row][j];
        } else {
          c[index] = copy[row - at.row][j];
        }
      }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = origin(group, groups, lane);
  var tile: Tile;
  product(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}

@compute @workgroup_size(SUBGROUP)
fn with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = origin(group, groups, lane);
  var tile: Tile;
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(SUBGROUP)
fn low_rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = origin(group, groups, lane);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(SUBGROUP)
fn low_rank_with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = origin(group, groups, lane);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(SUBGROUP)
fn low_rank_dropped(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = origin(group, groups, lane);
  var tile: Tile;
  low_rank_term(at, &tile);
  drop_tile(at, &tile);
  product(at, &tile);
  store(at, &tile);
}
