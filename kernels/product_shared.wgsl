// The product of product.wgsl, with the same bits, through workgroup memory. It is for adapters where loads are
// expensive and barriers are cheap, as on GPUs.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl.
// Threads: a workgroup covers GROUP_Y * TILE_M rows and GROUP_X * TILE_N columns of c. For every DEPTH steps of k, its
// invocations load its rows of a and columns of b to workgroup memory, and convert b to f32. Neighbours read
// neighbouring elements, whether a matrix is transposed or not. Then each invocation adds to its TILE_M x TILE_N tile,
// whose columns are GROUP_X apart. Range: f32 throughout, summed in order of k.
// Limits: m, n, k below 2^31; DEPTH divides 32; at most 256 invocations and 16 KiB of workgroup memory.

const TILE_M: u32 = 8u;
const TILE_N: u32 = 8u;
const GROUP_X: u32 = 16u;
const GROUP_Y: u32 = 16u;
const DEPTH: u32 = 8u;

const BLOCK_M = GROUP_Y * TILE_M;
const BLOCK_N = GROUP_X * TILE_N;
const INVOCATIONS = GROUP_X * GROUP_Y;
// Rows are padded, so that neighbours along k are in different memory banks.
const LEFT_ROW = BLOCK_M + 32u / DEPTH;
const RIGHT_ROW = BLOCK_N + 32u / DEPTH;

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

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> z: array<f32>;
@group(0) @binding(5) var<storage, read> l: array<f32>;
@group(0) @binding(6) var<storage, read> seed: array<u32>;
@group(0) @binding(7) var<uniform> params: Params;

alias Tile = array<array<f32, TILE_N>, TILE_M>;

var<workgroup> left: array<f32, DEPTH * LEFT_ROW>;
var<workgroup> right: array<f32, DEPTH * RIGHT_ROW>;

// The first row and column of the workgroup's block, and the position of the invocation in the workgroup.
struct Position {
  row: u32,
  column: u32,
  x: u32,
  y: u32,
}

fn position(group: vec3u, groups: vec3u, local: vec3u) -> Position {
  let per_row = (params.n + BLOCK_N - 1u) / BLOCK_N;
  let index = group.y * groups.x + group.x;
  return Position((index / per_row) * BLOCK_M, (index % per_row) * BLOCK_N, local.x, local.y);
}

fn row_of(at: Position, i: u32) -> u32 {
  return at.row + at.y * TILE_M + i;
}

fn column_of(at: Position, j: u32) -> u32 {
  return at.column + at.x + j * GROUP_X;
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

// The element b[k, column]. A quantised row has b_words words, of which the first b_codes hold the codes.
fn b_at(k: u32, column: u32) -> f32 {
  if (FORMAT < INT8) {
    let index = params.b_start + k * params.b_row + column * params.b_column;
    if (FORMAT == F32) {
      return bitcast<f32>(b[index]);
    }
    let word = b[index >> 1u];
    if (FORMAT == F16) {
      return unpack2x16float(word)[index & 1u];
    }
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (index & 1u) != 0u));
  }
  let is_transposed = params.b_transposed != 0u;
  let row_start = select(k, column, is_transposed) * params.b_words;
  let index_in_row = params.b_start + select(column, k, is_transposed);
  let block = index_in_row / BLOCK;
  if (FORMAT == INT8) {
    let code = bitcast<i32>(b[row_start + (index_in_row >> 2u)] << (24u - 8u * (index_in_row & 3u))) >> 24u;
    return f32(code) * bitcast<f32>(b[row_start + params.b_codes + block]);
  }
  let code = (b[row_start + (index_in_row >> 3u)] >> (4u * (index_in_row & 7u))) & 15u;
  let scale = (b[row_start + params.b_codes + (block >> 2u)] >> (8u * (block & 3u))) & 255u;
  let smallest = bitcast<f32>(b[row_start + params.b_words - 2u]);
  let step = bitcast<f32>(b[row_start + params.b_words - 1u]);
  return NF4[code] * (smallest + step * f32(scale));
}

// The element of a block of `width` rows or columns and DEPTH steps that load `index` fetches: (row or column, step of
// k).
fn element(index: u32, width: u32, along_k: bool) -> vec2u {
  return select(vec2u(index % width, index / width), vec2u(index / DEPTH, index % DEPTH), along_k);
}

// Past the edge, fetches repeat the last row, column or step. What they load is never added or written.
fn fetch_a(at: Position, k0: u32) {
  for (var i = at.y * GROUP_X + at.x; i < BLOCK_M * DEPTH; i += INVOCATIONS) {
    let e = element(i, BLOCK_M, params.a_column == 1u);
    let row = min(at.row + e.x, params.m - 1u);
    let k = min(k0 + e.y, params.k - 1u);
    left[e.y * LEFT_ROW + e.x] = a[params.a_start + row * params.a_row + k * params.a_column];
  }
}

fn fetch_b(at: Position, k0: u32) {
  for (var i = at.y * GROUP_X + at.x; i < BLOCK_N * DEPTH; i += INVOCATIONS) {
    let e = element(i, BLOCK_N, params.b_column == 1u && params.b_row != 1u);
    let column = min(at.column + e.x, params.n - 1u);
    right[e.y * RIGHT_ROW + e.x] = b_at(min(k0 + e.y, params.k - 1u), column);
  }
}

fn fetch_z(at: Position, r0: u32) {
  for (var i = at.y * GROUP_X + at.x; i < BLOCK_M * DEPTH; i += INVOCATIONS) {
    let e = element(i, BLOCK_M, true);
    let row = min(at.row + e.x, params.m - 1u);
    left[e.y * LEFT_ROW + e.x] = z[row * params.z_row + min(r0 + e.y, params.rank - 1u) * params.z_column];
  }
}

fn fetch_l(at: Position, r0: u32) {
  for (var i = at.y * GROUP_X + at.x; i < BLOCK_N * DEPTH; i += INVOCATIONS) {
    let e = element(i, BLOCK_N, params.l_row == 1u);
    let column = params.column0 + min(at.column + e.x, params.n - 1u);
    let r = min(r0 + e.y, params.rank - 1u);
    right[e.y * RIGHT_ROW + e.x] = params.scale * l[r * params.l_row + column * params.l_column];
  }
}

fn add_step(at: Position, k: u32, tile: ptr<function, Tile>) {
  var column: array<f32, TILE_N>;
  for (var j = 0u; j < TILE_N; j++) {
    column[j] = right[k * RIGHT_ROW + at.x + j * GROUP_X];
  }
  for (var i = 0u; i < TILE_M; i++) {
    let row = left[k * LEFT_ROW + at.y * TILE_M + i];
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] = fma(row, column[j], (*tile)[i][j]);
    }
  }
}

// A full block has a constant number of steps, so that compilers unroll the loop.
fn add_block(at: Position, steps: u32, tile: ptr<function, Tile>) {
  if (steps >= DEPTH) {
    for (var k = 0u; k < DEPTH; k++) {
      add_step(at, k, tile);
    }
  } else {
    for (var k = 0u; k < steps; k++) {
      add_step(at, k, tile);
    }
  }
}

fn product(at: Position, tile: ptr<function, Tile>) {
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    fetch_a(at, k0);
    fetch_b(at, k0);
    workgroupBarrier();
    add_block(at, params.k - k0, tile);
    workgroupBarrier();
  }
}

fn low_rank_term(at: Position, tile: ptr<function, Tile>) {
  for (var r0 = 0u; r0 < params.rank; r0 += DEPTH) {
    fetch_z(at, r0);
    fetch_l(at, r0);
    workgroupBarrier();
    add_block(at, params.rank - r0, tile);
    workgroupBarrier();
  }
}

fn drop_tile(at: Position, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    let dropped = dropped_row(min(row_of(at, i), params.m - 1u), params.c_row);
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= mask_factor(dropped, params.column0 + column_of(at, j));
    }
  }
}

fn multiply(factor: f32, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= factor;
    }
  }
}

fn add_bias(at: Position, tile: ptr<function, Tile>) {
  for (var j = 0u; j < TILE_N; j++) {
    let value = bias[params.column0 + min(column_of(at, j), params.n - 1u)];
    for (var i = 0u; i < TILE_M; i++) {
      (*tile)[i][j] += value;
    }
  }
}

fn store(at: Position, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      let row = row_of(at, i);
      let column = column_of(at, j);
      if (row < params.m && column < params.n) {
        let index = row * params.c_row + params.column0 + column;
        if (params.accumulate != 0u) {
          c[index] += (*tile)[i][j];
        } else {
          c[index] = (*tile)[i][j];
        }
      }
    }
  }
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = position(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = position(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = position(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank_with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = position(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank_dropped(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = position(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  drop_tile(at, &tile);
  product(at, &tile);
  store(at, &tile);
}
