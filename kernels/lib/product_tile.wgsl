// The tile of c [TILE_M, TILE_N] that an invocation keeps in registers, and what is added to it beside the product. The
// kernel declares Origin, with the first row of the invocation, and column_of, which gives its j-th column.

#import lib/product_params

@group(0) @binding(4) var<storage, read> z: array<f32>;
@group(0) @binding(5) var<storage, read> l: array<f32>;

alias Tile = array<array<f32, TILE_N>, TILE_M>;
alias Columns = array<u32, TILE_N>;

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

fn add_bias(at: Origin, tile: ptr<function, Tile>) {
  let column = clamped_columns(at);
  for (var j = 0u; j < TILE_N; j++) {
    let value = bias[params.column0 + column[j]];
    for (var i = 0u; i < TILE_M; i++) {
      (*tile)[i][j] += value;
    }
  }
}
