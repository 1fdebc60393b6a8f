// What the kernels of norms share.

#import lib/chunk_sums
#import lib/group_sum

struct Params {
  rows: u32,
  columns: u32,
  eps: f32,
  accumulate: u32,
  chunk0: u32,
}

fn store_gradient(index: u32, gradient: f32) {
  if (params.accumulate != 0u) {
    dx[index] += gradient;
  } else {
    dx[index] = gradient;
  }
}
