// y[b, i] = sum_j p[j] v[owners[b, j], j],  p = softmax over j <= starts[b] + i of scale * q[b, i] . k[owners[b, j], j]
//
// Attention of new tokens to the tokens of their text in the cache, for each head: causal, from position starts[b] + i - before
// on, or, unless `causal`, to all. Caps and the table `relative` [entries, heads] are those of attention.wgsl. Head h reads
// key-value head h * kv_heads / heads. The softmax is computed online (Milakov and Gimelshein 2018) over tiles of GROUP keys.
// Shapes: q [batch, time, row], with the heads in its first columns; k, v [rows, ring, kv_heads * HEAD], where position p
// is in p % ring; owners [batch, capacity], the cache row that holds each position of each text, -1 for one that is hidden;
// starts [batch], the position of the first query in each text; y [batch, time, heads * HEAD]. A launch binds q and y for the
// texts [batch0, batch0 + batch).
// Threads: a workgroup for each query and head. Each lane computes the score of one key of a tile, then sums the
// columns lane, lane + GROUP, ... of the values. Range: scores must not overflow f32. Limits: HEAD up to 256; only
// positions below `capacity` count, and a query must not read positions that later ones replaced in the ring.

#import lib/relative
#import lib/soft_cap

const RELATIVE: u32 = 0u;
const HEAD: u32 = 8u;
const GROUP: u32 = 64u;
// Columns of a value that a lane sums: HEAD / GROUP, rounded up.
const PER_INVOCATION: u32 = 1u;

// The score of a key that is hidden.
const HIDDEN_SCORE: f32 = -3.0e38;

struct Params {
  batch: u32,
  batch0: u32,
  time: u32,
  capacity: u32,
  ring: u32,
  heads: u32,
  kv_heads: u32,
  row: u32,
  causal: u32,
  before: u32,
  center: u32,
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> owners: array<i32>;
@group(0) @binding(4) var<storage, read> starts: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

alias Element = f32;

var<workgroup> query: array<f32, HEAD>;
var<workgroup> scores: array<f32, GROUP>;
var<workgroup> offsets: array<u32, GROUP>;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.y * groups.x + group.x;
  if (index >= params.batch * params.time * params.heads) {
    return;
  }
  let head = index % params.heads;
  let time = index / params.heads % params.time;
  let batch = index / params.heads / params.time;
  let kv_head = head * params.kv_heads / params.heads;
  let q_start = (batch * params.time + time) * params.row + head * HEAD;
  for (var c = local.x; c < HEAD; c += GROUP) {
    query[c] = q[q_start + c];
  }
  var sums: array<f32, PER_INVOCATION>;
  var largest = -3.4e38;
  var total = 0.0;
  let text = params.batch0 + batch;
  let query_position = u32(starts[text]) + time;
  let end = select(params.capacity, min(query_position + 1u, params.capacity), params.causal != 0u);
  let first = select(0u, query_position - min(query_position, params.before), params.causal != 0u);
  for (var tile = first; tile < end; tile += GROUP) {
    let count = min(GROUP, end - tile);
    workgroupBarrier();
    if (local.x < count) {
      let position = tile + local.x;
      let owner = owners[text * params.capacity + position];
      let cache_row = u32(max(owner, 0)) * params.ring + position % params.ring;
      let offset = (cache_row * params.kv_heads + kv_head) * HEAD;
      var score = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = fma(query[c], k[offset + c], score);
      }
      score *= params.scale;
      if (params.cap > 0.0) {
        score = soft_cap(score, params.cap);
      }
      if (RELATIVE != 0u) {
        score += relative_at((query_position + params.center - position) * params.heads + head);
      }
      scores[local.x] = select(score, HIDDEN_SCORE, owner < 0);
      offsets[local.x] = offset;
    }
    workgroupBarrier();
    var new_largest = largest;
    for (var j = 0u; j < count; j++) {
      new_largest = max(new_largest, scores[j]);
    }
    let shrink = exp(largest - new_largest);
    total *= shrink;
    for (var o = 0u; o < PER_INVOCATION; o++) {
      sums[o] *= shrink;
    }
    for (var j = 0u; j < count; j++) {
      let weight = exp(scores[j] - new_largest);
      total += weight;
      for (var o = 0u; o < PER_INVOCATION; o++) {
        let c = o * GROUP + local.x;
        if (c < HEAD) {
          sums[o] = fma(weight, v[offsets[j] + c], sums[o]);
        }
      }
    }
    largest = new_largest;
  }
  let out = ((batch * params.time + time) * params.heads + head) * HEAD;
  for (var o = 0u; o < PER_INVOCATION; o++) {
    let c = o * GROUP + local.x;
    if (c < HEAD) {
      y[out + c] = sums[o] / total;
    }
  }
}
