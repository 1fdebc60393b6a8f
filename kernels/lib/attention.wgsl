// What the kernels of attention share: formulas and shapes are those of attention.wgsl. The kernel declares q, k, v, y, dy and
// the gradients, at the bindings that are left.

// The score of a key whose mask is 0.
const HIDDEN_SCORE: f32 = -3.0e38;

struct Params {
  batch: u32,
  batch0: u32,
  time: u32,
  heads: u32,
  kv_heads: u32,
  q_row: u32,
  q_offset: u32,
  k_row: u32,
  k_offset: u32,
  v_row: u32,
  v_offset: u32,
  causal: u32,
  scale: f32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  dropping: u32,
}

@group(0) @binding(3) var<storage, read> mask: array<i32>;
@group(0) @binding(4) var<storage, read> seed: array<u32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(8) var<storage, read_write> statistics: array<vec4u>;
@group(0) @binding(12) var<uniform> params: Params;

fn row_index(batch: u32, head: u32, time: u32) -> u32 {
  return (batch * params.heads + head) * params.time + time;
}

// The two seed words of a text. They do not depend on the batch that the text is in.
fn text_seed(batch: u32) -> vec2u {
  let text = params.batch0 + batch;
  return vec2u(seed[2u * text], seed[2u * text + 1u]);
}

// The first component of pcg3d (Jarzynski and Olano 2020), in two parts: `text_hash` is the same for all elements of a
// text, `element_bits` is the rest. An element is an index into the weights [heads, time, time] of its text.
fn text_hash(seeds: vec2u) -> vec2u {
  return vec2u(params.salt ^ seeds.y, seeds.x) * 1664525u + 1013904223u;
}

fn element_bits(hash: vec2u, element: u32) -> u32 {
  var r = vec3u(element * 1664525u + 1013904223u, hash);
  r.x += r.y * r.z;
  r.y += r.z * r.x;
  r.z += r.x * r.y;
  r ^= r >> vec3u(16u);
  return r.x + r.y * r.z;
}

// The factor by which dropout multiplies the weight of a key in a row of [heads, time].
fn mask_factor(hash: vec2u, row: u32, key: u32) -> f32 {
  return select(0.0, params.keep_scale, element_bits(hash, row * params.time + key) < params.keep_threshold);
}
