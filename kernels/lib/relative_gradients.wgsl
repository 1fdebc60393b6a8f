// The gradients of the table by which attention depends on positions, for attention.wgsl, in place of relative.wgsl: a workgroup
// for each entry and head, whose invocations share all pairs of positions with this entry.

#import lib/relative_table

@group(0) @binding(14) var<storage, read_write> drelative: array<f32>;

// The key whose pair with a query has this entry of the table; `keys` if there is none.
fn partner(query: u32, entry: u32) -> u32 {
  let across = 2u * params.columns - 1u;
  let rows_above = params.center / across;
  // Both wrap around where the key would be before the first row or column.
  let column = query % params.columns + (params.columns - 1u) - entry % across;
  let row = query / params.columns + rows_above - entry / across;
  return select(params.keys, row * params.columns + column, column < params.columns && row <= rows_above);
}

// Queries of a text that lie side by side.
struct Queries {
  first: u32,
  count: u32,
}

// The queries among which are all that have a partner: where positions are one row, no others.
fn queries_of(entry: u32) -> Queries {
  if (GRID != 0u || params.center + 1u != params.columns) {
    return Queries(0u, params.time);
  }
  // A table may be wider than the text: then some entries have no query, whose count must not wrap around.
  let first = min(max(entry, params.center) - params.center, params.time);
  return Queries(first, min(params.time, params.keys + entry - params.center) - first);
}

// The gradient of the score of a query and a key, 0 if it does not see the key; with a cap, that before it if the table has rows.
// `pair` is the table's index for both, the same for all pairs with one entry.
fn score_gradient(batch: u32, head: u32, query: u32, key: u32, pair: u32) -> f32 {
  if (key < first_key(query) || key >= end_of_keys(query)) {
    return 0.0;
  }
  let kv_head = head * params.kv_heads / params.heads;
  let query_row = q_index(batch, head, query);
  let key_row = k_index(batch, kv_head, key);
  let value_row = v_index(batch, kv_head, key);
  let out = y_index(batch, head, query);
  var score = 0.0;
  var dp = 0.0;
  for (var c = 0u; c < HEAD; c++) {
    score = add_product(score, q[query_row + c], k[key_row + c], pair + c);
    dp = fma(dy[out + c], v[value_row + c], dp);
  }
  score = score_of(score);
  let row_statistics = statistics[row_index(batch, head, query)];
  let shown = masked(biased(score, pair), mask_of_query(batch, query), mask_of_key(batch, key));
  let p = exp(shown - bitcast<f32>(row_statistics.x));
  let hash = text_hash(statistics[row_index(batch, head, 0u)].zw);
  let keep = dropout_factor(hash, head * params.time + query, key);
  let gradient = p * (dp * keep - bitcast<f32>(row_statistics.y));
  if (RELATIVE == NUMBERS) {
    return gradient;
  }
  return before_cap(gradient, score);
}

var<workgroup> gradients: array<f32, GROUP>;
var<workgroup> partners: array<u32, GROUP>;

@compute @workgroup_size(GROUP)
fn grad_relative(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.y * groups.x + group.x;
  let entry = index / params.heads;
  if (entry > 2u * params.center) {
    return;
  }
  let queries = queries_of(entry);
  var sum = 0.0;
  for (var n = local.x; n < params.batch * queries.count; n += GROUP) {
    let query = queries.first + n % queries.count;
    sum += score_gradient(n / queries.count, index % params.heads, query, partner(query, entry), index);
  }
  gradients[local.x] = sum;
  workgroupBarrier();
  if (local.x == 0u) {
    var total = 0.0;
    for (var lane = 0u; lane < GROUP; lane++) {
      total += gradients[lane];
    }
    if (params.accumulate != 0u) {
      total += drelative[index];
    }
    drelative[index] = total;
  }
}

const ROW_COLUMNS: u32 = (HEAD + GROUP - 1u) / GROUP;

// GROUP pairs at a time: first an invocation for each pair, then for each column of the entry's two rows.
@compute @workgroup_size(GROUP)
fn grad_relative_rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.y * groups.x + group.x;
  let entry = index / params.heads;
  if (entry > 2u * params.center) {
    return;
  }
  let head = index % params.heads;
  let kv_head = head * params.kv_heads / params.heads;
  let queries = queries_of(entry);
  let pairs = params.batch * queries.count;
  let row = (entry * 2u * params.heads + head) * HEAD;
  var key_sums: array<f32, ROW_COLUMNS>;
  var query_sums: array<f32, ROW_COLUMNS>;
  for (var first = 0u; first < pairs; first += GROUP) {
    let n = first + local.x;
    let key = partner(queries.first + n % queries.count, entry);
    workgroupBarrier();
    gradients[local.x] = 0.0;
    partners[local.x] = min(key, params.keys - 1u);
    if (n < pairs) {
      gradients[local.x] = score_gradient(n / queries.count, head, queries.first + n % queries.count, key, row);
    }
    workgroupBarrier();
    for (var i = 0u; i < min(GROUP, pairs - first); i++) {
      let batch = (first + i) / queries.count;
      let query_row = q_index(batch, head, queries.first + (first + i) % queries.count);
      let key_row = k_index(batch, kv_head, partners[i]);
      for (var o = 0u; o < ROW_COLUMNS; o++) {
        let c = min(o * GROUP + local.x, HEAD - 1u);
        key_sums[o] = fma(gradients[i], q[query_row + c], key_sums[o]);
        query_sums[o] = fma(gradients[i], k[key_row + c], query_sums[o]);
      }
    }
  }
  for (var o = 0u; o < ROW_COLUMNS; o++) {
    let c = o * GROUP + local.x;
    if (c < HEAD) {
      let to = row + c;
      var key_sum = key_sums[o] * params.scale;
      var query_sum = query_sums[o] * params.scale;
      if (params.accumulate != 0u) {
        key_sum += drelative[to];
        query_sum += drelative[to + query_offset()];
      }
      drelative[to] = key_sum;
      drelative[to + query_offset()] = query_sum;
    }
  }
}
