// y[i] = sum_j p[i, j] v[j],  p[i, j] = exp(s[i, j] - lse[i]),  s[i, j] = scale * q[i] . k[j],  for each text and head
//
// The softmax is computed online (Milakov and Gimelshein 2018), so that a time x time matrix is never stored. The
// forward pass keeps the log-sum-exp of each row, from which the gradients recompute p (Dao et al. 2022, algorithm 4):
//   dv[j] = sum_i p[i, j] dy[i];  ds[i, j] = p[i, j] (dy[i] . v[j] - delta[i]);  delta[i] = dy[i] . y[i]
//   dq[i] = scale * sum_j ds[i, j] k[j];  dk[j] = scale * sum_i ds[i, j] q[i]
// Dropout acts on p after the softmax: y and dv use the dropped p, and ds applies the same factors to dy . v.
// If CAPPED, s = cap * tanh(scale * q . k / cap), and dq and dk have the factor 1 - (s / cap)^2. RELATIVE attention has a table
// with an entry for each difference of positions (Shaw et al. 2018), those of (0, 0) in the middle. Its NUMBERS, one a head, are
// added to s (Raffel et al. 2020; Liu et al. 2021). Its TABLE_ROWS, a key pk and a query pq, make s = scale * (q[i] . k[j] +
// q[i] . pk + k[j] . pq) (He et al. 2021); dq then also sums ds pk, dk ds pq, dpk scale * ds q and dpq scale * ds k.
//
// Shapes: q, y [batch, time, heads * HEAD]; k, v [batch, keys, kv_heads * HEAD]; mask [batch, keys];
// lse [batch, heads, time]; statistics [batch, heads, time, 4]. q, k and v have row strides and offsets, so that they can
// be parts of a fused q|k|v projection. Query i sees the keys from i - before to i + after. Of these, a key is hidden whose
// mask is 0, or, if SEGMENTED, is not the query's. Head h reads key-value head h * kv_heads / heads. statistics holds the bits
// of (lse, delta, seed), so that no gradient binds more than eight buffers. relative [entries, heads] or [entries, 2, heads * HEAD]; on a grid with `columns` columns, position i is row
// i / columns and column i % columns, and entries are (2 rows - 1) (2 columns - 1), by rows.
// Threads: one invocation for each query (`forward`, `temp_statistics`, `grad_q`) or key (other entries) of each head.
// The invocations of a workgroup share a text and a head, and so loop over the same rows.
// Range: a hidden key has the score -3e38, and so the weight 0; if all keys of a query are hidden, their weights are
// equal, and gradients are right where dy of this query is 0, as for padding.
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

alias Element = f32;
alias Masks = i32;
alias Places = u32;
alias Head = array<f32, HEAD>;

// The text (within this launch), head, and query or key that an invocation computes.
struct HeadRow {
  batch: u32,
  head: u32,
  row: u32,
}

fn head_row(heads: u32, rows: u32, group: vec3u, groups: vec3u, local: vec3u) -> HeadRow {
  let blocks = (rows + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  let row = index / blocks;
  return HeadRow(row / heads, row % heads, (index % blocks) * GROUP + local.x);
}

fn q_index(batch: u32, head: u32, query: u32) -> u32 {
  return (batch * params.time + query) * params.q_row + params.q_offset + head * HEAD;
}

fn k_index(batch: u32, head: u32, key: u32) -> u32 {
  return (batch * params.keys + key) * params.k_row + params.k_offset + head * HEAD;
}

fn v_index(batch: u32, head: u32, key: u32) -> u32 {
  return (batch * params.keys + key) * params.v_row + params.v_offset + head * HEAD;
}

fn y_index(batch: u32, head: u32, query: u32) -> u32 {
  return ((batch * params.time + query) * params.heads + head) * HEAD;
}

fn relatives(index: u32) -> f32 {
  return relative_at(index);
}

// The table's index for a query and a key.
fn pair_index(head: u32, query: u32, key: u32) -> u32 {
  return table_index(head, place_of(query), place_of(key));
}

// sum + factor * an element of the table's rows, if it has rows.
fn add_relative(sum: f32, factor: f32, index: u32) -> f32 {
  if (RELATIVE != TABLE_ROWS) {
    return sum;
  }
  return fma(factor, relative_at(index), sum);
}

// Distance of a query of the table's rows from its key.
fn query_offset() -> u32 {
  return params.heads * HEAD;
}

// The part of a dot product of q and k, and of those with the rows of the table from `index`, that one element gives.
fn add_product(sum: f32, of_query: f32, of_key: f32, index: u32) -> f32 {
  return add_relative(add_relative(fma(of_query, of_key, sum), of_query, index), of_key, index + query_offset());
}

// The factor by which dropout multiplies a weight; 1 without dropout.
fn dropout_factor(hash: vec2u, row: u32, key: u32) -> f32 {
  if (params.dropping == 0u) {
    return 1.0;
  }
  return mask_factor(hash, row, key);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, params.time, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.time) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let q_start = q_index(at.batch, at.head, at.row);
  var query: Head;
  var sum_v: Head;
  for (var c = 0u; c < HEAD; c++) {
    query[c] = q[q_start + c];
  }
  var largest = -3.4e38;
  var total = 0.0;
  let hash = text_hash(text_seed(at.batch));
  let query_mask = mask_of_query(at.batch, at.row);
  let end = end_of_keys(at.row);
  for (var j = first_key(at.row); j < end; j++) {
    let key = k_index(at.batch, kv_head, j);
    let value = v_index(at.batch, kv_head, j);
    let pair = pair_index(at.head, at.row, j);
    var score = 0.0;
    for (var c = 0u; c < HEAD; c++) {
      score = add_product(score, query[c], k[key + c], pair + c);
    }
    score = masked(biased(score_of(score), pair), query_mask, mask_of_key(at.batch, j));
    let new_largest = max(largest, score);
    let shrink = exp(largest - new_largest);
    let weight = exp(score - new_largest);
    let dropped = weight * dropout_factor(hash, at.head * params.time + at.row, j);
    total = total * shrink + weight;
    for (var c = 0u; c < HEAD; c++) {
      sum_v[c] = fma(dropped, v[value + c], sum_v[c] * shrink);
    }
    largest = new_largest;
  }
  let out = y_index(at.batch, at.head, at.row);
  for (var c = 0u; c < HEAD; c++) {
    y[out + c] = sum_v[c] / total;
  }
  lse[row_index(at.batch, at.head, at.row)] = largest + log(total);
}

@compute @workgroup_size(GROUP)
fn temp_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, params.time, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.time) {
    return;
  }
  let y_start = y_index(at.batch, at.head, at.row);
  var sum = 0.0;
  for (var c = 0u; c < HEAD; c++) {
    sum = fma(dy[y_start + c], y[y_start + c], sum);
  }
  let row = row_index(at.batch, at.head, at.row);
  statistics[row] = vec4u(bitcast<u32>(lse[row]), bitcast<u32>(sum), text_seed(at.batch));
}

@compute @workgroup_size(GROUP)
fn grad_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.heads, params.time, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.time) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let q_start = q_index(at.batch, at.head, at.row);
  let out = y_index(at.batch, at.head, at.row);
  let row_statistics = statistics[row_index(at.batch, at.head, at.row)];
  let row_lse = bitcast<f32>(row_statistics.x);
  let delta = bitcast<f32>(row_statistics.y);
  var query: Head;
  var gradient: Head;
  var sum: Head;
  for (var c = 0u; c < HEAD; c++) {
    query[c] = q[q_start + c];
    gradient[c] = dy[out + c];
  }
  let hash = text_hash(statistics[row_index(at.batch, at.head, 0u)].zw);
  let query_mask = mask_of_query(at.batch, at.row);
  let end = end_of_keys(at.row);
  for (var j = first_key(at.row); j < end; j++) {
    let key = k_index(at.batch, kv_head, j);
    let value = v_index(at.batch, kv_head, j);
    let pair = pair_index(at.head, at.row, j);
    var score = 0.0;
    var dp = 0.0;
    for (var c = 0u; c < HEAD; c++) {
      score = add_product(score, query[c], k[key + c], pair + c);
      dp = fma(gradient[c], v[value + c], dp);
    }
    score = score_of(score);
    let p = exp(masked(biased(score, pair), query_mask, mask_of_key(at.batch, j)) - row_lse);
    let ds = before_cap(p * (dp * dropout_factor(hash, at.head * params.time + at.row, j) - delta), score);
    for (var c = 0u; c < HEAD; c++) {
      sum[c] = add_relative(fma(ds, k[key + c], sum[c]), ds, pair + c);
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
  let key_row = k_index(at.batch, at.head, at.row);
  let value_row = v_index(at.batch, at.head, at.row);
  var key: Head;
  var value: Head;
  var sums: KeySums;
  for (var c = 0u; c < HEAD; c++) {
    key[c] = k[key_row + c];
    value[c] = v[value_row + c];
  }
  let key_mask = mask_of_key(at.batch, at.row);
  let end = end_of_queries(at.row);
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    let hash = text_hash(statistics[row_index(at.batch, head, 0u)].zw);
    for (var i = first_query(at.row); i < end; i++) {
      let query = q_index(at.batch, head, i);
      let out = y_index(at.batch, head, i);
      let row_statistics = statistics[row_index(at.batch, head, i)];
      let pair = pair_index(head, i, at.row);
      var score = 0.0;
      var dp = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = add_product(score, q[query + c], key[c], pair + c);
        dp = fma(value[c], dy[out + c], dp);
      }
      score = score_of(score);
      let p = exp(masked(biased(score, pair), mask_of_query(at.batch, i), key_mask) - bitcast<f32>(row_statistics.x));
      let keep = dropout_factor(hash, head * params.time + i, at.row);
      let dropped = p * keep;
      let ds = before_cap(p * (dp * keep - bitcast<f32>(row_statistics.y)), score);
      for (var c = 0u; c < HEAD; c++) {
        sums.dk[c] = add_relative(fma(ds, q[query + c], sums.dk[c]), ds, pair + query_offset() + c);
        sums.dv[c] = fma(dropped, dy[out + c], sums.dv[c]);
      }
    }
  }
  return sums;
}

@compute @workgroup_size(GROUP)
fn grad_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, params.keys, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.keys) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.row);
  let value_row = v_index(at.batch, at.head, at.row);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
    dv[value_row + c] = sums.dv[c];
  }
}

// As grad_k_v, but dk and dv are parts of one fused q|k|v gradient, which WebGPU lets us bind for writing only once.
@compute @workgroup_size(GROUP)
fn grad_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, params.keys, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.keys) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.row);
  let value_row = v_index(at.batch, at.head, at.row);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
    dk[value_row + c] = sums.dv[c];
  }
}

@compute @workgroup_size(GROUP)
fn grad_k(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, params.keys, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.keys) {
    return;
  }
  let sums = key_sums(at);
  let key_row = k_index(at.batch, at.head, at.row);
  for (var c = 0u; c < HEAD; c++) {
    dk[key_row + c] = sums.dk[c] * params.scale;
  }
}

// The gradient of v alone reads neither v nor y, so that they need not be kept.
@compute @workgroup_size(GROUP)
fn grad_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = head_row(params.kv_heads, params.keys, group, groups, local);
  if (at.batch >= params.batch || at.row >= params.keys) {
    return;
  }
  let key_row = k_index(at.batch, at.head, at.row);
  let value_row = v_index(at.batch, at.head, at.row);
  var key: Head;
  var sum: Head;
  for (var c = 0u; c < HEAD; c++) {
    key[c] = k[key_row + c];
  }
  let key_mask = mask_of_key(at.batch, at.row);
  let hash = text_hash(text_seed(at.batch));
  let end = end_of_queries(at.row);
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    for (var i = first_query(at.row); i < end; i++) {
      let query = q_index(at.batch, head, i);
      let out = y_index(at.batch, head, i);
      let pair = pair_index(head, i, at.row);
      var score = 0.0;
      for (var c = 0u; c < HEAD; c++) {
        score = add_product(score, q[query + c], key[c], pair + c);
      }
      score = masked(biased(score_of(score), pair), mask_of_query(at.batch, i), key_mask);
      let dropped = exp(score - lse[row_index(at.batch, head, i)]) * dropout_factor(hash, head * params.time + i, at.row);
      for (var c = 0u; c < HEAD; c++) {
        sum[c] = fma(dropped, dy[out + c], sum[c]);
      }
    }
  }
  for (var c = 0u; c < HEAD; c++) {
    dv[value_row + c] = sum[c];
  }
}
