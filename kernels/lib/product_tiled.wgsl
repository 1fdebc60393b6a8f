// The product of product.wgsl through workgroup memory, for a kernel that declares c and store_vector, and imports
// lib/product_sums or another part that says in what is summed.
//
// Threads: a workgroup covers 4 * SQUARES * GROUP_Y rows and 4 * SQUARES * GROUP_X columns of c. For every DEPTH steps of k, its
// invocations copy its rows of a and columns of b to workgroup memory, where they are converted to f32 and dropped. They do
// so in blocks of four rows or columns by four steps, turned in registers, so that every access is a vector of four. Then
// each invocation adds to its SQUARES x SQUARES squares of 4 x 4 elements of c, which are GROUP_Y and GROUP_X squares apart.
// With SLICES, as many invocations share each square: each sums every SLICES-th block of four steps, and their sums are then
// added in a fixed order. This fills a GPU that a small c would leave idle.
// Limits: a, b, z and l have a multiple of 16 bytes; starts, strides and lengths of a matrix that is read in vectors are multiples
// of four elements; DEPTH is a multiple of 4 * SLICES; SLICES is a power of two, and with more than one, an invocation has one
// square, and 2 * SLICES * GROUP_X * GROUP_Y vectors fit the tiles; at most 256 invocations and 16 KiB.

#import lib/product_params
#import lib/product_dropout
#import lib/product_weight_vector
#import lib/product_entries

const GROUP_X: u32 = 16u;
const GROUP_Y: u32 = 16u;
const SQUARES: u32 = 2u;
const DEPTH: u32 = 16u;
const SLICES: u32 = 1u;

// How a, b, z and l are read: in vectors along k (of z and l: along the rank), in vectors across it, or one by one.
const A_READ: u32 = 0u;
const B_READ: u32 = 1u;
const Z_READ: u32 = 0u;
const L_READ: u32 = 0u;
const ALONG_K: u32 = 0u;
const ACROSS_K: u32 = 1u;

const INVOCATIONS: u32 = GROUP_X * GROUP_Y * SLICES;
// Blocks of four rows, of four columns and of four steps.
const ROW_BLOCKS: u32 = SQUARES * GROUP_Y;
const COLUMN_BLOCKS: u32 = SQUARES * GROUP_X;
const BLOCKS: u32 = ROW_BLOCKS + COLUMN_BLOCKS;
const STEP_BLOCKS: u32 = DEPTH / 4u;

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(4) var<storage, read> z: array<vec4f>;
@group(0) @binding(5) var<storage, read> l: array<vec4f>;

// For each step, four rows of a in a vector, then four columns of b. The index of a step within its block is a constant when loops
// are unrolled, and so is its distance in memory.
var<workgroup> tiles: array<array<array<TileVector, BLOCKS>, 4>, STEP_BLOCKS>;

// Rows of the squares of an invocation, four to a square and a vector to a row.
const TILE_M: u32 = 4u * SQUARES;
const TILE_N: u32 = SQUARES;
alias Tile = array<array<vec4f, TILE_N>, TILE_M>;

struct Origin {
  // First row and column of the workgroup.
  row: u32,
  column: u32,
  local: vec3u,
}

fn origin(group: vec3u, groups: vec3u, local: vec3u) -> Origin {
  let per_row = (params.n + 4u * COLUMN_BLOCKS - 1u) / (4u * COLUMN_BLOCKS);
  let index = group.y * groups.x + group.x;
  return Origin((index / per_row) * 4u * ROW_BLOCKS, (index % per_row) * 4u * COLUMN_BLOCKS, local);
}

// The i-th row of an invocation, and the first column of its j-th vectors.
fn row_of(at: Origin, i: u32) -> u32 {
  return at.row + 4u * (at.local.y + (i / 4u) * GROUP_Y) + i % 4u;
}

fn column_of(at: Origin, j: u32) -> u32 {
  return at.column + 4u * (at.local.x + j * GROUP_X);
}

// Four rows of a and four steps, a vector for each step. Rows past the edge repeat the last one; they are never written.
fn a_block(row: u32, k: u32) -> mat4x4f {
  var block = mat4x4f();
  if (A_READ == ALONG_K) {
    for (var i = 0u; i < 4u; i++) {
      block[i] = a[(params.a_start + min(row + i, params.m - 1u) * params.a_row + min(k, params.k - 4u)) / 4u];
    }
    return until(params.k, k, transpose(block));
  }
  for (var step = 0u; step < 4u; step++) {
    let start = params.a_start + min(k + step, params.k - 1u) * params.a_column;
    if (A_READ == ACROSS_K) {
      block[step] = a[(start + min(row, params.m - 4u)) / 4u];
    } else {
      for (var i = 0u; i < 4u; i++) {
        let index = start + min(row + i, params.m - 1u) * params.a_row;
        block[step][i] = a[index / 4u][index % 4u];
      }
    }
  }
  return until(params.k, k, block);
}

// Four columns of b and four steps, in the same way.
fn b_block(column: u32, k: u32) -> mat4x4f {
  var block = mat4x4f();
  if (B_READ == ALONG_K) {
    for (var j = 0u; j < 4u; j++) {
      block[j] = b_vector(min(column + j, params.n - 1u), min(k, params.k - 4u), params.b_column);
    }
    return until(params.k, k, transpose(block));
  }
  for (var step = 0u; step < 4u; step++) {
    let clamped = min(k + step, params.k - 1u);
    if (B_READ == ACROSS_K) {
      block[step] = b_vector(clamped, min(column, params.n - 4u), params.b_row);
    } else {
      for (var j = 0u; j < 4u; j++) {
        block[step][j] = b_at(clamped, min(column + j, params.n - 1u));
      }
    }
  }
  return until(params.k, k, block);
}

// Four rows and four steps of z, and four columns of scale * l.
fn z_block(row: u32, r: u32) -> mat4x4f {
  var block = mat4x4f();
  if (Z_READ == ALONG_K) {
    for (var i = 0u; i < 4u; i++) {
      block[i] = z[(min(row + i, params.m - 1u) * params.z_row + min(r, params.rank - 4u)) / 4u];
    }
    return until(params.rank, r, transpose(block));
  }
  for (var step = 0u; step < 4u; step++) {
    let start = min(r + step, params.rank - 1u) * params.z_column;
    for (var i = 0u; i < 4u; i++) {
      let index = start + min(row + i, params.m - 1u) * params.z_row;
      block[step][i] = z[index / 4u][index % 4u];
    }
  }
  return until(params.rank, r, block);
}

fn l_block(column: u32, r: u32) -> mat4x4f {
  var block = mat4x4f();
  if (L_READ == ALONG_K) {
    for (var j = 0u; j < 4u; j++) {
      let start = (params.column0 + min(column + j, params.n - 1u)) * params.l_column;
      block[j] = l[(start + min(r, params.rank - 4u)) / 4u];
    }
    return until(params.rank, r, params.scale * transpose(block));
  }
  for (var step = 0u; step < 4u; step++) {
    let start = min(r + step, params.rank - 1u) * params.l_row + params.column0;
    if (L_READ == ACROSS_K) {
      block[step] = l[(start + min(column, params.n - 4u)) / 4u];
    } else {
      for (var j = 0u; j < 4u; j++) {
        let index = start + min(column + j, params.n - 1u) * params.l_column;
        block[step][j] = l[index / 4u][index % 4u];
      }
    }
  }
  return until(params.rank, r, params.scale * block);
}

// A block whose steps from `end` on are 0.
fn until(end: u32, k: u32, block: mat4x4f) -> mat4x4f {
  var steps = block;
  for (var step = 0u; step < 4u; step++) {
    steps[step] = select(vec4f(), block[step], k + step < end);
  }
  return steps;
}

// The block that the invocation copies in a round: four rows of a or four columns of b, and four steps. Neighbours are along k
// or across it, as in memory.
struct Copied {
  is_a: bool,
  is_b: bool,
  step_block: u32,
  block: u32,
}

fn copied(at: Origin, round: u32, a_along_k: bool, b_along_k: bool) -> Copied {
  let e = (at.local.z * GROUP_Y + at.local.y) * GROUP_X + at.local.x + round * INVOCATIONS;
  let is_a = e < ROW_BLOCKS * STEP_BLOCKS;
  let f = select(e - ROW_BLOCKS * STEP_BLOCKS, e, is_a);
  let is_b = !is_a && f < COLUMN_BLOCKS * STEP_BLOCKS;
  if (select(b_along_k, a_along_k, is_a)) {
    return Copied(is_a, is_b, f % STEP_BLOCKS, f / STEP_BLOCKS);
  }
  let count = select(COLUMN_BLOCKS, ROW_BLOCKS, is_a);
  return Copied(is_a, is_b, f / count, f % count);
}

const ROUNDS: u32 = (BLOCKS * STEP_BLOCKS + INVOCATIONS - 1u) / INVOCATIONS;

// All invocations call it at the same time, also those that have no block to copy.
fn put(place: Copied, block: mat4x4f) {
  let kept = fitted(place, block);
  if (place.is_a || place.is_b) {
    let column = select(ROW_BLOCKS, 0u, place.is_a) + place.block;
    for (var step = 0u; step < 4u; step++) {
      tiles[place.step_block][step][column] = TileVector(kept[step]);
    }
  }
}

// sums += a b for the steps in workgroup memory, of which the first `steps` count.
fn add_tiles(at: Origin, steps: u32, tile: ptr<function, Tile>) {
  workgroupBarrier();
  let step_blocks = min(DEPTH, steps + 3u) / 4u;
  var sums = begin_sums(tile);
  for (var q = at.local.z; q < step_blocks; q += SLICES) {
    for (var step = 0u; step < 4u; step++) {
      var right: array<TileVector, TILE_N>;
      for (var j = 0u; j < TILE_N; j++) {
        right[j] = tiles[q][step][ROW_BLOCKS + at.local.x + j * GROUP_X];
      }
      for (var i = 0u; i < SQUARES; i++) {
        let left = tiles[q][step][at.local.y + i * GROUP_Y];
        for (var row = 0u; row < 4u; row++) {
          for (var j = 0u; j < TILE_N; j++) {
            sums[4u * i + row][j] = fma(TileVector(left[row]), right[j], sums[4u * i + row][j]);
          }
        }
      }
    }
  }
  end_sums(&sums, tile);
  workgroupBarrier();
}

fn product(at: Origin, tile: ptr<function, Tile>) {
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    for (var round = 0u; round < ROUNDS; round++) {
      let place = copied(at, round, A_READ == ALONG_K, B_READ == ALONG_K);
      let k = k0 + 4u * place.step_block;
      var block = mat4x4f();
      if (place.is_a) {
        block = a_block(at.row + 4u * place.block, k);
      } else if (place.is_b) {
        block = b_block(at.column + 4u * place.block, k);
      }
      put(place, block);
    }
    add_tiles(at, params.k - k0, tile);
  }
  join_slices(at, tile);
}

fn product_with_dropped_a(at: Origin, tile: ptr<function, Tile>) {
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    for (var round = 0u; round < ROUNDS; round++) {
      let place = copied(at, round, A_READ == ALONG_K, B_READ == ALONG_K);
      let k = k0 + 4u * place.step_block;
      var block = mat4x4f();
      if (place.is_a) {
        let row = at.row + 4u * place.block;
        block = a_block(row, k);
        for (var i = 0u; i < 4u; i++) {
          let dropped = dropped_row(min(row + i, params.m - 1u), params.k);
          for (var step = 0u; step < 4u; step++) {
            block[step][i] *= mask_factor(dropped, k + step);
          }
        }
      } else if (place.is_b) {
        block = b_block(at.column + 4u * place.block, k);
      }
      put(place, block);
    }
    add_tiles(at, params.k - k0, tile);
  }
  join_slices(at, tile);
}

fn product_with_dropped_b(at: Origin, tile: ptr<function, Tile>) {
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    for (var round = 0u; round < ROUNDS; round++) {
      let place = copied(at, round, A_READ == ALONG_K, B_READ == ALONG_K);
      let k = k0 + 4u * place.step_block;
      var block = mat4x4f();
      if (place.is_a) {
        block = a_block(at.row + 4u * place.block, k);
      } else if (place.is_b) {
        let column = at.column + 4u * place.block;
        block = b_block(column, k);
        for (var step = 0u; step < 4u; step++) {
          let dropped = dropped_row(min(k + step, params.k - 1u), params.n);
          for (var j = 0u; j < 4u; j++) {
            block[step][j] *= mask_factor(dropped, column + j);
          }
        }
      }
      put(place, block);
    }
    add_tiles(at, params.k - k0, tile);
  }
  join_slices(at, tile);
}

fn low_rank_term(at: Origin, tile: ptr<function, Tile>) {
  for (var r0 = 0u; r0 < params.rank; r0 += DEPTH) {
    for (var round = 0u; round < ROUNDS; round++) {
      let place = copied(at, round, true, L_READ == ALONG_K);
      let r = r0 + 4u * place.step_block;
      var block = mat4x4f();
      if (place.is_a) {
        block = z_block(at.row + 4u * place.block, r);
      } else if (place.is_b) {
        block = l_block(at.column + 4u * place.block, r);
      }
      put(place, block);
    }
    add_tiles(at, params.rank - r0, tile);
  }
}

fn drop_tile(at: Origin, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    let dropped = dropped_row(min(row_of(at, i), params.m - 1u), params.c_row);
    for (var j = 0u; j < TILE_N; j++) {
      for (var e = 0u; e < 4u; e++) {
        (*tile)[i][j][e] *= mask_factor(dropped, params.column0 + column_of(at, j) + e);
      }
    }
  }
}

// Adds the sums of the slices in pairs, the same ones in every run. Those of the first slice are then complete.
fn join_slices(at: Origin, tile: ptr<function, Tile>) {
  let square = at.local.y * GROUP_X + at.local.x;
  for (var half = SLICES / 2u; half > 0u; half /= 2u) {
    for (var row = 0u; row < 4u; row++) {
      let index = ((at.local.z % half) * 4u + row) * GROUP_X * GROUP_Y + square;
      if (at.local.z >= half && at.local.z < 2u * half) {
        tiles[index / (4u * BLOCKS)][index / BLOCKS % 4u][index % BLOCKS] = TileVector((*tile)[row][0]);
      }
    }
    workgroupBarrier();
    for (var row = 0u; row < 4u; row++) {
      let index = (at.local.z * 4u + row) * GROUP_X * GROUP_Y + square;
      if (at.local.z < half) {
        (*tile)[row][0] += vec4f(tiles[index / (4u * BLOCKS)][index / BLOCKS % 4u][index % BLOCKS]);
      }
    }
    workgroupBarrier();
  }
}

fn add_bias(at: Origin, tile: ptr<function, Tile>) {
  for (var j = 0u; j < TILE_N; j++) {
    var four = vec4f();
    for (var e = 0u; e < 4u; e++) {
      four[e] = bias[params.column0 + min(column_of(at, j) + e, params.n - 1u)];
    }
    for (var i = 0u; i < TILE_M; i++) {
      (*tile)[i][j] += four;
    }
  }
}

fn store(at: Origin, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      let column = column_of(at, j);
      if (row_of(at, i) < params.m && column < params.n && at.local.z == 0u) {
        store_vector(row_of(at, i) * params.c_row + params.column0 + column, params.n - column, (*tile)[i][j]);
      }
    }
  }
}
