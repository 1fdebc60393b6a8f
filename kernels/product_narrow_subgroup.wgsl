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

const SUBGROUP: u32 = 8u;
const ROWS: u32 = 8u;
const COLUMNS: u32 = 8u;

// Whether a, and b, is contiguous along k. Then k is a multiple of 4, and each round sums four steps.
const A_ALONG_K: u32 = 0u;
const B_ALONG_K: u32 = 0u;
const STEPS: u32 = select(1u, 4u, A_ALONG_K + B_ALONG_K > 0u);

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_start: u32,
  a_row: u32,
  a_column: u32,
  b_start: u32,
  b_row: u32,
  b_column: u32,
  b_transposed: u32,
  b_words: u32,
  b_codes: u32,
  c_row: u32,
  column0: u32,
  accumulate: u32,
  rank: u32,
  z_row: u32,
  z_column: u32,
  l_row: u32,
  l_column: u32,
  scale: f32,
  factor: f32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  row0: u32,
  text_rows: u32,
}

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read> seed: array<u32>;
@group(0) @binding(7) var<uniform> params: Params;

alias Tile = array<array<f32, COLUMNS>, ROWS>;

#import lib/random_bits

// A row of a dropped matrix: the seed of its text, and the index of its first element within the text.
struct DroppedRow {
  text_seed: vec2u,
  first: u32,
}

fn dropped_row(row: u32, width: u32) -> DroppedRow {
  let text = (params.row0 + row) / params.text_rows;
  let row_in_text = params.row0 + row - text * params.text_rows;
  return DroppedRow(vec2u(seed[2u * text], seed[2u * text + 1u]), row_in_text * width);
}

fn mask_factor(row: DroppedRow, column: u32) -> f32 {
  return select(0.0, params.keep_scale, random_bits(row.text_seed, row.first + column) < params.keep_threshold);
}

// Rows past the edge repeat the last one. They are never written.
fn row_of(first: u32, i: u32) -> u32 {
  return min(first + i * SUBGROUP, params.m - 1u);
}

fn first_row(group: vec3u, groups: vec3u, lane: u32) -> u32 {
  return (group.y * groups.x + group.x) * SUBGROUP * ROWS + lane;
}

// STEPS elements of a along k, in the row that begins at `start`; the other components are 0.
fn steps_of_a(start: u32, k: u32) -> vec4f {
  if (A_ALONG_K == 1u) {
    return a[(start + k) / 4u];
  }
  var steps = vec4f();
  for (var step = 0u; step < STEPS; step++) {
    let index = start + (k + step) * params.a_column;
    steps[step] = a[index / 4u][index % 4u];
  }
  return steps;
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

fn store(first: u32, tile: ptr<function, Tile>) {
  for (var i = 0u; i < ROWS; i++) {
    let row = first + i * SUBGROUP;
    for (var j = 0u; j < COLUMNS; j++) {
      if (row < params.m && j < params.n) {
        let index = row * params.c_row + params.column0 + j;
        if (params.accumulate != 0u) {
          c[index] += (*tile)[i][j];
        } else {
          c[index] = (*tile)[i][j];
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
