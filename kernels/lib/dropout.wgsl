// Dropout of elements. A kernel that imports this part binds the seeds of the texts.

#import lib/element
#import lib/random_bits

struct DropoutParams {
  count: u32,
  first: u32,
  per_text: u32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  accumulate: u32,
}

// The i-th element of what a launch of dropout binds, after its dropout.
fn dropped(value: Element, i: u32, dropout: DropoutParams) -> Element {
  let first = dropout.first + i * WIDTH;
  let text = first / dropout.per_text;
  let text_seed = vec2u(seed[2u * text], seed[2u * text + 1u]);
  var scaled = value * dropout.keep_scale;
  for (var e = 0u; e < WIDTH; e++) {
    if (random_bits(text_seed, dropout.salt, first + e - text * dropout.per_text) >= dropout.keep_threshold) {
      set_number(&scaled, e, 0.0);
    }
  }
  return scaled;
}
