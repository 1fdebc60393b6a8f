// The product of product.wgsl through workgroup memory, for GPUs, where the rows of c are whole vectors of four.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl. Threads: see lib/product_tiled.
// Range: f32 throughout. Without slices it is summed in order of k, with the bits of product.wgsl.
// Limits: m, n, k below 2^31; n, c_row and column0 are multiples of four, and so is the number of elements of c.

#import lib/product_tiled

@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;

// Adds to or writes the four elements of c from `index` on.
fn store_vector(index: u32, left_in_row: u32, value: vec4f) {
  var sum = value;
  if (params.accumulate != 0u) {
    sum += c[index / 4u];
  }
  c[index / 4u] = sum;
}
