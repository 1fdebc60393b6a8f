// words[i] = (x[2 i], x[2 i + 1]) in f16 or bf16, for activations that are kept for gradients;  `unpack` is the inverse
//
// Shapes: x [count], words [(count + 1) / 2]. Threads: each invocation converts PER_INVOCATION words, a workgroup's
// width apart. Range: bf16 rounds to nearest, ties to even. f16 rounds like the adapter's pack2x16float; magnitudes
// above 65504 become 65504. Limits: count below 2^31.

#import lib/group

const PER_INVOCATION: u32 = 4u;
const FORMAT: u32 = 1u;
const F16: u32 = 1u;
const LARGEST: f32 = 65504.0;

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

fn bf16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

@compute @workgroup_size(GROUP)
fn pack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (2u * i < params.count) {
      let low = x[2u * i];
      var high = 0.0;
      if (2u * i + 1u < params.count) {
        high = x[2u * i + 1u];
      }
      if (FORMAT == F16) {
        words[i] = pack2x16float(clamp(vec2f(low, high), vec2f(-LARGEST), vec2f(LARGEST)));
      } else {
        words[i] = bf16_bits(low) | (bf16_bits(high) << 16u);
      }
    }
  }
}

@compute @workgroup_size(GROUP)
fn unpack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (2u * i < params.count) {
      let word = words[i];
      var pair = vec2f(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
      if (FORMAT == F16) {
        pair = unpack2x16float(word);
      }
      x[2u * i] = pair.x;
      if (2u * i + 1u < params.count) {
        x[2u * i + 1u] = pair.y;
      }
    }
  }
}
