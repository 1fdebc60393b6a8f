// The dropout mask of one matrix of a product. It is recomputed from the seed of a text, the salt and the index of an
// element within its text, and so is the same in every kernel.

#import lib/product_params
#import lib/random_bits

// A row of a dropped matrix: the seed of its text, and the index of its first element within the text.
struct DroppedRow {
  text_seed: vec2u,
  first: u32,
}

fn dropped_row(row: u32, width: u32) -> DroppedRow {
  let text = (params.row0 + row) / params.text_rows;
  let row_in_text = params.row0 + row - text * params.text_rows;
  return DroppedRow(seed[text], row_in_text * width);
}

// The factor of an element: 0 or keep_scale.
fn mask_factor(row: DroppedRow, column: u32) -> f32 {
  return select(0.0, params.keep_scale, random_bits(row.text_seed, params.salt, row.first + column) < params.keep_threshold);
}
