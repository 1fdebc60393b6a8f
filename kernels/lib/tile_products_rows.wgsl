// The products that make the scores of a tile with rows of a table, and the gradients of these, for attention_subgroup.wgsl, in place
// of tile_products.wgsl. Multiply-adds for a pair: HEAD for its query and key, and 1.5 HEAD for each row of its entry.

#import lib/tile_differences

@group(0) @binding(14) var<storage, read_write> drelative: array<f32>;

// Dot products of the rows and columns of a tile, and of both with the table's rows for their differences.
fn products(left: Input, left_rows: Rows, first: u32, right: Input, right_rows: Rows, other: u32, related: Related, lane: u32) -> Tile {
  var tile = dots(left, left_rows, first, right, right_rows, other, lane);
  add_row_products(left, left_rows, first, &relative, related.of_rows, lane, &tile);
  add_column_products(right, right_rows, other, &relative, related.of_columns, lane, &tile);
  return tile;
}

fn add_weighted_related(related: Related, lane: u32, weights: ptr<function, Tile>, sums: ptr<function, Sums>) {
  add_weighted_differences(&relative, related.of_rows, lane, weights, sums);
}

// Writes scale * sums to rows of the table's gradient, or adds it to what they have.
fn write_entries(rows: Rows, first: u32, lane: u32, sums: ptr<function, Sums>) {
  var copy = *sums;
  for (var i = 0u; i < rows_within(rows, first); i++) {
    let out = element(rows, first + i);
    for (var c = 0u; c < LANE_COLUMNS; c++) {
      let column = out + column_of(c, lane);
      if (column_of(c, lane) < HEAD) {
        drelative[column] = fma(copy[i][c], params.scale, select(0.0, drelative[column], params.accumulate != 0u));
      }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn grad_relative_rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block_of_entries(group, groups);
  if (at.first > 2u * params.center) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let table_keys = relative_keys(at.head);
  let table_queries = relative_queries(at.head);
  let queries = queries_of(at.first);
  var key_sums: Sums;
  var query_sums: Sums;
  for (var batch = 0u; batch < params.batch; batch++) {
    let rows = q_rows(batch, at.head);
    for (var query = queries.first; query < queries.end; query += WIDTH) {
      let keys = partners(k_rows(batch, kv_head), at.first, query);
      let values = partners(v_rows(batch, kv_head), at.first, query);
      var weights = dots(&relative, table_keys, at.first, &q, rows, query, lane);
      add_row_products(&relative, table_queries, at.first, &k, keys, lane, &weights);
      add_column_products(&q, rows, query, &k, keys, lane, &weights);
      var gradients = Tile();
      add_column_products(&dy, y_rows(batch, at.head), query, &v, values, lane, &gradients);
      to_score_gradients(Block(batch, at.head, at.first), query, lane, &weights, &gradients);
      add_weighted(&q, rows, query, lane, &gradients, &key_sums);
      add_weighted_differences(&k, keys, lane, &gradients, &query_sums);
    }
  }
  write_entries(table_keys, at.first, lane, &key_sums);
  write_entries(table_queries, at.first, lane, &query_sums);
}
