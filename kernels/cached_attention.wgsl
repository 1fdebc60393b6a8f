// y[b, i] = sum_j p[j] v[owners[b, j], j],  p = softmax over j <= starts[b] + i of scale * q[b, i] . k[owners[b, j], j]
//
// The newest tokens' queries over everything that a cache holds of their text, per head (grouped: head h reads key-value
// head h * kv_heads / heads). One online softmax (Milakov and Gimelshein 2018) over tiles of GROUP keys.
// Shapes: q [batch, time, row], its heads in the first columns; k, v [rows, capacity, kv_heads * HEAD]; owners
// [batch, capacity] names the cache row that holds each position of a text; starts [batch] is the position of the first
// query; y [batch, time, heads * HEAD]. q and y are bound for texts [batch0, batch0 + batch).
// Threads: a workgroup for each query and head. A lane scores one key of a tile, then adds up columns lane, lane + GROUP, ...
// Range: as attention. Limits: HEAD up to 256; positions below `capacity`.

const HEAD: u32 = 8u;
const GROUP: u32 = 64u;
// Columns that a lane adds up: HEAD / GROUP, rounded up.
const PER_INVOCATION: u32 = 1u;

struct Params {
  batch: u32,
  batch0: u32,
  time: u32,
  capacity: u32,
  heads: u32,
  kv_heads: u32,
  row: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> owners: array<i32>;
@group(0) @binding(4) var<storage, read> starts: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> query: array<f32, HEAD>;
var<workgroup> scores: array<f32, GROUP>;
var<workgroup> places: array<u32, GROUP>;

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
  let own = (batch * params.time + time) * params.row + head * HEAD;
  for (var c = local.x; c < HEAD; c += GROUP) {
    query[c] = q[own + c];
  }
  var sums: array<f32, PER_INVOCATION>;
  var largest = -3.4e38;
  var total = 0.0;
  let text = params.batch0 + batch;
  let end = min(u32(starts[text]) + time + 1u, params.capacity);
  for (var tile = 0u; tile < end; tile += GROUP) {
    let count = min(GROUP, end - tile);
    workgroupBarrier();
    if (local.x < count) {
      let position = tile + local.x;
      let owner = u32(owners[text * params.capacity + position]);
      let place = ((owner * params.capacity + position) * params.kv_heads + kv_head) * HEAD;
      var score = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = fma(query[c], k[place + c], score);
      }
      scores[local.x] = score * params.scale;
      places[local.x] = place;
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
          sums[o] = fma(weight, v[places[j] + c], sums[o]);
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
