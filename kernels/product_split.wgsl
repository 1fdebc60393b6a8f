// The product of product.wgsl for a small c and a long k, as in the gradients of LoRA's A (u^T x) and B (dy^T z).
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]
//
// Shapes, strides, dropout of b and Params are those of product.wgsl; b is f32.
// Threads: a workgroup covers GROUP_M x GROUP_N tiles of TILE_M x TILE_N elements of c. SLICES invocations share each
// tile: each sums every SLICES-th step of k. This fills a device that a few tiles would leave idle. The slices are then
// added in order, through workgroup memory. Range: f32 throughout; the rounding differs from product.wgsl, but is the
// same in every run. Limits: m, n, k below 2^31; SLICES at least TILE_M * TILE_N.

const TILE_M: u32 = 8u;
const TILE_N: u32 = 1u;
const GROUP_M: u32 = 1u;
const GROUP_N: u32 = 16u;
const SLICES: u32 = 16u;

const TILE: u32 = TILE_M * TILE_N;
const TILES: u32 = GROUP_M * GROUP_N;

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
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read> seed: array<u32>;
@group(0) @binding(7) var<uniform> params: Params;

alias Tile = array<f32, TILE>;

var<workgroup> partial: array<f32, SLICES * TILES * TILE>;

// The first row and column of a tile.
struct Origin {
  row: u32,
  column: u32,
}

fn origin(group: vec3u, groups: vec3u, tile_index: u32) -> Origin {
  let per_row = (params.n + GROUP_N * TILE_N - 1u) / (GROUP_N * TILE_N);
  let index = group.y * groups.x + group.x;
  return Origin(
    ((index / per_row) * GROUP_M + tile_index / GROUP_N) * TILE_M,
    ((index % per_row) * GROUP_N + tile_index % GROUP_N) * TILE_N,
  );
}

#import lib/random_bits

// The factor of b[k, column]: 0 or keep_scale. Element indices count from the first row of a text.
fn mask_factor(k: u32, column: u32) -> f32 {
  let text = (params.row0 + k) / params.text_rows;
  let row_in_text = params.row0 + k - text * params.text_rows;
  let bits = random_bits(vec2u(seed[2u * text], seed[2u * text + 1u]), row_in_text * params.n + column);
  return select(0.0, params.keep_scale, bits < params.keep_threshold);
}

// Rows and columns past the edge repeat the last one. They are never written.
fn a_at(row: u32, k: u32) -> f32 {
  return a[params.a_start + min(row, params.m - 1u) * params.a_row + k * params.a_column];
}

fn b_index(k: u32, column: u32) -> u32 {
  return params.b_start + k * params.b_row + column * params.b_column;
}

fn add_step(at: Origin, k: u32, right: array<f32, TILE_N>, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    let left = a_at(at.row + i, k);
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i * TILE_N + j] = fma(left, right[j], (*tile)[i * TILE_N + j]);
    }
  }
}

// Adds the slices of the workgroup's tiles, in order, and writes c.
fn add_slices(group: vec3u, groups: vec3u, tile_index: u32, slice: u32, tile: ptr<function, Tile>) {
  for (var e = 0u; e < TILE; e++) {
    partial[(slice * TILES + tile_index) * TILE + e] = (*tile)[e];
  }
  workgroupBarrier();
  let element = slice * TILES + tile_index;
  if (element >= TILES * TILE) {
    return;
  }
  var sum = 0.0;
  for (var s = 0u; s < SLICES; s++) {
    sum += partial[s * TILES * TILE + element];
  }
  let at = origin(group, groups, element / TILE);
  let row = at.row + (element % TILE) / TILE_N;
  let column = at.column + element % TILE_N;
  if (row < params.m && column < params.n) {
    let index = row * params.c_row + params.column0 + column;
    c[index] = sum * params.factor + select(0.0, c[index], params.accumulate != 0u);
  }
}

@compute @workgroup_size(TILES, SLICES)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local.x);
  var tile: Tile;
  for (var k = local.y; k < params.k; k += SLICES) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      right[j] = b[b_index(k, min(at.column + j, params.n - 1u))];
    }
    add_step(at, k, right, &tile);
  }
  add_slices(group, groups, local.x, local.y, &tile);
}

@compute @workgroup_size(TILES, SLICES)
fn dropped_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local.x);
  var tile: Tile;
  for (var k = local.y; k < params.k; k += SLICES) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      let column = min(at.column + j, params.n - 1u);
      right[j] = b[b_index(k, column)] * mask_factor(k, column);
    }
    add_step(at, k, right, &tile);
  }
  add_slices(group, groups, local.x, local.y, &tile);
}
