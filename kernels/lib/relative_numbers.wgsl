// The numbers by which attention depends on positions, and their gradients, for attention_subgroup.wgsl, in place of relative.wgsl.

#import lib/relative_table
#import lib/tile_differences

@group(0) @binding(14) var<storage, read_write> drelative: array<f32>;

@compute @workgroup_size(SUBGROUP)
fn grad_relative(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block_of_entries(group, groups);
  if (at.first > 2u * params.center) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = queries_of(at.first);
  var sums: array<f32, ROWS>;
  for (var batch = 0u; batch < params.batch; batch++) {
    for (var query = queries.first; query < queries.end; query += WIDTH) {
      let keys = partners(k_rows(batch, kv_head), at.first, query);
      let values = partners(v_rows(batch, kv_head), at.first, query);
      var weights = Tile();
      add_column_products(&q, q_rows(batch, at.head), query, &k, keys, lane, &weights);
      var gradients = Tile();
      add_column_products(&dy, y_rows(batch, at.head), query, &v, values, lane, &gradients);
      to_score_gradients(Block(batch, at.head, at.first), query, lane, &weights, &gradients);
      for (var i = 0u; i < ROWS; i++) {
        for (var j = 0u; j < COLUMNS; j++) {
          sums[i] += gradients[i][j];
        }
      }
    }
  }
  // Each lane has the sums of its own entries, so that one store writes those of all lanes.
  var lane_sums: array<f32, LANE_ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    lane_sums[i / SUBGROUP] = select(lane_sums[i / SUBGROUP], subgroupAdd(sums[i]), lane == i % SUBGROUP);
  }
  for (var i = 0u; i < LANE_ROWS; i++) {
    let entry = at.first + i * SUBGROUP + lane;
    if (entry <= 2u * params.center) {
      let to = entry * params.heads + at.head;
      drelative[to] = lane_sums[i] + select(0.0, drelative[to], params.accumulate != 0u);
    }
  }
}
