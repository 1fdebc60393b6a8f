// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Only `plain` and `dropped_b`, which have neither bias nor low-rank term, apply `factor`. The low-rank term is that of
// LoRA (Hu et al. 2021, eq. 3). Dropout is recomputed from (seed, salt, element index) and acts on a in `dropped_a`, on
// b in `dropped_b`, on the low-rank term in `low_rank_dropped`. Element indices are those of the complete tensor.
//
// Shapes: a [m, k], b [k, n], c [m, n], bias [n], z [m, rank], l [rank, n]. a, b, z and l are read through strides, so
// that this kernel handles transposed matrices as well. b may be a weight in a format of fewer bits (base/packed.ts);
// its elements are converted to f32 when they are read. A launch writes the columns of c from `column0` on;
// `a_start` and `b_start` are the first elements of a and b that it reads.
//
// Threads: each invocation computes a TILE_M x TILE_N tile of c in registers and loops over k; a workgroup covers
// GROUP_Y * TILE_M rows and GROUP_X * TILE_N columns. There is no workgroup memory: neighbouring invocations read the
// same rows of a through the cache. Range: f32 throughout, summed in order of k. Limits: m, n, k below 2^31.

const TILE_M: u32 = 8u;
const TILE_N: u32 = 8u;
const GROUP_X: u32 = 8u;
const GROUP_Y: u32 = 4u;

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

struct Origin {
  row: u32,
  column: u32,
}

fn origin(group: vec3u, groups: vec3u, local: vec3u) -> Origin {
  let per_row = (params.n + GROUP_X * TILE_N - 1u) / (GROUP_X * TILE_N);
  let index = group.y * groups.x + group.x;
  return Origin(
    ((index / per_row) * GROUP_Y + local.y) * TILE_M,
    ((index % per_row) * GROUP_X + local.x) * TILE_N,
  );
}

// Rows and columns past the edge repeat the last one. They are never written.
fn clamped_rows(at: Origin) -> array<u32, TILE_M> {
  var rows: array<u32, TILE_M>;
  for (var i = 0u; i < TILE_M; i++) {
    rows[i] = min(at.row + i, params.m - 1u);
  }
  return rows;
}

fn clamped_columns(at: Origin) -> array<u32, TILE_N> {
  var columns: array<u32, TILE_N>;
  for (var j = 0u; j < TILE_N; j++) {
    columns[j] = min(at.column + j, params.n - 1u);
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

fn product(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  let column = clamped_columns(at);
  for (var k = 0u; k < params.k; k++) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = b_at(k, column[j]);
    }
    for (var i = 0u; i < TILE_M; i++) {
      let left = a[params.a_start + row[i] * params.a_row + k * params.a_column];
      for (var j = 0u; j < TILE_N; j++) {
        (*tile)[i][j] = fma(left, right[j], (*tile)[i][j]);
      }
    }
  }
}

fn product_with_dropped_a(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  let column = clamped_columns(at);
  var dropped: array<DroppedRow, TILE_M>;
  for (var i = 0u; i < TILE_M; i++) {
    dropped[i] = dropped_row(row[i], params.k);
  }
  for (var k = 0u; k < params.k; k++) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = b_at(k, column[j]);
    }
    for (var i = 0u; i < TILE_M; i++) {
      let left = a[params.a_start + row[i] * params.a_row + k * params.a_column] * mask_factor(dropped[i], k);
      for (var j = 0u; j < TILE_N; j++) {
        (*tile)[i][j] = fma(left, right[j], (*tile)[i][j]);
      }
    }
  }
}

fn product_with_dropped_b(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  let column = clamped_columns(at);
  for (var k = 0u; k < params.k; k++) {
    let dropped = dropped_row(k, params.n);
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = b_at(k, column[j]) * mask_factor(dropped, column[j]);
    }
    for (var i = 0u; i < TILE_M; i++) {
      let left = a[params.a_start + row[i] * params.a_row + k * params.a_column];
      for (var j = 0u; j < TILE_N; j++) {
        (*tile)[i][j] = fma(left, right[j], (*tile)[i][j]);
      }
    }
  }
}

fn low_rank_term(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  let column = clamped_columns(at);
  for (var r = 0u; r < params.rank; r++) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = params.scale * l[r * params.l_row + (params.column0 + column[j]) * params.l_column];
    }
    for (var i = 0u; i < TILE_M; i++) {
      let left = z[row[i] * params.z_row + r * params.z_column];
      for (var j = 0u; j < TILE_N; j++) {
        (*tile)[i][j] = fma(left, right[j], (*tile)[i][j]);
      }
    }
  }
}

fn drop_tile(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  for (var i = 0u; i < TILE_M; i++) {
    let dropped = dropped_row(row[i], params.c_row);
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= mask_factor(dropped, params.column0 + at.column + j);
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
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      if (at.row + i < params.m && at.column + j < params.n) {
        let index = (at.row + i) * params.c_row + params.column0 + at.column + j;
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
  let at = origin(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank_with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn low_rank_dropped(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  drop_tile(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn dropped_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product_with_dropped_a(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn dropped_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product_with_dropped_b(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}
