// The product of product.wgsl through workgroup memory, for GPUs, where the rows of c are whole vectors of four.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl. Threads: see lib/product_tiled.
// Range: f32 throughout. Without slices it is summed in order of k, with the bits of product.wgsl.
// Limits: m, n, k below 2^31; n, c_row and column0 are multiples of four, and so is the number of elements of c.

#import lib/product_sums
#import lib/product_tiled
#import lib/product_store
