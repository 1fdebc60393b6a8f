// The product of product_tiled.wgsl in 16 bits: elements are rounded to f16 and DEPTH steps are summed in f16. These sums are then
// added in f32.
//
// c[i, j] (+)= factor * sum_k a[i, k] b[k, j]  (+ bias[j])  (+ scale * sum_r z[i, r] l[r, j])
//
// Shapes, strides, formats of b, low-rank term, dropout and Params are those of product.wgsl. Threads: see lib/product_tiled;
// elements are rounded while they are copied to workgroup memory. Range: see lib/product_sums_half.
// Limits: m, n, k below 2^31; n, c_row and column0 are multiples of four, and so is the number of elements of c.

#import lib/product_sums_half
#import lib/product_tiled
#import lib/product_store
