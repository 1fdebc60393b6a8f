// c for product_tiled where its rows are whole vectors of four.

#import lib/product_params

@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;

// Adds to or writes the four elements of c from `index` on.
fn store_vector(index: u32, left_in_row: u32, value: vec4f) {
  var sum = value;
  if (params.accumulate != 0u) {
    sum += c[index / 4u];
  }
  c[index / 4u] = sum;
}
