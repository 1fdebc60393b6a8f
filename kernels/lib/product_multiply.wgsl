// The factor of a product.

fn multiply(factor: f32, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] *= factor;
    }
  }
}
