// Params of the product kernels, and the bindings that all of them declare alike. a [m, k] and b [k, n] are read through
// strides, from the elements a_start and b_start on; c [m, n] is written from its column column0 on, in rows of c_row
// elements. A quantised row of b has b_words words, of which the first b_codes hold codes.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_start: u32,
  a_row: u32,
  a_column: u32,
  b_start: u32,
  b_row: u32,
  b_column: u32,
  b_transposed: u32,
  b_words: u32,
  b_codes: u32,
  c_row: u32,
  column0: u32,
  accumulate: u32,
  rank: u32,
  z_row: u32,
  z_column: u32,
  l_row: u32,
  l_column: u32,
  scale: f32,
  factor: f32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  row0: u32,
  text_rows: u32,
}

@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> seed: array<vec2u>;
@group(0) @binding(7) var<uniform> params: Params;
