// y[i] = sum_j p[i, j] v[j],  p[i, j] = exp(scale * q[i] . k[j] - lse[i]),  for each text and head
//
// The softmax is computed online (Milakov and Gimelshein 2018), so that a time x time matrix is never stored. The
// forward pass keeps the log-sum-exp of each row, from which the gradients recompute p (Dao et al. 2022, algorithm 4):
//   dv[j] = sum_i p[i, j] dy[i];  ds[i, j] = p[i, j] (dy[i] . v[j] - delta[i]);  delta[i] = dy[i] . y[i]
//   dq[i] = scale * sum_j ds[i, j] k[j];  dk[j] = scale * sum_i ds[i, j] q[i]
// Dropout acts on p after the softmax: y and dv use the dropped p, and ds applies the same factors to dy . v.
//
// Shapes: q, y [batch, time, heads * HEAD]; k, v [batch, time, kv_heads * HEAD]; mask [batch, time];
// lse [batch, heads, time]; statistics [batch, heads, time, 4]. q, k and v have row strides and offsets, so that they can
// be parts of a fused q|k|v projection. A key whose mask is 0 is hidden. Head h reads key-value head
// h * kv_heads / heads. statistics holds the bits of (lse, delta, seed), so that no gradient binds more than eight
// buffers.
// Threads: one invocation for each query (`forward`, `temp_statistics`, `grad_q`) or key (other entries) of each head.
// The invocations of a workgroup share a text and a head, and so loop over the same rows.
// Range: a hidden key has the score -3e38, and so the weight 0; if all keys of a query are hidden, their weights are
// equal.
// Limits: HEAD up to 256.

#import lib/attention

const HEAD: u32 = 8u;
const GROUP: u32 = 32u;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<f32>;
@group(0) @binding(9) var<storage, read_write> dq: array<f32>;
@group(0) @binding(10) var<storage, read_write> dk: array<f32>;
@group(0) @binding(11) var<storage, read_write> dv: array<f32>;

alias Head = array<f32, HEAD>;

// The text (within this launch), head and time that an invocation computes.
struct HeadRow {
  batch: u32,
  head: u32,
  time: u32,
}

fn head_row(heads: u32, group: vec3u, groups: vec3u, local: vec3u) -> HeadRow {
  let blocks = (params.time + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  let row = index / blocks;
  return HeadRow(row / heads, row % heads, (index % blocks) * GROUP + local.x);
}

fn q_index(batch: u32, head: u32, time: u32) -> u32 {
  return (batch * params.time + time) * params.q_row + params.q_offset + head * HEAD;
}

fn k_index(batch: u32, head: u32, time: u32) -> u32 {
  return (batch * params.time + time) * params.k_row + params.k_offset + head * HEAD;
}

fn v_index(batch: u32, head: u32, time: u32) -> u32 {
  return (batch * params.time + time) * params.v_row + params.v_offset + head * HEAD;
}

fn y_index(batch: u32, head: u32, time: u32) -> u32 {
  return ((batch * params.time + time) * params.heads + head) * HEAD;
}

// The factor by which dropout multiplies a weight; 1 without dropout.
fn dropout_factor(hash: vec2u, row: u32, key: u32) -> f32 {
  if (params.dropping == 0u) {
    return 1.0;
  }
  return mask_factor(hash, row, key);
}

fn hidden(batch: u32, key: u32) -> bool {
  return mask[batch * params.time + key] == 0;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let q_start = q_index(at.batch, at.head, at.time);
  var query: Head;
  var sum_v: Head;
  for (var c = 0u; c < HEAD; c++) {
    query[c] = q[q_start + c];
  }
  var largest = -3.4e38;
  var total = 0.0;
  let hash = text_hash(text_seed(at.batch));
  let end = select(params.time, at.time + 1u, params.causal != 0u);
  for (var j = 0u; j < end; j++) {
    let key = k_index(at.batch, kv_head, j);
    let value = v_index(at.batch, kv_head, j);
    var score = 0.0;
    for (var c = 0u; c < HEAD; c++) {
      score = fma(query[c], k[key + c], score);
    }
    score = select(score * params.scale, HIDDEN_SCORE, hidden(at.batch, j));
    let new_largest = max(largest, score);
    let shrink = exp(largest - new_largest);
    let weight = exp(score - new_largest);
    let dropped = weight * dropout_factor(hash, at.head * params.time + at.time, j);
    total = total * shrink + weight;
    for (var c = 0u; c < HEAD; c++) {
      sum_v[c] = fma(dropped, v[value + c], sum_v[c] * shrink);
    }
    largest = new_largest;
  }
  let out = y_index(at.batch, at.head, at.time);
  for (var c = 0u; c < HEAD; c++) {
    y[out + c] = sum_v[c] / total;
  }
  lse[row_index(at.batch, at.head, at.time)] = largest + log(total);
}

@compute @workgroup_size(GROUP)
fn temp_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let y_start = y_index(at.batch, at.head, at.time);
  var sum = 0.0;
  for (var c = 0u; c < HEAD; c++) {
    sum = fma(dy[y_start + c], y[y_start + c], sum);
  }
  let row = row_index(at.batch, at.head, at.time);
  statistics[row] = vec4u(bitcast<u32>(lse[row]), bitcast<u32>(sum), text_seed(at.batch));
}

@compute @workgroup_size(GROUP)
fn grad_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let q_start = q_index(at.batch, at.head, at.time);
  let out = y_index(at.batch, at.head, at.time);
  let row_statistics = statistics[row_index(at.batch, at.head, at.time)];
  let row_lse = bitcast<f32>(row_statistics.x);
  let delta = bitcast<f32>(row_statistics.y);
  var query: Head;
  var gradient: Head;
  var sum: Head;
  for (var c = 0u; c < HEAD; c++) {
    query[c] = q[q_start + c];
    gradient[c] = dy[out + c];
  }
  let hash = text_hash(row_statistics.zw);
  let end = select(params.time, at.time + 1u, params.causal != 0u);
  for (var j = 0u; j < end; j++) {
    let key = k_index(at.batch, kv_head, j);
    let value = v_index(at.batch, kv_head, j);
    var score = 0.0;
    var dp = 0.0;
    for (var c = 0u; c < HEAD; c++) {
      score = fma(query[c], k[key + c], score);
      dp = fma(gradient[c], v[value + c], dp);
    }
    score = select(score * params.scale, HIDDEN_SCORE, hidden(at.batch, j));
    let ds = exp(score - row_lse) * (dp * dropout_factor(hash, at.head * params.time + at.time, j) - delta);
    for (var c = 0u; c < HEAD; c++) {
      sum[c] = fma(ds, k[key + c], sum[c]);
    }
  }
  for (var c = 0u; c < HEAD; c++) {
    dq[q_start + c] = sum[c] * params.scale;
  }
}

// The sums over queries for one key.
struct KeySums {
  dk: Head,
  dv: Head,
}

fn key_sums(at: HeadRow) -> KeySums {
  let key_row = k_index(at.batch, at.head, at.time);
  let value_row = v_index(at.batch, at.head, at.time);
  var key: Head;
  var value: Head;
  var sums: KeySums;
  for (var c = 0u; c < HEAD; c++) {
    key[c] = k[key_row + c];
    value[c] = v[value_row + c];
  }
  let is_hidden = hidden(at.batch, at.time);
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    for (var i = select(0u, at.time, params.causal != 0u); i < params.time; i++) {
      let query = q_index(at.batch, head, i);
      let out = y_index(at.batch, head, i);
      let row_statistics = statistics[row_index(at.batch, head, i)];
      var score = 0.0;
      var dp = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = fma(key[c], q[query + c], score);
        dp = fma(value[c], dy[out + c], dp);
      }
      score = select(score * params.scale, HIDDEN_SCORE, is_hidden);
      let p = exp(score - bitcast<f32>(row_statistics.x));
      let keep = dropout_factor(text_hash(row_statistics.zw), head * params.time + i, at.time);
      let dropped = p * keep;
      let ds = p * (dp * keep - bitcast<f32>(row_statistics.y));
      for (var c = 0u; c < HEAD; c++) {
        sums.dk[c] = fma(ds, q[query + c], sums.dk[c]);
        sums.dv[c] = fma(dropped, dy[out + c], sums.dv[c]);
      }
    }
  }
  return sums;
}

@compute @workgroup_size(GROUP)
fn grad_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.time);
  let value_row = v_index(at.batch, at.head, at.time);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
    dv[value_row + c] = sums.dv[c];
  }
}

// As grad_k_v, but dk and dv are parts of one fused q|k|v gradient, which WebGPU lets us bind for writing only once.
@compute @workgroup_size(GROUP)
fn grad_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.time);
  let value_row = v_index(at.batch, at.head, at.time);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
    dk[value_row + c] = sums.dv[c];
  }
}

@compute @workgroup_size(GROUP)
fn grad_k(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.time);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
  }
}

// The gradient of v alone reads neither v nor y, so that they need not be kept.
@compute @workgroup_size(GROUP)
fn grad_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, group, groups, local);
  if (at.batch >= params.batch || at.time >= params.time) {
    return;
  }
  let key_row = k_index(at.batch, at.head, at.time);
  let value_row = v_index(at.batch, at.head, at.time);
  var key: Head;
  var sum: Head;
  for (var c = 0u; c < HEAD; c++) {
    key[c] = k[key_row + c];
  }
  let is_hidden = hidden(at.batch, at.time);
  let hash = text_hash(text_seed(at.batch));
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    for (var i = select(0u, at.time, params.causal != 0u); i < params.time; i++) {
      let query = q_index(at.batch, head, i);
      let out = y_index(at.batch, head, i);
      var score = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = fma(key[c], q[query + c], score);
      }
      score = select(score * params.scale, HIDDEN_SCORE, is_hidden);
      let dropped = exp(score - lse[row_index(at.batch, head, i)]) * dropout_factor(hash, head * params.time + i, at.time);
      for (var c = 0u; c < HEAD; c++) {
        sum[c] = fma(dropped, dy[out + c], sum[c]);
      }
    }
  }
  for (var c = 0u; c < HEAD; c++) {
    dv[value_row + c] = sum[c];
  }
}
