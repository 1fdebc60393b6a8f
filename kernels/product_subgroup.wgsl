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

const SUBGROUP: u32 = 8u;
const TILE_M: u32 = 16u;
const TILE_N: u32 = 8u;

// Steps of k that are summed in one round: 1, or 4 if k is a multiple of 4.
const STEPS: u32 = 1u;
// Whether a, and b, is contiguous along k, and is loaded in vectors. Only with four steps.
const A_ALONG_K: u32 = 0u;
const B_ALONG_K: u32 = 0u;
// Whether b is contiguous along n, and is loaded in vectors. Then n and TILE_N are multiples of 4. Not with B_ALONG_K.
const B_ALONG_N: u32 = 0u;

// Rows that are summed in one loop. llvmpipe unrolls only short loops, and keeps a tile in memory if a loop is not
// unrolled.
const PART: u32 = 32u / TILE_N;

// Storage format of b.
const FORMAT: u32 = 0u;
const F32: u32 = 0u;
const F16: u32 = 1u;
const BF16: u32 = 2u;
const INT8: u32 = 3u;
const BLOCK: u32 = 64u;

// NormalFloat4 (QLoRA, Dettmers et al. 2023, appendix E).
const NF4 = array<f32, 16>(
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
  -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
);

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
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> z: array<f32>;
@group(0) @binding(5) var<storage, read> l: array<f32>;
@group(0) @binding(6) var<storage, read> seed: array<u32>;
@group(0) @binding(7) var<uniform> params: Params;

alias Tile = array<array<f32, TILE_N>, TILE_M>;
alias Columns = array<u32, TILE_N>;
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

// Rows and columns past the edge repeat the last one. They are never written.
fn clamped_row(row: u32) -> u32 {
  return min(row, params.m - 1u);
}

fn clamped_columns(at: Origin) -> Columns {
  var columns: Columns;
  for (var j = 0u; j < TILE_N; j++) {
    columns[j] = min(column_of(at, j), params.n - 1u);
  }
  return columns;
}

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

fn word(index: u32) -> u32 {
  return b[index / 4u][index % 4u];
}

// The element b[k, column]. A quantised row has b_words words, of which the first b_codes hold the codes.
fn b_at(k: u32, column: u32) -> f32 {
  if (FORMAT < INT8) {
    let index = params.b_start + k * params.b_row + column * params.b_column;
    if (FORMAT == F32) {
      return bitcast<f32>(word(index));
    }
    let pair = word(index >> 1u);
    if (FORMAT == F16) {
      return unpack2x16float(pair)[index & 1u];
    }
    return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (index & 1u) != 0u));
  }
  let is_transposed = params.b_transposed != 0u;
  let row_start = select(k, column, is_transposed) * params.b_words;
  let index_in_row = params.b_start + select(column, k, is_transposed);
  let scale = scale_of(row_start, index_in_row / BLOCK);
  if (FORMAT == INT8) {
    return f32(bitcast<i32>(word(row_start + (index_in_row >> 2u)) << (24u - 8u * (index_in_row & 3u))) >> 24u) * scale;
  }
  return NF4[(word(row_start + (index_in_row >> 3u)) >> (4u * (index_in_row & 7u))) & 15u] * scale;
}

// The scale of a block of the quantised row that begins at word `row_start`.
fn scale_of(row_start: u32, block: u32) -> f32 {
  if (FORMAT == INT8) {
    return bitcast<f32>(word(row_start + params.b_codes + block));
  }
  let scale = (word(row_start + params.b_codes + (block >> 2u)) >> (8u * (block & 3u))) & 255u;
  let smallest = bitcast<f32>(word(row_start + params.b_words - 2u));
  let step = bitcast<f32>(word(row_start + params.b_words - 1u));
  return smallest + step * f32(scale);
}

// Four neighbouring elements of a stored row of b, all of one block.
fn vector_of_row(row: u32, first_element: u32) -> vec4f {
  let index_in_row = params.b_start + first_element;
  if (FORMAT < INT8) {
    let index = index_in_row + row * select(params.b_row, params.b_column, B_ALONG_K == 1u);
    if (FORMAT == F32) {
      return bitcast<vec4f>(b[index / 4u]);
    }
    let pairs = vec2u(word(index >> 1u), word((index >> 1u) + 1u));
    if (FORMAT == F16) {
      return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
    }
    return bitcast<vec4f>(vec4u(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
  }
  let row_start = row * params.b_words;
  let scale = scale_of(row_start, index_in_row / BLOCK);
  if (FORMAT == INT8) {
    return vec4f(unpack4xI8(word(row_start + (index_in_row >> 2u)))) * scale;
  }
  let codes = (vec4u(word(row_start + (index_in_row >> 3u)) >> (4u * (index_in_row & 7u))) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u);
  return vec4f(NF4[codes.x], NF4[codes.y], NF4[codes.z], NF4[codes.w]) * scale;
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

// STEPS elements of b along k, in each column of this invocation; the other components are 0.
fn steps_of_b(k: u32, column: Columns) -> Right {
  var steps: Right;
  if (B_ALONG_K == 1u) {
    for (var j = 0u; j < TILE_N; j++) {
      steps[j] = vector_of_row(column[j], k);
    }
    return steps;
  }
  for (var step = 0u; step < STEPS; step++) {
    if (B_ALONG_N == 1u) {
      for (var j = 0u; j + 3u < TILE_N; j += 4u) {
        // Past the edge, every column is the last one, and a vector from there would exceed the row.
        let four = vector_of_row(k + step, min(column[j], params.n - 4u));
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

fn low_rank_term(at: Origin, tile: ptr<function, Tile>) {
  let column = clamped_columns(at);
  for (var r = 0u; r < params.rank; r++) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = params.scale * l[r * params.l_row + (params.column0 + column[j]) * params.l_column];
    }
    for (var i = 0u; i < TILE_M; i++) {
      let left = z[clamped_row(at.row + i) * params.z_row + r * params.z_column];
      for (var j = 0u; j < TILE_N; j++) {
        (*tile)[i][j] = fma(left, right[j], (*tile)[i][j]);
      }
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

fn multiply(factor: f32, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= factor;
    }
  }
}

fn add_bias(at: Origin, tile: ptr<function, Tile>) {
  let column = clamped_columns(at);
  for (var j = 0u; j < TILE_N; j++) {
    let value = bias[params.column0 + column[j]];
    for (var i = 0u; i < TILE_M; i++) {
      (*tile)[i][j] += value;
    }
  }
}

fn store(at: Origin, tile: ptr<function, Tile>) {
  // A copy, because this loop is not unrolled and would keep the tile in memory.
  var copy = *tile;
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      let column = column_of(at, j);
      if (at.row + i < params.m && column < params.n) {
        let index = (at.row + i) * params.c_row + params.column0 + column;
        if (params.accumulate != 0u) {
          c[index] += copy[i][j];
        } else {
          c[index] = copy[i][j];
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
