// What the kernels of attention share: formulas and shapes are those of attention.wgsl. The kernel declares q, k, v, y, dy and
// the gradients, at the bindings that are left, and what it computes at once: Element is f32 or vec4f, Masks i32 or vec4i,
// Places u32 or vec4u; `relatives` reads entries of the table at Places.

#import lib/relative
#import lib/soft_cap

// Whether `before` limits the keys that a query sees, whether scores are capped, and whether the mask holds segments.
const WINDOWED: u32 = 0u;
const CAPPED: u32 = 0u;
const SEGMENTED: u32 = 0u;
// What scores get by the difference of positions: nothing, a number of a table, or products with two rows of a table.
const RELATIVE: u32 = 0u;
const NUMBERS: u32 = 1u;
const TABLE_ROWS: u32 = 2u;
// Whether positions are those of a grid of several rows.
const GRID: u32 = 0u;

// The score of a key that is hidden by the mask.
const HIDDEN_SCORE: f32 = -3.0e38;

struct Params {
  batch: u32,
  batch0: u32,
  time: u32,
  keys: u32,
  heads: u32,
  kv_heads: u32,
  q_row: u32,
  q_offset: u32,
  k_row: u32,
  k_offset: u32,
  v_row: u32,
  v_offset: u32,
  before: u32,
  after: u32,
  scale: f32,
  cap: f32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  dropping: u32,
  columns: u32,
  center: u32,
  accumulate: u32,
}

@group(0) @binding(3) var<storage, read> mask: array<i32>;
@group(0) @binding(4) var<storage, read> seed: array<u32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(8) var<storage, read_write> statistics: array<vec4u>;
@group(0) @binding(12) var<uniform> params: Params;

fn row_index(batch: u32, head: u32, query: u32) -> u32 {
  return (batch * params.heads + head) * params.time + query;
}

// The keys that a query sees are [first_key, end_of_keys); the queries that see a key are [first_query, end_of_queries).
fn first_key(query: u32) -> u32 {
  return select(0u, query - min(query, params.before), WINDOWED != 0u);
}

fn end_of_keys(query: u32) -> u32 {
  return min(params.keys, query + params.after + 1u);
}

fn first_query(key: u32) -> u32 {
  return key - min(key, params.after);
}

fn end_of_queries(key: u32) -> u32 {
  return select(params.time, min(params.time, key + params.before + 1u), WINDOWED != 0u);
}

// What the mask holds for a key, and for a query if it holds segments.
fn mask_of_key(batch: u32, key: u32) -> i32 {
  return mask[batch * params.keys + min(key, params.keys - 1u)];
}

fn mask_of_query(batch: u32, query: u32) -> i32 {
  if (SEGMENTED == 0u) {
    return 0;
  }
  return mask[batch * params.keys + min(query, params.keys - 1u)];
}

// Scores, from dot products.
fn score_of(dots: Element) -> Element {
  if (CAPPED == 0u) {
    return dots * params.scale;
  }
  return soft_cap(dots * params.scale, params.cap);
}

// What the difference of two positions follows from: entry place(i) - place(j) + center of the table belongs to positions i and j.
fn place_of(positions: Places) -> Places {
  if (GRID == 0u) {
    return positions;
  }
  return positions + positions / params.columns * (params.columns - 1u);
}

// Where the table has its entry for a head and two places: a number, or the first of a row's.
fn table_index(head: u32, query_places: Places, key_places: Places) -> Places {
  let entries = query_places + params.center - key_places;
  if (RELATIVE == TABLE_ROWS) {
    return (entries * 2u * params.heads + head) * HEAD;
  }
  return entries * params.heads + head;
}

// Scores with the table's numbers for them.
fn biased(scores: Element, indices: Places) -> Element {
  if (RELATIVE != NUMBERS) {
    return scores;
  }
  return scores + relatives(indices);
}

// The gradients of scores without the cap, from those of scores with it.
fn before_cap(gradients: Element, scores: Element) -> Element {
  if (CAPPED == 0u) {
    return gradients;
  }
  let ratio = scores / params.cap;
  return gradients * fma(-ratio, ratio, Element(1.0));
}

// Scores of keys that the mask may hide.
fn masked(scores: Element, query_masks: Masks, key_masks: Masks) -> Element {
  if (SEGMENTED == 0u) {
    return select(scores, Element(HIDDEN_SCORE), key_masks == Masks());
  }
  return select(scores, Element(HIDDEN_SCORE), key_masks != query_masks);
}

// The two seed words of a text. They do not depend on the batch that the text is in.
fn text_seed(batch: u32) -> vec2u {
  let text = params.batch0 + batch;
  return vec2u(seed[2u * text], seed[2u * text + 1u]);
}

// The first component of pcg3d (Jarzynski and Olano 2020), in two parts: `text_hash` is the same for all elements of a
// text, `element_bits` is the rest. An element is an index into the weights [heads, time, keys] of its text.
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
  return select(0.0, params.keep_scale, element_bits(hash, row * params.keys + key) < params.keep_threshold);
}
