// Four neighbouring elements of a stored row of b, converted to f32. Rows, starts and widths are multiples of four
// elements, so that the four are in one word or one aligned vector and share a scale. The kernel declares b as array<vec4u>.

#import lib/product_weight

fn b_word(index: u32) -> u32 {
  return b[index / 4u][index % 4u];
}

// `stride` is the distance in elements between stored rows.
fn b_vector(row: u32, first_element: u32, stride: u32) -> vec4f {
  let index_in_row = params.b_start + first_element;
  if (FORMAT < INT8) {
    let index = index_in_row + row * stride;
    if (FORMAT == F32) {
      return bitcast<vec4f>(b[index / 4u]);
    }
    // Written so that a compiler sees that the two words lie in one half of a vector, and reads them at once.
    let first = 2u * (index / 4u % 2u);
    let pairs = vec2u(b[index / 8u][first], b[index / 8u][first + 1u]);
    if (FORMAT == F16) {
      return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
    }
    return bitcast<vec4f>(vec4u(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
  }
  let row_start = row * params.b_words;
  let scale = scale_of(row_start, index_in_row / BLOCK);
  if (FORMAT == INT8) {
    return vec4f(unpack4xI8(b_word(row_start + (index_in_row >> 2u)))) * scale;
  }
  let word = b_word(row_start + (index_in_row >> 3u));
  let codes = (vec4u(word >> (4u * (index_in_row & 7u))) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u);
  return vec4f(NF4[codes.x], NF4[codes.y], NF4[codes.z], NF4[codes.w]) * scale;
}
