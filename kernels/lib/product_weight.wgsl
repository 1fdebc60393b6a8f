// Elements of b, a weight in one of the formats of base/packed.ts, converted to f32. The kernel declares b_word, which
// gives a word of b, and the params b_start, b_row, b_column, b_transposed, b_words and b_codes of product_params.wgsl.

// Storage format of b.
const FORMAT: u32 = 0u;
const F32: u32 = 0u;
const F16: u32 = 1u;
const BF16: u32 = 2u;
const INT8: u32 = 3u;
const BLOCK: u32 = 64u;

// NormalFloat4 (QLoRA, Dettmers et al. 2023, appendix E).
const NF4 = array<f32, 16>(
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
  -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
);

// The scale of a block of the quantised row that begins at word `row_start`.
fn scale_of(row_start: u32, block: u32) -> f32 {
  if (FORMAT == INT8) {
    return bitcast<f32>(b_word(row_start + params.b_codes + block));
  }
  let scale = (b_word(row_start + params.b_codes + (block >> 2u)) >> (8u * (block & 3u))) & 255u;
  let smallest = bitcast<f32>(b_word(row_start + params.b_words - 2u));
  let step = bitcast<f32>(b_word(row_start + params.b_words - 1u));
  return smallest + step * f32(scale);
}

// The element b[k, column].
fn b_at(k: u32, column: u32) -> f32 {
  if (FORMAT < INT8) {
    let index = params.b_start + k * params.b_row + column * params.b_column;
    if (FORMAT == F32) {
      return bitcast<f32>(b_word(index));
    }
    let pair = b_word(index >> 1u);
    if (FORMAT == F16) {
      return unpack2x16float(pair)[index & 1u];
    }
    return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (index & 1u) != 0u));
  }
  let is_transposed = params.b_transposed != 0u;
  let row_start = select(k, column, is_transposed) * params.b_words;
  let index_in_row = params.b_start + select(column, k, is_transposed);
  let scale = scale_of(row_start, index_in_row / BLOCK);
  if (FORMAT == INT8) {
    return f32(bitcast<i32>(b_word(row_start + (index_in_row >> 2u)) << (24u - 8u * (index_in_row & 3u))) >> 24u) * scale;
  }
  return NF4[(b_word(row_start + (index_in_row >> 3u)) >> (4u * (index_in_row & 7u))) & 15u] * scale;
}
