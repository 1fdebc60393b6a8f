// The products that make the scores of a tile, for attention_subgroup.wgsl without rows of a table. tile_products_rows.wgsl takes the
// place of this part where there are such rows.

// Dot products of the rows and columns of a tile.
fn products(left: Input, left_rows: Rows, first: u32, right: Input, right_rows: Rows, other: u32, related: Related, lane: u32) -> Tile {
  return dots(left, left_rows, first, right, right_rows, other, lane);
}

// There are no rows to which weights belong.
fn add_weighted_related(related: Related, lane: u32, weights: ptr<function, Tile>, sums: ptr<function, Sums>) {}
