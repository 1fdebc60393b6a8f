// What the kernels of norms share.

#import lib/chunk_sums
#import lib/element
#import lib/group_sum

struct Params {
  rows: u32,
  columns: u32,
  eps: f32,
  accumulate: u32,
  chunk0: u32,
}

fn store_gradient(index: u32, gradient: Element) {
  if (params.accumulate != 0u) {
    dx[index] += gradient;
  } else {
    dx[index] = gradient;
  }
}
