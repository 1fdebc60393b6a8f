// The product of product.wgsl where c is small and k long, as of LoRA's gradients of A (u^T x) and of B (dy^T z).
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]
//
// Shapes, strides and dropout of b: as in product.wgsl, as are the fields of Params; b is f32.
// Threads: the SLICES invocations of one place in a workgroup share k, each summing every SLICES-th step of it for the same
// TILE_M x TILE_N elements of c; a workgroup has GROUP_M x GROUP_N places. So a device that a few tiles would leave idle is
// filled. Slices are then added in order through workgroup memory.
// Range: f32 throughout; sums round otherwise than product.wgsl's, and alike in every run.
// Limits: m, n, k below 2^31; SLICES * GROUP_M * GROUP_N at least as many as a workgroup has elements of c.

const TILE_M: u32 = 8u;
const TILE_N: u32 = 1u;
const GROUP_M: u32 = 1u;
const GROUP_N: u32 = 16u;
const SLICES: u32 = 16u;

const TILE: u32 = TILE_M * TILE_N;
const PLACES: u32 = GROUP_M * GROUP_N;

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

var<workgroup> partial: array<f32, SLICES * PLACES * TILE>;

// The first row and column of a place's tile.
struct Origin {
  row: u32,
  column: u32,
}

fn origin(group: vec3u, groups: vec3u, place: u32) -> Origin {
  let across = (params.n + GROUP_N * TILE_N - 1u) / (GROUP_N * TILE_N);
  let index = group.y * groups.x + group.x;
  return Origin(
    ((index / across) * GROUP_M + place / GROUP_N) * TILE_M,
    ((index % across) * GROUP_N + place % GROUP_N) * TILE_N,
  );
}

// pcg3d of Jarzynski and Olano (2020), first component.
fn random_bits(text_seed: vec2u, index: u32) -> u32 {
  var v = vec3u(index, params.salt ^ text_seed.y, text_seed.x) * 1664525u + 1013904223u;
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v ^= v >> vec3u(16u);
  v.x += v.y * v.z;
  return v.x;
}

// b[k, column] * 0 or keep_scale: elements of a text count from its first row.
fn kept(k: u32, column: u32) -> f32 {
  let text = (params.row0 + k) / params.text_rows;
  let own = params.row0 + k - text * params.text_rows;
  let bits = random_bits(vec2u(seed[2u * text], seed[2u * text + 1u]), own * params.n + column);
  return select(0.0, params.keep_scale, bits < params.keep_threshold);
}

// Rows and columns past the edge repeat the last one; they are never written.
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

// Adds what the slices of this workgroup have summed, slice after slice, and writes it.
fn add_slices(group: vec3u, groups: vec3u, place: u32, slice: u32, tile: ptr<function, Tile>) {
  for (var e = 0u; e < TILE; e++) {
    partial[(slice * PLACES + place) * TILE + e] = (*tile)[e];
  }
  workgroupBarrier();
  let element = slice * PLACES + place;
  if (element >= PLACES * TILE) {
    return;
  }
  var sum = 0.0;
  for (var s = 0u; s < SLICES; s++) {
    sum += partial[s * PLACES * TILE + element];
  }
  let at = origin(group, groups, element / TILE);
  let row = at.row + (element % TILE) / TILE_N;
  let column = at.column + element % TILE_N;
  if (row < params.m && column < params.n) {
    let index = row * params.c_row + params.column0 + column;
    c[index] = sum * params.factor + select(0.0, c[index], params.accumulate != 0u);
  }
}

@compute @workgroup_size(PLACES, SLICES)
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

@compute @workgroup_size(PLACES, SLICES)
fn dropped_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local.x);
  var tile: Tile;
  for (var k = local.y; k < params.k; k += SLICES) {
    var right: array<f32, TILE_N>;
    for (var j = 0u; j < TILE_N; j++) {
      let column = min(at.column + j, params.n - 1u);
      right[j] = b[b_index(k, column)] * kept(k, column);
    }
    add_step(at, k, right, &tile);
  }
  add_slices(group, groups, local.x, local.y, &tile);
}
