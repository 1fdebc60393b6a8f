// Products with rows of a table that belong to differences, and gradients of such a table, for attention_subgroup.wgsl.
//
// Row i and column j of a tile have the difference i + WIDTH - 1 - j, so that ROWS + WIDTH - 1 neighbouring rows of a table belong to
// a tile: differences are of a query and a key, or, where entries of the table are the tile's rows, of an entry and a query.
// Threads: a lane has the columns of attention_subgroup.wgsl, and every SUBGROUP-th difference. Products with rows of the table are
// computed for differences, as others are for columns, and brought to their pairs by shuffles. All rows together have more
// differences than a row or a column, so that groups of SUBGROUP of them are left out: a row's lie in COLUMNS + 1 groups from
// its own on, a column's among ROWS + SUBGROUP. Loops over a row's groups are outside those over rows, or llvmpipe would keep the
// sums in memory.

const WIDTH: u32 = SUBGROUP * COLUMNS;
const ROW_GROUPS: u32 = COLUMNS + 1u;
const COLUMN_DIFFERENCES: u32 = ROWS + SUBGROUP;
// Groups of SUBGROUP differences that a tile has.
const GROUPS: u32 = LANE_ROWS + COLUMNS;

// Something for the differences of each row, from the group of the row on.
alias RowDifferences = array<array<f32, ROW_GROUPS>, ROWS>;
// Something for the differences of each column, from the first that a column of the same number has with row 0.
alias ColumnDifferences = array<array<f32, COLUMN_DIFFERENCES>, COLUMNS>;

// What a lane gets of two neighbouring groups, where columns of row i turn into differences, or differences into columns: both run
// the other way, and are moved by the row's place in its group.
fn turned(i: u32, lane: u32, low: f32, high: f32) -> f32 {
  let shift = i % SUBGROUP;
  return subgroupShuffle(select(low, high, lane < shift), (shift + SUBGROUP - 1u - lane) % SUBGROUP);
}

// tile[i][j] += left[first + i] . table[difference of i and j]
fn add_row_products(left: Input, left_rows: Rows, first: u32, table: Input, table_rows: Rows, lane: u32, tile: ptr<function, Tile>) {
  var row: array<u32, LANE_ROWS>;
  for (var i = 0u; i < LANE_ROWS; i++) {
    row[i] = element(left_rows, first + i * SUBGROUP + lane) / 4u;
  }
  var difference: array<u32, GROUPS>;
  for (var d = 0u; d < GROUPS; d++) {
    difference[d] = element(table_rows, d * SUBGROUP + lane) / 4u;
  }
  var sums = RowDifferences();
  for (var c = 0u; c < HEAD / 4u; c++) {
    var lane_rows: array<vec4f, LANE_ROWS>;
    for (var i = 0u; i < LANE_ROWS; i++) {
      lane_rows[i] = left[row[i] + c];
    }
    var values: array<vec4f, GROUPS>;
    for (var d = 0u; d < GROUPS; d++) {
      values[d] = table[difference[d] + c];
    }
    for (var d = 0u; d < ROW_GROUPS; d++) {
      for (var i = 0u; i < ROWS; i++) {
        for (var s = 0u; s < 4u; s++) {
          let row_value = subgroupShuffle(lane_rows[i / SUBGROUP][s], i % SUBGROUP);
          sums[i][d] = fma(row_value, values[i / SUBGROUP + d][s], sums[i][d]);
        }
      }
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < COLUMNS; j++) {
      (*tile)[i][j] += turned(i, lane, sums[i][COLUMNS - 1u - j], sums[i][COLUMNS - j]);
    }
  }
}

// Moves what belongs to differences down by `step` in lanes whose distance to the last one has this bit.
fn move_down(step: u32, lane: u32, values: ptr<function, ColumnDifferences>) {
  if (step >= SUBGROUP) {
    return;
  }
  for (var j = 0u; j < COLUMNS; j++) {
    for (var n = 0u; n < COLUMN_DIFFERENCES; n++) {
      let moved = (*values)[j][min(n + step, COLUMN_DIFFERENCES - 1u)];
      (*values)[j][n] = select((*values)[j][n], moved, ((SUBGROUP - 1u - lane) & step) != 0u);
    }
  }
}

// tile[i][j] += right[other + j * SUBGROUP + lane] . table[difference of i and j]
fn add_column_products(right: Input, right_rows: Rows, other: u32, table: Input, table_rows: Rows, lane: u32, tile: ptr<function, Tile>) {
  var column: array<u32, COLUMNS>;
  for (var j = 0u; j < COLUMNS; j++) {
    column[j] = element(right_rows, other + j * SUBGROUP + lane) / 4u;
  }
  var difference: array<u32, GROUPS>;
  for (var d = 0u; d < GROUPS; d++) {
    difference[d] = element(table_rows, d * SUBGROUP + lane) / 4u;
  }
  var sums = ColumnDifferences();
  for (var c = 0u; c < HEAD / 4u; c++) {
    var values: array<vec4f, GROUPS>;
    for (var d = 0u; d < GROUPS; d++) {
      values[d] = table[difference[d] + c];
    }
    var columns: array<vec4f, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      columns[j] = right[column[j] + c];
    }
    for (var j = 0u; j < COLUMNS; j++) {
      for (var n = 0u; n < COLUMN_DIFFERENCES; n++) {
        let d = (COLUMNS - 1u - j) * SUBGROUP + n;
        for (var s = 0u; s < 4u; s++) {
          let value = subgroupShuffle(values[d / SUBGROUP][s], d % SUBGROUP);
          sums[j][n] = fma(value, columns[j][s], sums[j][n]);
        }
      }
    }
  }
  // The difference of a lane's column and row i is the one SUBGROUP - 1 - lane + i.
  move_down(1u, lane, &sums);
  move_down(2u, lane, &sums);
  move_down(4u, lane, &sums);
  move_down(8u, lane, &sums);
  move_down(16u, lane, &sums);
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < COLUMNS; j++) {
      (*tile)[i][j] += sums[j][i];
    }
  }
}

// sums[i][c] += sum over the columns of the tile of weights[i][column] * table[difference of i and column][c]
fn add_weighted_differences(table: Input, table_rows: Rows, lane: u32, weights: ptr<function, Tile>, sums: ptr<function, Sums>) {
  // Weights of differences that no column has are 0.
  var of_differences = RowDifferences();
  for (var i = 0u; i < ROWS; i++) {
    for (var d = 0u; d < ROW_GROUPS; d++) {
      let low = select(0.0, (*weights)[i][min(COLUMNS - 1u - d, COLUMNS - 1u)], d < COLUMNS);
      let high = select(0.0, (*weights)[i][min(COLUMNS - d, COLUMNS - 1u)], d > 0u);
      of_differences[i][d] = turned(i, lane, low, high);
    }
  }
  for (var s = 0u; s < SUBGROUP; s++) {
    var values: array<array<f32, LANE_COLUMNS>, GROUPS>;
    for (var d = 0u; d < GROUPS; d++) {
      values[d] = lane_elements(table, element(table_rows, d * SUBGROUP + s), lane);
    }
    for (var d = 0u; d < ROW_GROUPS; d++) {
      for (var i = 0u; i < ROWS; i++) {
        let weight = subgroupShuffle(of_differences[i][d], s);
        for (var c = 0u; c < LANE_COLUMNS; c++) {
          (*sums)[i][c] = fma(weight, values[i / SUBGROUP + d][c], (*sums)[i][c]);
        }
      }
    }
  }
}

// The head and the first of the ROWS entries of which a workgroup computes gradients, for all texts.
fn block_of_entries(group: vec3u, groups: vec3u) -> Block {
  let index = group.y * groups.x + group.x;
  return Block(0u, index % params.heads, index / params.heads * ROWS);
}

// Queries of a text that lie side by side.
struct Queries {
  first: u32,
  end: u32,
}

// The queries among which are all that see a key with an entry of the block from `first` on.
fn queries_of(first: u32) -> Queries {
  let last = first + ROWS - 1u;
  if (last + params.after < params.center || (WINDOWED != 0u && first > params.center + params.before)) {
    return Queries(0u, 0u);
  }
  // A table may be wider than the text.
  let end = max(params.keys + last, params.center) - params.center;
  return Queries(max(first, params.center) - params.center, min(params.time, end));
}

// Keys, or values, by their differences to entries from `first` on, as rows, and queries from `query` on, as columns. Those past an
// end are others of the table's elements.
fn partners(rows: Rows, first: u32, query: u32) -> Rows {
  return rows_from(rows, query + WIDTH - 1u + params.center - first, ENDLESS);
}

// From the dot products that make scores, `weights`, and those of dy and v, the gradients of the scores of queries, as columns, and
// their partners for the entries of a block, as rows; those before the cap if the table has rows.
fn to_score_gradients(at: Block, query: u32, lane: u32, weights: ptr<function, Tile>, gradients: ptr<function, Tile>) {
  let hash = text_hash(statistics[row_index(at.batch, at.head, 0u)].zw);
  var lane_lse: array<f32, COLUMNS>;
  var lane_delta: array<f32, COLUMNS>;
  for (var j = 0u; j < COLUMNS; j++) {
    let row_statistics = statistics[row_index(at.batch, at.head, min(query + j * SUBGROUP + lane, params.time - 1u))];
    lane_lse[j] = bitcast<f32>(row_statistics.x);
    lane_delta[j] = bitcast<f32>(row_statistics.y);
  }
  // Keys wrap around where a query has no partner; these are past the end.
  let last_key = query + WIDTH - 1u + params.center - at.first;
  var lane_masks: array<f32, GROUPS>;
  for (var d = 0u; d < GROUPS; d++) {
    lane_masks[d] = bitcast<f32>(mask_of_key(at.batch, last_key - (d * SUBGROUP + lane)));
  }
  var scores = Tile();
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < COLUMNS; j++) {
      let lane_query = query + j * SUBGROUP + lane;
      let key = lane_query + params.center - (at.first + i);
      let low = i / SUBGROUP + COLUMNS - 1u - j;
      let key_mask = bitcast<i32>(turned(i, lane, lane_masks[low], lane_masks[low + 1u]));
      scores[i][j] = score_of((*weights)[i][j]);
      let score = score_in_tile(at, at.head, scores[i][j], lane_query, key, key_mask);
      (*weights)[i][j] = exp(score - lane_lse[j]);
    }
  }
  if (params.dropping != 0u) {
    for (var i = 0u; i < ROWS; i++) {
      for (var j = 0u; j < COLUMNS; j++) {
        let lane_query = query + j * SUBGROUP + lane;
        let key = lane_query + params.center - (at.first + i);
        (*gradients)[i][j] *= mask_factor(hash, at.head * params.time + lane_query, key);
      }
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < COLUMNS; j++) {
      let gradient = (*weights)[i][j] * ((*gradients)[i][j] - lane_delta[j]);
      (*gradients)[i][j] = select(before_cap(gradient, scores[i][j]), gradient, RELATIVE == NUMBERS);
    }
  }
}
