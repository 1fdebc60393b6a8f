// Numbers of 16 bits, two in a word. A kernel that imports it declares FORMAT: F16, or else bf16.

#import lib/element

const F16: u32 = 1u;

// The numbers of one of the two elements that have these words.
fn widened(words: Index, half: u32) -> Element {
  var numbers = Element();
  for (var e = 0u; e < WIDTH; e++) {
    let i = half * WIDTH + e;
    let bits = word(words, i / 2u);
    var pair = vec2f(bitcast<f32>(bits << 16u), bitcast<f32>(bits & 0xffff0000u));
    if (FORMAT == F16) {
      pair = unpack2x16float(bits);
    }
    set_number(&numbers, e, pair[i % 2u]);
  }
  return numbers;
}
