// words[i] = (x[2 i], x[2 i + 1]) in f16 or bf16, for activations that are kept for gradients;  `unpack` is the inverse
//
// Shapes: x [count], words [(count + 1) / 2]. Threads: each invocation converts PER_INVOCATION words, or vectors of words,
// a workgroup's width apart. Range: bf16 rounds to nearest, ties to even. f16 rounds like the adapter's pack2x16float;
// magnitudes above 65504 become 65504. Limits: count below 2^31.

#import lib/half_numbers

const PER_INVOCATION: u32 = 4u;
const FORMAT: u32 = 1u;
const LARGEST: f32 = 65504.0;

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> words: array<Index>;
@group(0) @binding(2) var<uniform> params: Params;

fn bf16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn narrowed(pair: vec2f) -> u32 {
  if (FORMAT == F16) {
    return pack2x16float(clamp(pair, vec2f(-LARGEST), vec2f(LARGEST)));
  }
  return bf16_bits(pair.x) | (bf16_bits(pair.y) << 16u);
}

@compute @workgroup_size(GROUP)
fn pack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
  for (var r = 0u; r < PER_INVOCATION; r++) {
    let i = first + r * GROUP;
    if (2u * i * WIDTH < params.count) {
      let low = x[2u * i];
      var high = Element();
      if ((2u * i + 1u) * WIDTH < params.count) {
        high = x[2u * i + 1u];
      }
      var narrow = Index();
      for (var e = 0u; e < WIDTH; e++) {
        let n = 2u * e;
        let left = number(select(low, high, n >= WIDTH), n % WIDTH);
        let right = number(select(low, high, n + 1u >= WIDTH), (n + 1u) % WIDTH);
        set_word(&narrow, e, narrowed(vec2f(left, right)));
      }
      words[i] = narrow;
    }
  }
}

@compute @workgroup_size(GROUP)
fn unpack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
  for (var r = 0u; r < PER_INVOCATION; r++) {
    let i = first + r * GROUP;
    if (2u * i * WIDTH < params.count) {
      x[2u * i] = widened(words[i], 0u);
      if ((2u * i + 1u) * WIDTH < params.count) {
        x[2u * i + 1u] = widened(words[i], 1u);
      }
    }
  }
}
