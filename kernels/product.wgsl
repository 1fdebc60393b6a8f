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

#import lib/product_params
#import lib/product_dropout
#import lib/product_weight
#import lib/product_tile
#import lib/product_entries

const TILE_M: u32 = 8u;
const TILE_N: u32 = 8u;
const GROUP_X: u32 = 8u;
const GROUP_Y: u32 = 4u;
const SLICES: u32 = 1u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

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

fn column_of(at: Origin, j: u32) -> u32 {
  return at.column + j;
}

fn b_word(index: u32) -> u32 {
  return b[index];
}

fn clamped_rows(at: Origin) -> array<u32, TILE_M> {
  var rows: array<u32, TILE_M>;
  for (var i = 0u; i < TILE_M; i++) {
    rows[i] = clamped_row(at.row + i);
  }
  return rows;
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

fn drop_tile(at: Origin, tile: ptr<function, Tile>) {
  let row = clamped_rows(at);
  for (var i = 0u; i < TILE_M; i++) {
    let dropped = dropped_row(row[i], params.c_row);
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= mask_factor(dropped, params.column0 + at.column + j);
    }
  }
}

// The code has one store, to which two loops come back: LLVM, by which software adapters compile, takes ten times as long
// for the 64 stores of unrolled loops. The next element is moved to the tile's corner each time, since an index that is
// not constant would keep the tile out of registers.
fn store(at: Origin, tile: ptr<function, Tile>) {
  for (var row = at.row; row < min(at.row + TILE_M, params.m); row++) {
    for (var column = at.column; column < min(at.column + TILE_N, params.n); column++) {
      let index = row * params.c_row + params.column0 + column;
      if (params.accumulate != 0u) {
        c[index] += (*tile)[0][0];
      } else {
        c[index] = (*tile)[0][0];
      }
      for (var j = 1u; j < TILE_N; j++) {
        (*tile)[0][j - 1u] = (*tile)[0][j];
      }
    }
    for (var i = 1u; i < TILE_M; i++) {
      (*tile)[i - 1u] = (*tile)[i];
    }
  }
}
