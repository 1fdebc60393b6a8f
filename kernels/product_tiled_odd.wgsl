// The product of product_tiled.wgsl where rows of c are not whole vectors of four: it is written element by element.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl. Threads: see lib/product_tiled.
// Range: f32 throughout. Without slices it is summed in order of k, with the bits of product.wgsl.
// Limits: m, n, k below 2^31.

#import lib/product_sums
#import lib/product_tiled

@group(0) @binding(2) var<storage, read_write> c: array<f32>;

// Adds to or writes the elements of c from `index` on: four, or those that are left in the row.
fn store_vector(index: u32, left_in_row: u32, value: vec4f) {
  for (var e = 0u; e < min(4u, left_in_row); e++) {
    var sum = value[e];
    if (params.accumulate != 0u) {
      sum += c[index + e];
    }
    c[index + e] = sum;
  }
}
