// STEPS elements of a along k at a time, for kernels whose subgroups share what they load. The kernel declares STEPS, 1 or 4,
// and a as array<vec4f>.

#import lib/product_params

// Whether a is contiguous along k and is loaded in vectors. Only with four steps.
const A_ALONG_K: u32 = 0u;

// The elements of the row that begins at `start`; the other components are 0.
fn steps_of_a(start: u32, k: u32) -> vec4f {
  if (A_ALONG_K == 1u) {
    return a[(start + k) / 4u];
  }
  var steps = vec4f();
  for (var step = 0u; step < STEPS; step++) {
    let index = start + (k + step) * params.a_column;
    steps[step] = a[index / 4u][index % 4u];
  }
  return steps;
}
