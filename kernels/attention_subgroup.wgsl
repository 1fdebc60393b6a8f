// The attention of attention.wgsl in tiles, for adapters whose subgroups all have SUBGROUP invocations.
//
// Shapes, formulas, strides, Params and the bindings of each entry are those of attention.wgsl. Sums over keys or
// queries are computed tile by tile, so that results differ by rounding. `grad_q_k_v` and `grad_q_k_v_fused` compute
// all gradients in one dispatch. `grad_relative` and `grad_relative_rows`, which parts have that take the place of others, are for
// positions that are one row, as are rows of a table in all entries.
// Threads: a workgroup is one subgroup and computes ROWS rows of one head (queries, or keys for their gradients). A
// tile is these ROWS rows by SUBGROUP * COLUMNS rows of the other side, of which each invocation has COLUMNS, SUBGROUP
// apart. Scores are a matrix product of the two, in which an invocation gets its neighbours' elements of the ROWS rows
// by shuffles, as in product_subgroup.wgsl. The weighted sums are another product, in which each invocation sums every
// SUBGROUP-th element of HEAD. For the gradients of a table, the rows are ROWS of its entries, and the other side is queries. Rows are
// loaded in vectors of four, since loads are expensive on a software adapter.
// Loops over the rows of a tile are short and do one thing each: llvmpipe keeps a tile in memory if a loop is not
// unrolled.
// Range: as in attention.wgsl; a key that is past the end, or that its query does not see, has the weight 0 exactly. Tiles of
// which no query sees a key are skipped.
// Limits: ROWS is a multiple of SUBGROUP; HEAD is a multiple of 4 up to 128, since ROWS * HEAD / SUBGROUP sums are held
// in registers.

enable subgroups;
requires unrestricted_pointer_parameters;

#import lib/attention
#import lib/tile_products

const HEAD: u32 = 8u;
const SUBGROUP: u32 = 8u;
const ROWS: u32 = 16u;
const COLUMNS: u32 = 2u;
const ABSENT_SCORE: f32 = -3.4e38;

// Neighbouring elements of HEAD that an invocation sums: its elements come in groups of this size.
const PACK: u32 = select(1u, 4u, HEAD % (4u * SUBGROUP) == 0u);
// Elements of HEAD that an invocation sums, and rows of the workgroup that it loads.
const LANE_COLUMNS: u32 = (HEAD + SUBGROUP - 1u) / SUBGROUP;
const LANE_ROWS: u32 = ROWS / SUBGROUP;

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dq: array<f32>;
@group(0) @binding(10) var<storage, read_write> dk: array<f32>;
@group(0) @binding(11) var<storage, read_write> dv: array<f32>;

alias Element = f32;
alias Masks = i32;
alias Places = u32;
alias Tile = array<array<f32, COLUMNS>, ROWS>;
alias Sums = array<array<f32, LANE_COLUMNS>, ROWS>;

// The text (within this launch), head and first of the ROWS rows that a workgroup computes.
struct Block {
  batch: u32,
  head: u32,
  first: u32,
}

fn block(heads: u32, rows: u32, group: vec3u, groups: vec3u) -> Block {
  let blocks = (rows + ROWS - 1u) / ROWS;
  let index = group.y * groups.x + group.x;
  let row = index / blocks;
  return Block(row / heads, row % heads, (index % blocks) * ROWS);
}

fn relatives(index: u32) -> f32 {
  return relative_at(index);
}

// The score of a query and a key, unless it does not see the key.
fn seen(score: f32, query: u32, key: u32) -> f32 {
  return select(score, ABSENT_SCORE, key >= params.keys || key > query + params.after || key < first_key(query));
}

// The rows of one head in a table: the first element of the first row, the length of the table's rows, and the last row.
struct Rows {
  start: u32,
  row: u32,
  last: u32,
}

fn q_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.time * params.q_row + params.q_offset + head * HEAD, params.q_row, params.time - 1u);
}

fn k_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.keys * params.k_row + params.k_offset + head * HEAD, params.k_row, params.keys - 1u);
}

fn v_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.keys * params.v_row + params.v_offset + head * HEAD, params.v_row, params.keys - 1u);
}

fn y_rows(batch: u32, head: u32) -> Rows {
  return Rows((batch * params.time * params.heads + head) * HEAD, params.heads * HEAD, params.time - 1u);
}

// Keys and queries of a head in a table that has rows.
fn relative_keys(head: u32) -> Rows {
  return Rows(head * HEAD, 2u * params.heads * HEAD, 2u * params.center);
}

fn relative_queries(head: u32) -> Rows {
  return Rows((params.heads + head) * HEAD, 2u * params.heads * HEAD, 2u * params.center);
}

// The rows of a table that multiply the rows of a tile, and its columns: those for row i and column j of the tile belong to i +
// SUBGROUP * COLUMNS - 1 - j. Past an end of the table, WGSL gives some numbers of it for a pair that has no weight.
struct Related {
  of_rows: Rows,
  of_columns: Rows,
}

const ENDLESS: u32 = 0xffffffffu;

// The row of a table for `first`, and those that follow in steps of `step`, which may be -1.
fn rows_from(rows: Rows, first: u32, step: u32) -> Rows {
  return Rows(rows.start + first * rows.row, step * rows.row, ENDLESS);
}

// Of queries as rows and keys as columns: keys of the table multiply queries.
fn related_keys(head: u32, first_query: u32, first_key: u32) -> Related {
  let first = first_query + params.center - (first_key + SUBGROUP * COLUMNS - 1u);
  return Related(rows_from(relative_keys(head), first, 1u), rows_from(relative_queries(head), first, 1u));
}

// Of keys as rows and queries as columns.
fn related_queries(head: u32, first_key: u32, first_query: u32) -> Related {
  let first = first_query + SUBGROUP * COLUMNS - 1u + params.center - first_key;
  return Related(rows_from(relative_queries(head), first, ENDLESS), rows_from(relative_keys(head), first, ENDLESS));
}

// Rows past the end repeat the last one. They are never written, and their weights are 0.
fn element(rows: Rows, row: u32) -> u32 {
  return rows.start + min(row, rows.last) * rows.row;
}

// The index in HEAD of the c-th element that an invocation sums.
fn column_of(c: u32, lane: u32) -> u32 {
  return ((c / PACK) * SUBGROUP + lane) * PACK + c % PACK;
}

// The first of a tile's rows among which a row is; an invocation has the same rows in all tiles.
fn first_tile(row: u32) -> u32 {
  return row / SUBGROUP * SUBGROUP;
}

alias Input = ptr<storage, array<vec4f>, read>;

// dots[i][j] = left[first + i] . right[other + j * SUBGROUP + lane]
fn dots(left: Input, left_rows: Rows, first: u32, right: Input, right_rows: Rows, other: u32, lane: u32) -> Tile {
  var tile = Tile();
  var column: array<u32, COLUMNS>;
  for (var j = 0u; j < COLUMNS; j++) {
    column[j] = element(right_rows, other + j * SUBGROUP + lane) / 4u;
  }
  var row: array<u32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    row[i] = element(left_rows, first + i * SUBGROUP + lane) / 4u;
  }
  for (var c = 0u; c < HEAD / 4u; c++) {
    var lane_rows: array<vec4f, LANE_ROWS>;
    for (var i = 0u; i < LANE_ROWS; i++) {
      lane_rows[i] = left[row[i] + c];
    }
    var columns: array<vec4f, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      columns[j] = right[column[j] + c];
    }
    for (var i = 0u; i < ROWS; i++) {
      var row_values: array<f32, 4>;
      for (var s = 0u; s < 4u; s++) {
        row_values[s] = subgroupShuffle(lane_rows[i / SUBGROUP][s], i % SUBGROUP);
      }
      for (var j = 0u; j < COLUMNS; j++) {
        for (var s = 0u; s < 4u; s++) {
          tile[i][j] = fma(row_values[s], columns[j][s], tile[i][j]);
        }
      }
    }
  }
  return tile;
}

// The elements of a row of a table that an invocation sums.
fn lane_elements(table: Input, row: u32, lane: u32) -> array<f32, LANE_COLUMNS> {
  var values: array<f32, LANE_COLUMNS>;
  for (var c = 0u; c < LANE_COLUMNS; c += PACK) {
    let first_column = row + min(column_of(c, lane), HEAD - 1u);
    if (PACK == 4u) {
      let four = table[first_column / 4u];
      values[c] = four.x;
      values[c + 1u] = four.y;
      values[c + 2u] = four.z;
      values[c + 3u] = four.w;
    } else {
      values[c] = table[first_column / 4u][first_column % 4u];
    }
  }
  return values;
}

// sums[i][c] += sum over the columns of the tile of weights[i][column] * table[column][c]. Each lane holds the weights
// of its columns.
fn add_weighted(table: Input, rows: Rows, first: u32, lane: u32, weights: ptr<function, Tile>, sums: ptr<function, Sums>) {
  for (var s = 0u; s < SUBGROUP; s++) {
    var values: array<array<f32, LANE_COLUMNS>, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      values[j] = lane_elements(table, element(rows, first + j * SUBGROUP + s), lane);
    }
    for (var i = 0u; i < ROWS; i++) {
      var weight: array<f32, COLUMNS>;
      for (var j = 0u; j < COLUMNS; j++) {
        weight[j] = subgroupShuffle((*weights)[i][j], s);
      }
      for (var c = 0u; c < LANE_COLUMNS; c++) {
        var sum = (*sums)[i][c];
        for (var j = 0u; j < COLUMNS; j++) {
          sum = fma(weight[j], values[j][c], sum);
        }
        (*sums)[i][c] = sum;
      }
    }
  }
}

fn largest_of_all(value: f32) -> f32 {
  var largest = value;
  for (var step = 1u; step < SUBGROUP; step *= 2u) {
    largest = max(largest, subgroupShuffleXor(largest, step));
  }
  return largest;
}

alias Output = ptr<storage, array<f32>, read_write>;

// The number of rows from `first` on that a workgroup writes. It ends loops that no compiler unrolls: some hundred stores would take
// LLVM seconds. Such a loop keeps an array in memory, so that it takes a copy of the sums.
fn rows_within(rows: Rows, first: u32) -> u32 {
  return min(ROWS, rows.last + 1u - first);
}

// Writes factor * sums to the rows of the workgroup.
fn write_rows(table: Output, rows: Rows, first: u32, lane: u32, factor: f32, sums: ptr<function, Sums>) {
  var copy = *sums;
  for (var i = 0u; i < rows_within(rows, first); i++) {
    let out = element(rows, first + i);
    for (var c = 0u; c < LANE_COLUMNS; c++) {
      if (column_of(c, lane) < HEAD) {
        table[out + column_of(c, lane)] = copy[i][c] * factor;
      }
    }
  }
}

// What the mask holds for the queries of a block; each invocation has every SUBGROUP-th.
fn query_masks(at: Block, lane: u32) -> array<i32, LANE_ROWS> {
  var masks: array<i32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    masks[i] = mask_of_query(at.batch, at.first + i * SUBGROUP + lane);
  }
  return masks;
}

@compute @workgroup_size(SUBGROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.heads, params.time, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = q_rows(at.batch, at.head);
  let keys = k_rows(at.batch, kv_head);
  let hash = text_hash(text_seed(at.batch));
  var sums: Sums;
  var largest: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    largest[i] = ABSENT_SCORE;
  }
  let lane_masks = query_masks(at, lane);
  let end = end_of_keys(at.first + ROWS - 1u);
  for (var key = first_tile(first_key(at.first)); key < end; key += SUBGROUP * COLUMNS) {
    let related = related_keys(at.head, at.first, key);
    var weights = products(&q, queries, at.first, &k, keys, key, related, lane);
    var key_masks: array<i32, COLUMNS>;
    var key_places: array<u32, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      key_places[j] = place_of(key + j * SUBGROUP + lane);
      key_masks[j] = mask_of_key(at.batch, key + j * SUBGROUP + lane);
    }
    var new_largest = largest;
    for (var i = 0u; i < ROWS; i++) {
      let query = min(at.first + i, params.time - 1u);
      let query_mask = subgroupShuffle(lane_masks[i / SUBGROUP], i % SUBGROUP);
      for (var j = 0u; j < COLUMNS; j++) {
        let pair = table_index(at.head, place_of(query), key_places[j]);
        let score = masked(biased(score_of(weights[i][j]), pair), query_mask, key_masks[j]);
        weights[i][j] = seen(score, query, key + j * SUBGROUP + lane);
        new_largest[i] = max(new_largest[i], weights[i][j]);
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      new_largest[i] = largest_of_all(new_largest[i]);
    }
    var shrink: array<f32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
      shrink[i] = exp(largest[i] - new_largest[i]);
      largest[i] = new_largest[i];
    }
    for (var i = 0u; i < ROWS; i++) {
      var sum = 0.0;
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] = exp(weights[i][j] - new_largest[i]);
        sum += weights[i][j];
      }
      total[i] = fma(total[i], shrink[i], sum);
    }
    for (var i = 0u; i < ROWS; i++) {
      for (var c = 0u; c < LANE_COLUMNS; c++) {
        sums[i][c] *= shrink[i];
      }
    }
    if (params.dropping != 0u) {
      for (var i = 0u; i < ROWS; i++) {
        let query = min(at.first + i, params.time - 1u);
        for (var j = 0u; j < COLUMNS; j++) {
          weights[i][j] *= mask_factor(hash, at.head * params.time + query, key + j * SUBGROUP + lane);
        }
      }
    }
    add_weighted(&v, v_rows(at.batch, kv_head), key, lane, &weights, &sums);
  }
  // Each lane has the totals of its own rows, so that one store writes those of all lanes.
  var lane_lse: array<f32, LANE_ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    let row_total = subgroupAdd(total[i]);
    for (var c = 0u; c < LANE_COLUMNS; c++) {
      sums[i][c] /= row_total;
    }
    lane_lse[i / SUBGROUP] = select(lane_lse[i / SUBGROUP], largest[i] + log(row_total), lane == i % SUBGROUP);
  }
  for (var i = 0u; i < LANE_ROWS; i++) {
    let query = at.first + i * SUBGROUP + lane;
    if (query < params.time) {
      lse[row_index(at.batch, at.head, query)] = lane_lse[i];
    }
  }
  write_rows(&y, y_rows(at.batch, at.head), at.first, lane, 1.0, &sums);
}

@compute @workgroup_size(SUBGROUP)
fn grad_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.heads, params.time, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = q_rows(at.batch, at.head);
  let keys = k_rows(at.batch, kv_head);
  var sums: Sums;
  var lane_lse: array<f32, LANE_ROWS>;
  var lane_delta: array<f32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    let row_statistics = statistics[row_index(at.batch, at.head, min(at.first + i * SUBGROUP + lane, params.time - 1u))];
    lane_lse[i] = bitcast<f32>(row_statistics.x);
    lane_delta[i] = bitcast<f32>(row_statistics.y);
  }
  let hash = text_hash(statistics[row_index(at.batch, at.head, 0u)].zw);
  let lane_masks = query_masks(at, lane);
  let end = end_of_keys(at.first + ROWS - 1u);
  for (var key = first_tile(first_key(at.first)); key < end; key += SUBGROUP * COLUMNS) {
    let related = related_keys(at.head, at.first, key);
    var weights = products(&q, queries, at.first, &k, keys, key, related, lane);
    var scores = Tile();
    // Gradients of the weights; with them, `weights` becomes the gradients of the scores.
    var gradients = dots(&dy, y_rows(at.batch, at.head), at.first, &v, v_rows(at.batch, kv_head), key, lane);
    var key_masks: array<i32, COLUMNS>;
    var key_places: array<u32, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      key_places[j] = place_of(key + j * SUBGROUP + lane);
      key_masks[j] = mask_of_key(at.batch, key + j * SUBGROUP + lane);
    }
    for (var i = 0u; i < ROWS; i++) {
      let query = min(at.first + i, params.time - 1u);
      let row_lse = subgroupShuffle(lane_lse[i / SUBGROUP], i % SUBGROUP);
      let query_mask = subgroupShuffle(lane_masks[i / SUBGROUP], i % SUBGROUP);
      for (var j = 0u; j < COLUMNS; j++) {
        scores[i][j] = score_of(weights[i][j]);
        let pair = table_index(at.head, place_of(query), key_places[j]);
        let score = masked(biased(scores[i][j], pair), query_mask, key_masks[j]);
        weights[i][j] = exp(seen(score, query, key + j * SUBGROUP + lane) - row_lse);
      }
    }
    if (params.dropping != 0u) {
      for (var i = 0u; i < ROWS; i++) {
        let query = min(at.first + i, params.time - 1u);
        for (var j = 0u; j < COLUMNS; j++) {
          gradients[i][j] *= mask_factor(hash, at.head * params.time + query, key + j * SUBGROUP + lane);
        }
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      let delta = subgroupShuffle(lane_delta[i / SUBGROUP], i % SUBGROUP);
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] = before_cap(weights[i][j] * (gradients[i][j] - delta), scores[i][j]);
      }
    }
    add_weighted(&k, keys, key, lane, &weights, &sums);
    add_weighted_related(related, lane, &weights, &sums);
  }
  write_rows(&dq, queries, at.first, lane, params.scale, &sums);
}

// The sums over queries for the keys of the workgroup.
struct KeySums {
  dk: Sums,
  dv: Sums,
}

// Adds the part of these keys to the gradients of the queries: table[query] += scale * sum over keys of ds[key][query]
// k[key]. Each invocation adds to the queries of its columns. The first block of keys overwrites, unless windows leave queries
// out.
fn add_to_queries(table: Output, at: Block, rows: Rows, query: u32, lane: u32, ds: ptr<function, Tile>) {
  let keys = k_rows(at.batch, at.head);
  var row: array<u32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    row[i] = element(keys, at.first + i * SUBGROUP + lane) / 4u;
  }
  for (var c = 0u; c < HEAD; c += 4u) {
    var lane_keys: array<vec4f, LANE_ROWS>;
    for (var i = 0u; i < LANE_ROWS; i++) {
      lane_keys[i] = k[row[i] + c / 4u] * params.scale;
    }
    var sums: array<vec4f, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      let index = element(rows, query + j * SUBGROUP + lane) + c;
      sums[j] = vec4f();
      if (WINDOWED != 0u || at.first > 0u) {
        sums[j] = vec4f(table[index], table[index + 1u], table[index + 2u], table[index + 3u]);
      }
    }
    for (var s = 0u; s < 4u; s++) {
      for (var i = 0u; i < ROWS; i++) {
        let key = subgroupShuffle(lane_keys[i / SUBGROUP][s], i % SUBGROUP);
        for (var j = 0u; j < COLUMNS; j++) {
          sums[j][s] = fma((*ds)[i][j], key, sums[j][s]);
        }
      }
    }
    for (var j = 0u; j < COLUMNS; j++) {
      if (query + j * SUBGROUP + lane <= rows.last) {
        let index = element(rows, query + j * SUBGROUP + lane) + c;
        for (var s = 0u; s < 4u; s++) {
          table[index + s] = sums[j][s];
        }
      }
    }
  }
}

// The score of a query of a lane and a key of the block, which may not see each other.
fn score_in_tile(at: Block, head: u32, score: f32, query: u32, key: u32, key_mask: i32) -> f32 {
  let pair = table_index(head, place_of(query), place_of(key));
  let known = seen(masked(biased(score, pair), mask_of_query(at.batch, query), key_mask), query, key);
  return select(known, ABSENT_SCORE, query >= params.time);
}

// What the mask holds for the keys of a block; each invocation has every SUBGROUP-th.
fn block_masks(at: Block, lane: u32) -> array<i32, LANE_ROWS> {
  var masks: array<i32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    masks[i] = mask_of_key(at.batch, at.first + i * SUBGROUP + lane);
  }
  return masks;
}

// Sums for the keys of a block. If `adds_dq`, their part of the gradients of the queries is added to `dq_table`.
fn key_sums(at: Block, lane: u32, dq_table: Output, adds_dq: bool) -> KeySums {
  var dk_sums: Sums;
  var dv_sums: Sums;
  let heads_per_kv = params.heads / params.kv_heads;
  let lane_masks = block_masks(at, lane);
  let end = end_of_queries(at.first + ROWS - 1u);
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    let queries = q_rows(at.batch, head);
    let outputs = y_rows(at.batch, head);
    let hash = text_hash(statistics[row_index(at.batch, head, 0u)].zw);
    for (var query = first_tile(first_query(at.first)); query < end; query += SUBGROUP * COLUMNS) {
      let related = related_queries(head, at.first, query);
      var weights = products(&k, k_rows(at.batch, at.head), at.first, &q, queries, query, related, lane);
      var scores = Tile();
      // Gradients of the weights, then of the scores.
      var gradients = dots(&v, v_rows(at.batch, at.head), at.first, &dy, outputs, query, lane);
      var lane_lse: array<f32, COLUMNS>;
      var lane_delta: array<f32, COLUMNS>;
      for (var j = 0u; j < COLUMNS; j++) {
        let row_statistics = statistics[row_index(at.batch, head, min(query + j * SUBGROUP + lane, params.time - 1u))];
        lane_lse[j] = bitcast<f32>(row_statistics.x);
        lane_delta[j] = bitcast<f32>(row_statistics.y);
      }
      for (var i = 0u; i < ROWS; i++) {
        let key_mask = subgroupShuffle(lane_masks[i / SUBGROUP], i % SUBGROUP);
        for (var j = 0u; j < COLUMNS; j++) {
          let lane_query = query + j * SUBGROUP + lane;
          scores[i][j] = score_of(weights[i][j]);
          let score = score_in_tile(at, head, scores[i][j], lane_query, at.first + i, key_mask);
          weights[i][j] = exp(score - lane_lse[j]);
        }
      }
      if (params.dropping == 0u) {
        for (var i = 0u; i < ROWS; i++) {
          for (var j = 0u; j < COLUMNS; j++) {
            gradients[i][j] = before_cap(weights[i][j] * (gradients[i][j] - lane_delta[j]), scores[i][j]);
          }
        }
      } else {
        for (var i = 0u; i < ROWS; i++) {
          for (var j = 0u; j < COLUMNS; j++) {
            let keep = mask_factor(hash, head * params.time + query + j * SUBGROUP + lane, at.first + i);
            gradients[i][j] = before_cap(weights[i][j] * (gradients[i][j] * keep - lane_delta[j]), scores[i][j]);
            weights[i][j] *= keep;
          }
        }
      }
      if (adds_dq) {
        add_to_queries(dq_table, at, queries, query, lane, &gradients);
      }
      add_weighted(&q, queries, query, lane, &gradients, &dk_sums);
      add_weighted_related(related, lane, &gradients, &dk_sums);
      add_weighted(&dy, outputs, query, lane, &weights, &dv_sums);
    }
  }
  return KeySums(dk_sums, dv_sums);
}

@compute @workgroup_size(SUBGROUP)
fn grad_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, params.keys, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums = key_sums(at, lane, &dk, false);
  write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
  write_rows(&dv, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
}

@compute @workgroup_size(SUBGROUP)
fn grad_k(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, params.keys, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums = key_sums(at, lane, &dk, false);
  write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
}

// The gradient of v alone reads neither v nor y, so that they need not be kept.
@compute @workgroup_size(SUBGROUP)
fn grad_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, params.keys, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums: Sums;
  let hash = text_hash(text_seed(at.batch));
  let heads_per_kv = params.heads / params.kv_heads;
  let lane_masks = block_masks(at, lane);
  let end = end_of_queries(at.first + ROWS - 1u);
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    for (var query = first_tile(first_query(at.first)); query < end; query += SUBGROUP * COLUMNS) {
      let related = related_queries(head, at.first, query);
      var weights = products(&k, k_rows(at.batch, at.head), at.first, &q, q_rows(at.batch, head), query, related, lane);
      var lane_lse: array<f32, COLUMNS>;
      for (var j = 0u; j < COLUMNS; j++) {
        lane_lse[j] = lse[row_index(at.batch, head, min(query + j * SUBGROUP + lane, params.time - 1u))];
      }
      for (var i = 0u; i < ROWS; i++) {
        let key_mask = subgroupShuffle(lane_masks[i / SUBGROUP], i % SUBGROUP);
        for (var j = 0u; j < COLUMNS; j++) {
          let score = score_in_tile(at, head, score_of(weights[i][j]), query + j * SUBGROUP + lane, at.first + i, key_mask);
          weights[i][j] = exp(score - lane_lse[j]);
        }
      }
      if (params.dropping != 0u) {
        for (var i = 0u; i < ROWS; i++) {
          for (var j = 0u; j < COLUMNS; j++) {
            weights[i][j] *= mask_factor(hash, head * params.time + query + j * SUBGROUP + lane, at.first + i);
          }
        }
      }
      add_weighted(&dy, y_rows(at.batch, head), query, lane, &weights, &sums);
    }
  }
  write_rows(&dv, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums);
}

// As grad_k_v, but dk and dv are parts of one fused q|k|v gradient, which WebGPU lets us bind for writing only once.
@compute @workgroup_size(SUBGROUP)
fn grad_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, params.keys, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums = key_sums(at, lane, &dk, false);
  write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
  write_rows(&dk, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
}

// The key-value head of a workgroup that computes all its rows, from the first on.
fn whole_head(group: vec3u, groups: vec3u) -> Block {
  let index = group.y * groups.x + group.x;
  return Block(index / params.kv_heads, index % params.kv_heads, 0u);
}

// If windows leave queries out, writes 0 to the gradients to which blocks of keys then add.
fn start_queries(table: Output, at: Block, lane: u32) {
  if (WINDOWED == 0u) {
    return;
  }
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let rows = q_rows(at.batch, at.head * heads_per_kv + g);
    for (var query = lane; query < params.time; query += SUBGROUP) {
      for (var c = 0u; c < HEAD; c++) {
        table[element(rows, query) + c] = 0.0;
      }
    }
  }
}

// All gradients of one key-value head, one block of its keys after the other. Each block adds to the gradients of the
// queries; an element of these is always read and written by the same invocation, so no barrier is needed.
@compute @workgroup_size(SUBGROUP)
fn grad_q_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  var at = whole_head(group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  start_queries(&dq, at, lane);
  for (; at.first < params.keys; at.first += ROWS) {
    var sums = key_sums(at, lane, &dq, true);
    write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
    write_rows(&dv, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
  }
}

@compute @workgroup_size(SUBGROUP)
fn grad_q_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  var at = whole_head(group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  start_queries(&dk, at, lane);
  for (; at.first < params.keys; at.first += ROWS) {
    var sums = key_sums(at, lane, &dk, true);
    write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
    write_rows(&dk, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
  }
}
