// The attention of attention.wgsl in tiles of workgroup memory, for GPUs.
//
// Shapes, formulas, strides, Params and the bindings of each entry are those of attention.wgsl. Sums over keys or queries are
// computed tile by tile, so that results differ by rounding.
// Threads: a workgroup of COLUMN_LANES x ROW_LANES invocations computes ROWS rows of one head (queries, or keys for their
// gradients) and goes over the rows of the other side, COLUMNS at a time. Scores are a matrix product of the two, DEPTH
// elements of the head at a time: an invocation has four rows and four columns, COLUMN_LANES apart or, with TABLE_ROWS, side
// by side. What is made of the scores goes through workgroup memory into a second product, with a table of the columns' side,
// in which an invocation has its four rows and every COLUMN_LANES-th vector of the head. Rows are read 16 bytes at a time, and
// turned in registers, since a store to one component of a vector may touch the others. No lane depends on the size of subgroups.
// With TABLE_ROWS, a tile's pairs have ROWS + COLUMNS - 1 differences. The elements of the table for these are beside the tile while
// scores are computed; the second product reads them from the table, as workgroup memory has no room for so many.
// Range: as in attention.wgsl; a key that is past the end, or that its query does not see, has the weight 0 exactly. Tiles of
// which no query sees a key are skipped.
// Limits: HEAD is a multiple of 4 up to 16 COLUMN_LANES; COLUMN_LANES is 8, 16 or 32, with TABLE_ROWS at most 16; 16 KiB of
// workgroup memory.

#import lib/attention

const HEAD: u32 = 64u;
const COLUMN_LANES: u32 = 8u;

const LANES: u32 = 128u;
const ROW_LANES: u32 = LANES / COLUMN_LANES;
const ROWS: u32 = 4u * ROW_LANES;
const COLUMNS: u32 = 4u * COLUMN_LANES;
// Vectors of the head, all of them and those that an invocation sums.
const VECTORS: u32 = HEAD / 4u;
const LANE_VECTORS: u32 = (VECTORS + COLUMN_LANES - 1u) / COLUMN_LANES;
// Elements of the head that are multiplied between two barriers, and keys or queries in the second product.
const MOST_DEPTH: u32 = select(16u, 8u, COLUMN_LANES > 16u || RELATIVE == TABLE_ROWS);
const DEPTH: u32 = select(select(4u, 8u, HEAD % 8u == 0u), MOST_DEPTH, HEAD % 16u == 0u);
const STEP: u32 = MOST_DEPTH;
// Blocks of 4 x 4 elements of which a tile of scores is made.
const ROW_BLOCKS: u32 = ROW_LANES * DEPTH / 4u;
const BLOCKS: u32 = ROW_BLOCKS + COLUMN_LANES * DEPTH / 4u;
// Two vectors more than are used, so that neighbouring stores go to other banks.
const WIDTH: u32 = ROW_LANES + COLUMN_LANES + 2u;
// Vectors of the head that an invocation sums at a time: as many as the tile has room for.
const AT_ONCE: u32 = select(1u, select(LANE_VECTORS, 2u, LANE_VECTORS == 4u), COLUMN_LANES == 8u);
// The columns of an invocation lie apart, so that neighbouring lanes read from neighbouring banks. With rows of a table they are
// neighbours, so that its four rows and four columns have only seven differences, which lie in two vectors.
const COLUMN_STEP: u32 = select(1u, 4u, RELATIVE == TABLE_ROWS);
const NEXT_COLUMN: u32 = select(COLUMN_LANES, 1u, RELATIVE == TABLE_ROWS);
// Vectors of four differences that a tile of scores has, and those of a key and a query for each.
const DIFFERENCES: u32 = ROW_LANES + COLUMN_LANES;
// Where `weights` has what multiplies columns: beside what multiplies rows if a row has room for both, else below.
const OF_COLUMNS_ROW: u32 = select(DIFFERENCES, 0u, 2u * MOST_DEPTH <= ROW_LANES);
const OF_COLUMNS_ELEMENT: u32 = select(0u, MOST_DEPTH, 2u * MOST_DEPTH <= ROW_LANES);
const TABLE_BLOCKS: u32 = 2u * DIFFERENCES * (DEPTH / 4u);
const ABSENT_SCORE: f32 = -3.4e38;

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(7) var<storage, read> dy: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(11) var<storage, read_write> dv: array<vec4f>;

// Operands of the product that runs: [element of the head][vector of rows, then of columns], or [column][vector of the head].
var<workgroup> tile: array<array<vec4f, WIDTH>, STEP>;
// Weights of the second product: [column][vector of rows]. Until there are weights, elements of the table for differences:
// [vector of differences][element of the head], of what multiplies columns after those of what multiplies rows.
var<workgroup> weights: array<array<vec4f, ROW_LANES + 1u>, COLUMNS>;

alias Element = vec4f;
alias Masks = vec4i;
alias Places = vec4u;
// Scores of an invocation: one vector of four rows for each of its columns.
alias Scores = array<vec4f, 4>;
// Sums of an invocation: its vectors of the head for each of its rows.
alias Sums = array<array<vec4f, LANE_VECTORS>, 4>;

// The text (within this launch), head and first of the rows that a workgroup computes.
struct Block {
  batch: u32,
  head: u32,
  first: u32,
}

// The place of an invocation in its workgroup. It is no part of Block, since barriers need to know that Block is the same for all.
struct Lane {
  index: u32,
  row: u32,
  column: u32,
}

fn lane_of(local: vec3u) -> Lane {
  return Lane(local.y * COLUMN_LANES + local.x, local.y, local.x);
}

fn block(heads: u32, rows: u32, group: vec3u, groups: vec3u) -> Block {
  let blocks = (rows + ROWS - 1u) / ROWS;
  let index = group.y * groups.x + group.x;
  let row = index / blocks;
  return Block(row / heads, row % heads, (index % blocks) * ROWS);
}

// The four rows of an invocation, and the four columns.
fn rows_of(at: Block, lane: Lane) -> vec4u {
  return at.first + lane.row * 4u + vec4u(0u, 1u, 2u, 3u);
}

fn columns_of(lane: Lane, first: u32) -> vec4u {
  return first + lane.column * COLUMN_STEP + vec4u(0u, 1u, 2u, 3u) * NEXT_COLUMN;
}

// The rows of one head in a table: the first vector of the first row, the vectors of the table's rows, and the last row.
struct Rows {
  start: u32,
  row: u32,
  last: u32,
}

fn q_rows(batch: u32, head: u32) -> Rows {
  let row = params.q_row / 4u;
  return Rows(batch * params.time * row + params.q_offset / 4u + head * VECTORS, row, params.time - 1u);
}

fn k_rows(batch: u32, head: u32) -> Rows {
  let row = params.k_row / 4u;
  return Rows(batch * params.keys * row + params.k_offset / 4u + head * VECTORS, row, params.keys - 1u);
}

fn v_rows(batch: u32, head: u32) -> Rows {
  let row = params.v_row / 4u;
  return Rows(batch * params.keys * row + params.v_offset / 4u + head * VECTORS, row, params.keys - 1u);
}

fn y_rows(batch: u32, head: u32) -> Rows {
  return Rows((batch * params.time * params.heads + head) * VECTORS, params.heads * VECTORS, params.time - 1u);
}

// Rows past the end repeat the last one. They are never written, and their weights are 0.
fn place(rows: Rows, row: u32) -> u32 {
  return rows.start + min(row, rows.last) * rows.row;
}

// Where an invocation reads its block of 4 x 4 elements, for the first elements of the head: lanes up to ROW_BLOCKS from the
// rows' side, those up to BLOCKS from the columns' side.
fn block_places(at: Block, lane: Lane, rows: Rows, columns: Rows, first_column: u32) -> vec4u {
  let part = lane.index % (DEPTH / 4u);
  if (lane.index < ROW_BLOCKS) {
    let first = at.first + lane.index / (DEPTH / 4u) * 4u;
    return part + vec4u(place(rows, first), place(rows, first + 1u), place(rows, first + 2u), place(rows, first + 3u));
  }
  let first = first_column + (lane.index - ROW_BLOCKS) / (DEPTH / 4u) * COLUMN_STEP;
  return part + vec4u(
    place(columns, first),
    place(columns, first + NEXT_COLUMN),
    place(columns, first + 2u * NEXT_COLUMN),
    place(columns, first + 3u * NEXT_COLUMN),
  );
}

fn store_block(lane: Lane, a: vec4f, b: vec4f, c: vec4f, d: vec4f) {
  // Element i of all parts, then element i + 1: neighbouring lanes store to other banks.
  let part = lane.index % (DEPTH / 4u);
  let column = lane.index / (DEPTH / 4u);
  tile[part][column] = vec4f(a.x, b.x, c.x, d.x);
  tile[DEPTH / 4u + part][column] = vec4f(a.y, b.y, c.y, d.y);
  tile[DEPTH / 2u + part][column] = vec4f(a.z, b.z, c.z, d.z);
  tile[DEPTH / 4u * 3u + part][column] = vec4f(a.w, b.w, c.w, d.w);
}

// The length of a loop that no compiler unrolls, since none knows that a launch has a text. Inner loops of four steps have enough to
// do at once; more would not fit into the cache of instructions, and takes LLVM minutes.
fn rolled(length: u32) -> u32 {
  return select(0u, length, params.batch > 0u);
}

fn add_products(lane: Lane, scores: ptr<function, Scores>) {
  workgroupBarrier();
  for (var first = 0u; first < rolled(DEPTH); first += 4u) {
    for (var d = 0u; d < 4u; d++) {
      let rows = tile[first + d][lane.row];
      let columns = tile[first + d][ROW_LANES + lane.column];
      for (var j = 0u; j < 4u; j++) {
        (*scores)[j] = fma(rows, vec4f(columns[j]), (*scores)[j]);
      }
    }
  }
}

// The rows of the table by which a tile's pairs of a row and a column get scores: for the pair of row r and column c, those of
// `first` + (r + COLUMNS - 1 - c) * `next`, in vectors. Both wrap around. A pair past an end may have a place that is not in the
// table, for which WGSL gives some number of it: its score is hidden, or its row is never written.
struct Related {
  first: u32,
  next: u32,
  // Vectors from a key of the table to what multiplies rows, and columns.
  of_rows: u32,
  of_columns: u32,
}

// Of queries as rows and keys as columns: keys of the table multiply queries.
fn related_keys(at: Block, first_column: u32) -> Related {
  let entry = 2u * params.heads * VECTORS;
  let first = at.first + params.center - (first_column + COLUMNS - 1u);
  return Related(first * entry, entry, at.head * VECTORS, (params.heads + at.head) * VECTORS);
}

// Of keys as rows and queries of a head as columns.
fn related_queries(at: Block, head: u32, first_column: u32) -> Related {
  let entry = 2u * params.heads * VECTORS;
  let first = first_column + COLUMNS - 1u + params.center - at.first;
  return Related(first * entry, 0u - entry, (params.heads + head) * VECTORS, head * VECTORS);
}

// Where the table has the key of the entry of a difference, counted in a tile.
fn related_place(related: Related, difference: u32) -> u32 {
  return related.first + difference * related.next;
}

// Copies the elements of the head from vector `d` of all differences of a tile.
fn store_related(lane: Lane, related: Related, d: u32) {
  if (RELATIVE != TABLE_ROWS) {
    return;
  }
  for (var i = lane.index; i < TABLE_BLOCKS; i += LANES) {
    let part = i % (DEPTH / 4u);
    let vector = i / (DEPTH / 4u) % DIFFERENCES;
    let of_columns = i / (DEPTH / 4u) >= DIFFERENCES;
    let element = select(related.of_rows, related.of_columns, of_columns) + d + part;
    let a = relative_vector(related_place(related, 4u * vector) + element);
    let b = relative_vector(related_place(related, 4u * vector + 1u) + element);
    let c = relative_vector(related_place(related, 4u * vector + 2u) + element);
    let e = relative_vector(related_place(related, 4u * vector + 3u) + element);
    let row = vector + select(0u, OF_COLUMNS_ROW, of_columns);
    let first = part + select(0u, OF_COLUMNS_ELEMENT, of_columns);
    weights[row][first] = vec4f(a.x, b.x, c.x, e.x);
    weights[row][first + DEPTH / 4u] = vec4f(a.y, b.y, c.y, e.y);
    weights[row][first + DEPTH / 2u] = vec4f(a.z, b.z, c.z, e.z);
    weights[row][first + DEPTH / 4u * 3u] = vec4f(a.w, b.w, c.w, e.w);
  }
}

// One element of the table for each pair of an invocation, from the vectors of its seven differences.
fn related_elements(vector: u32, element: u32) -> Scores {
  let a = weights[vector][element];
  let b = weights[vector + 1u][element];
  return Scores(vec4f(a.w, b.xyz), vec4f(a.zw, b.xy), vec4f(a.yzw, b.x), a);
}

fn add_related_products(lane: Lane, scores: ptr<function, Scores>) {
  if (RELATIVE != TABLE_ROWS) {
    return;
  }
  let vector = lane.row + COLUMN_LANES - 1u - lane.column;
  for (var d = 0u; d < rolled(DEPTH); d++) {
    let rows = tile[d][lane.row];
    let columns = tile[d][ROW_LANES + lane.column];
    let of_rows = related_elements(vector, d);
    let of_columns = related_elements(OF_COLUMNS_ROW + vector, OF_COLUMNS_ELEMENT + d);
    for (var j = 0u; j < 4u; j++) {
      (*scores)[j] = fma(rows, of_rows[j], fma(vec4f(columns[j]), of_columns[j], (*scores)[j]));
    }
  }
}

// Dot products of rows and columns, in a function for each pair of tables: a function can be given a storage buffer only where
// WGSL's unrestricted pointer parameters are supported.
fn q_k_products(at: Block, lane: Lane, rows: Rows, columns: Rows, first_column: u32) -> Scores {
  let places = block_places(at, lane, rows, columns, first_column);
  let related = related_keys(at, first_column);
  var scores = Scores();
  for (var d = 0u; d < rolled(VECTORS); d += DEPTH / 4u) {
    workgroupBarrier();
    if (lane.index < ROW_BLOCKS) {
      store_block(lane, q[places.x + d], q[places.y + d], q[places.z + d], q[places.w + d]);
    } else if (lane.index < BLOCKS) {
      store_block(lane, k[places.x + d], k[places.y + d], k[places.z + d], k[places.w + d]);
    }
    store_related(lane, related, d);
    add_products(lane, &scores);
    add_related_products(lane, &scores);
  }
  // Weights take the place of the table's elements.
  if (RELATIVE == TABLE_ROWS) {
    workgroupBarrier();
  }
  return scores;
}

fn dy_v_products(at: Block, lane: Lane, rows: Rows, columns: Rows, first_column: u32) -> Scores {
  let places = block_places(at, lane, rows, columns, first_column);
  var scores = Scores();
  for (var d = 0u; d < rolled(VECTORS); d += DEPTH / 4u) {
    workgroupBarrier();
    if (lane.index < ROW_BLOCKS) {
      store_block(lane, dy[places.x + d], dy[places.y + d], dy[places.z + d], dy[places.w + d]);
    } else if (lane.index < BLOCKS) {
      store_block(lane, v[places.x + d], v[places.y + d], v[places.z + d], v[places.w + d]);
    }
    add_products(lane, &scores);
  }
  return scores;
}

fn k_q_products(at: Block, head: u32, lane: Lane, rows: Rows, columns: Rows, first_column: u32) -> Scores {
  let places = block_places(at, lane, rows, columns, first_column);
  let related = related_queries(at, head, first_column);
  var scores = Scores();
  for (var d = 0u; d < rolled(VECTORS); d += DEPTH / 4u) {
    workgroupBarrier();
    if (lane.index < ROW_BLOCKS) {
      store_block(lane, k[places.x + d], k[places.y + d], k[places.z + d], k[places.w + d]);
    } else if (lane.index < BLOCKS) {
      store_block(lane, q[places.x + d], q[places.y + d], q[places.z + d], q[places.w + d]);
    }
    store_related(lane, related, d);
    add_products(lane, &scores);
    add_related_products(lane, &scores);
  }
  // Weights take the place of the table's elements.
  if (RELATIVE == TABLE_ROWS) {
    workgroupBarrier();
  }
  return scores;
}

fn v_dy_products(at: Block, lane: Lane, rows: Rows, columns: Rows, first_column: u32) -> Scores {
  let places = block_places(at, lane, rows, columns, first_column);
  var scores = Scores();
  for (var d = 0u; d < rolled(VECTORS); d += DEPTH / 4u) {
    workgroupBarrier();
    if (lane.index < ROW_BLOCKS) {
      store_block(lane, v[places.x + d], v[places.y + d], v[places.z + d], v[places.w + d]);
    } else if (lane.index < BLOCKS) {
      store_block(lane, dy[places.x + d], dy[places.y + d], dy[places.z + d], dy[places.w + d]);
    }
    add_products(lane, &scores);
  }
  return scores;
}

// The vector of a table that an invocation copies into the tile for the second product: `i` counts those of all lanes.
fn value_place(rows: Rows, first: u32, vector: u32, i: u32) -> u32 {
  let column = i / (AT_ONCE * COLUMN_LANES);
  return place(rows, first + column) + min(vector * COLUMN_LANES + i % (AT_ONCE * COLUMN_LANES), VECTORS - 1u);
}

fn store_value(i: u32, value: vec4f) {
  tile[i / (AT_ONCE * COLUMN_LANES)][i % (AT_ONCE * COLUMN_LANES)] = value;
}

fn add_weighted(lane: Lane, first_weight: u32, vector: u32, sums: ptr<function, Sums>) {
  workgroupBarrier();
  for (var first = 0u; first < rolled(STEP); first += 4u) {
    for (var c = 0u; c < 4u; c++) {
      let weight = weights[first_weight + first + c][lane.row];
      for (var o = 0u; o < AT_ONCE; o++) {
        let value = tile[first + c][o * COLUMN_LANES + lane.column];
        for (var i = 0u; i < 4u; i++) {
          (*sums)[i][vector + o] = fma(vec4f(weight[i]), value, (*sums)[i][vector + o]);
        }
      }
    }
  }
}

const VALUES: u32 = STEP * AT_ONCE * COLUMN_LANES;

// sums[row] += sum over columns of weights[column][row] * table[column], for each table and AT_ONCE vectors of an invocation.
// `vector` is a constant wherever they are called, four times rather than in a loop: a compiler that kept the loop would
// choose among all sums in each step.
fn add_weighted_v(lane: Lane, rows: Rows, first: u32, vector: u32, sums: ptr<function, Sums>) {
  if (vector >= LANE_VECTORS) {
    return;
  }
  for (var c = 0u; c < rolled(COLUMNS); c += STEP) {
    workgroupBarrier();
    for (var i = lane.index; i < VALUES; i += LANES) {
      store_value(i, v[value_place(rows, first + c, vector, i)]);
    }
    add_weighted(lane, c, vector, sums);
  }
}

fn add_weighted_k(lane: Lane, rows: Rows, first: u32, vector: u32, sums: ptr<function, Sums>) {
  if (vector >= LANE_VECTORS) {
    return;
  }
  for (var c = 0u; c < rolled(COLUMNS); c += STEP) {
    workgroupBarrier();
    for (var i = lane.index; i < VALUES; i += LANES) {
      store_value(i, k[value_place(rows, first + c, vector, i)]);
    }
    add_weighted(lane, c, vector, sums);
  }
}

fn add_weighted_dy(lane: Lane, rows: Rows, first: u32, vector: u32, sums: ptr<function, Sums>) {
  if (vector >= LANE_VECTORS) {
    return;
  }
  for (var c = 0u; c < rolled(COLUMNS); c += STEP) {
    workgroupBarrier();
    for (var i = lane.index; i < VALUES; i += LANES) {
      store_value(i, dy[value_place(rows, first + c, vector, i)]);
    }
    add_weighted(lane, c, vector, sums);
  }
}

fn add_weighted_q(lane: Lane, rows: Rows, first: u32, vector: u32, sums: ptr<function, Sums>) {
  if (vector >= LANE_VECTORS) {
    return;
  }
  for (var c = 0u; c < rolled(COLUMNS); c += STEP) {
    workgroupBarrier();
    for (var i = lane.index; i < VALUES; i += LANES) {
      store_value(i, q[value_place(rows, first + c, vector, i)]);
    }
    add_weighted(lane, c, vector, sums);
  }
}

// sums[row] += sum over columns of weights[column][row] * the table's key or query for the pair, for one vector of an invocation:
// four columns at a time, of whose pairs seven rows of the table are read.
fn add_weighted_related(lane: Lane, related: Related, vector: u32, sums: ptr<function, Sums>) {
  if (RELATIVE != TABLE_ROWS || vector >= LANE_VECTORS) {
    return;
  }
  let element = related.of_rows + min(vector * COLUMN_LANES + lane.column, VECTORS - 1u);
  for (var first = 0u; first < rolled(COLUMNS); first += 4u) {
    let lowest = related_place(related, 4u * lane.row + COLUMNS - 4u - first) + element;
    var values: array<vec4f, 7>;
    for (var i = 0u; i < 7u; i++) {
      values[i] = relative_vector(lowest + i * related.next);
    }
    for (var c = 0u; c < 4u; c++) {
      let weight = weights[first + c][lane.row];
      for (var i = 0u; i < 4u; i++) {
        (*sums)[i][vector] = fma(vec4f(weight[i]), values[3u + i - c], (*sums)[i][vector]);
      }
    }
  }
}

fn relatives(indices: vec4u) -> vec4f {
  return vec4f(relative_at(indices.x), relative_at(indices.y), relative_at(indices.z), relative_at(indices.w));
}

// The first of a tile's columns among which a column is.
fn first_tile(column: u32) -> u32 {
  return column / COLUMNS * COLUMNS;
}

// The end of the keys that a query sees; a query past the end sees none.
fn end_of_seen(query: u32) -> u32 {
  return select(end_of_keys(query), 0u, query >= params.time);
}

fn ends_of_seen(queries: vec4u) -> vec4u {
  return vec4u(end_of_seen(queries.x), end_of_seen(queries.y), end_of_seen(queries.z), end_of_seen(queries.w));
}

// The scores of queries and keys, unless they do not see the keys. `ends` are those of the queries.
fn seen(scores: vec4f, queries: vec4u, keys: vec4u, ends: vec4u) -> vec4f {
  let known = select(scores, vec4f(ABSENT_SCORE), keys >= ends);
  if (WINDOWED == 0u) {
    return known;
  }
  return select(known, vec4f(ABSENT_SCORE), keys + params.before < queries);
}

fn masks_of_keys(batch: u32, keys: vec4u) -> vec4i {
  return vec4i(
    mask_of_key(batch, keys.x),
    mask_of_key(batch, keys.y),
    mask_of_key(batch, keys.z),
    mask_of_key(batch, keys.w),
  );
}

fn masks_of_queries(batch: u32, queries: vec4u) -> vec4i {
  return vec4i(
    mask_of_query(batch, queries.x),
    mask_of_query(batch, queries.y),
    mask_of_query(batch, queries.z),
    mask_of_query(batch, queries.w),
  );
}

// Which weights dropout keeps, as bits: bit 4 j + i is that of row i and column j; all without dropout. `elements` are those of
// the first column. All hashes at once would take many registers.
fn kept_weights(hash: vec2u, elements: vec4u, column_step: u32) -> u32 {
  if (params.dropping == 0u) {
    return 0xffffu;
  }
  var bits = 0u;
  for (var j = 0u; j < rolled(4u); j++) {
    for (var i = 0u; i < 4u; i++) {
      let is_kept = element_bits(hash, elements[i] + j * column_step) < params.keep_threshold;
      bits |= u32(is_kept) << (4u * j + i);
    }
  }
  return bits;
}

fn mask_factors(kept: u32, j: u32) -> vec4f {
  let bits = vec4u(kept >> (4u * j)) & vec4u(1u, 2u, 4u, 8u);
  return select(vec4f(), vec4f(params.keep_scale), bits != vec4u());
}

fn store_weights(lane: Lane, values: Scores) {
  for (var j = 0u; j < 4u; j++) {
    weights[lane.column * COLUMN_STEP + j * NEXT_COLUMN][lane.row] = values[j];
  }
}

// The sums over the lanes of a row, in a fixed order.
fn sum_of_lanes(lane: Lane, value: vec4f) -> vec4f {
  workgroupBarrier();
  weights[lane.column][lane.row] = value;
  workgroupBarrier();
  var sum = vec4f();
  for (var x = 0u; x < COLUMN_LANES; x++) {
    sum += weights[x][lane.row];
  }
  return sum;
}

@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.heads, params.time, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = rows_of(at, lane);
  let query_places = place_of(queries);
  let ends = ends_of_seen(queries);
  let query_masks = masks_of_queries(at.batch, queries);
  let hash = text_hash(text_seed(at.batch));
  var sums = Sums();
  var largest = vec4f(ABSENT_SCORE);
  // Each invocation sums the weights of its own columns until the end.
  var total = vec4f();
  for (var first = first_tile(first_key(at.first)); first < end_of_keys(at.first + ROWS - 1u); first += COLUMNS) {
    var scores = q_k_products(at, lane, q_rows(at.batch, at.head), k_rows(at.batch, kv_head), first);
    let keys = columns_of(lane, first);
    let key_places = place_of(keys);
    var tops = vec4f(ABSENT_SCORE);
    for (var j = 0u; j < 4u; j++) {
      let pairs = table_index(at.head, query_places, vec4u(key_places[j]));
      let score = masked(biased(score_of(scores[j]), pairs), query_masks, vec4i(mask_of_key(at.batch, keys[j])));
      scores[j] = seen(score, queries, vec4u(keys[j]), ends);
      tops = max(tops, scores[j]);
    }
    weights[lane.column][lane.row] = tops;
    workgroupBarrier();
    var new_largest = largest;
    for (var x = 0u; x < COLUMN_LANES; x++) {
      new_largest = max(new_largest, weights[x][lane.row]);
    }
    workgroupBarrier();
    let shrink = exp(largest - new_largest);
    largest = new_largest;
    total *= shrink;
    for (var j = 0u; j < 4u; j++) {
      scores[j] = exp(scores[j] - largest);
      total += scores[j];
    }
    if (params.dropping != 0u) {
      let elements = (at.head * params.time + queries) * params.keys + keys.x;
      let kept = kept_weights(hash, elements, NEXT_COLUMN);
      for (var j = 0u; j < 4u; j++) {
        scores[j] *= mask_factors(kept, j);
      }
    }
    store_weights(lane, scores);
    for (var i = 0u; i < 4u; i++) {
      for (var o = 0u; o < LANE_VECTORS; o++) {
        sums[i][o] *= shrink[i];
      }
    }
    add_weighted_v(lane, v_rows(at.batch, kv_head), first, 0u, &sums);
    add_weighted_v(lane, v_rows(at.batch, kv_head), first, AT_ONCE, &sums);
    add_weighted_v(lane, v_rows(at.batch, kv_head), first, 2u * AT_ONCE, &sums);
    add_weighted_v(lane, v_rows(at.batch, kv_head), first, 3u * AT_ONCE, &sums);
  }
  let row_totals = sum_of_lanes(lane, total);
  for (var i = 0u; i < 4u; i++) {
    if (queries[i] < params.time) {
      let out = place(y_rows(at.batch, at.head), queries[i]);
      for (var o = 0u; o < LANE_VECTORS; o++) {
        let vector = o * COLUMN_LANES + lane.column;
        if (vector < VECTORS) {
          y[out + vector] = sums[i][o] / row_totals[i];
        }
      }
      if (lane.column == 0u) {
        lse[row_index(at.batch, at.head, queries[i])] = largest[i] + log(row_totals[i]);
      }
    }
  }
}

@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn temp_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.heads, params.time, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let rows = y_rows(at.batch, at.head);
  let queries = rows_of(at, lane);
  var lane_sums = vec4f();
  for (var vector = lane.column; vector < VECTORS; vector += COLUMN_LANES) {
    for (var i = 0u; i < 4u; i++) {
      let index = place(rows, queries[i]) + vector;
      lane_sums[i] += dot(dy[index], y[index]);
    }
  }
  let delta = sum_of_lanes(lane, lane_sums);
  if (lane.column == 0u) {
    for (var i = 0u; i < 4u; i++) {
      if (queries[i] < params.time) {
        let row = row_index(at.batch, at.head, queries[i]);
        statistics[row] = vec4u(bitcast<u32>(lse[row]), bitcast<u32>(delta[i]), text_seed(at.batch));
      }
    }
  }
}

@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn grad_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.heads, params.time, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = rows_of(at, lane);
  let hash = text_hash(statistics[row_index(at.batch, at.head, 0u)].zw);
  var row_lse = vec4f();
  var delta = vec4f();
  for (var i = 0u; i < 4u; i++) {
    let row_statistics = statistics[row_index(at.batch, at.head, min(queries[i], params.time - 1u))];
    row_lse[i] = bitcast<f32>(row_statistics.x);
    delta[i] = bitcast<f32>(row_statistics.y);
  }
  var sums = Sums();
  for (var first = first_tile(first_key(at.first)); first < end_of_keys(at.first + ROWS - 1u); first += COLUMNS) {
    var scores = q_k_products(at, lane, q_rows(at.batch, at.head), k_rows(at.batch, kv_head), first);
    let keys = columns_of(lane, first);
    let key_places = place_of(keys);
    let ends = ends_of_seen(queries);
    let query_masks = masks_of_queries(at.batch, queries);
    for (var j = 0u; j < 4u; j++) {
      let score = score_of(scores[j]);
      let pairs = table_index(at.head, place_of(queries), vec4u(key_places[j]));
      let shown = masked(biased(score, pairs), query_masks, vec4i(mask_of_key(at.batch, keys[j])));
      scores[j] = before_cap(exp(seen(shown, queries, vec4u(keys[j]), ends) - row_lse), score);
    }
    let gradients = dy_v_products(at, lane, y_rows(at.batch, at.head), v_rows(at.batch, kv_head), first);
    let kept = kept_weights(hash, (at.head * params.time + queries) * params.keys + keys.x, NEXT_COLUMN);
    for (var j = 0u; j < 4u; j++) {
      scores[j] *= gradients[j] * mask_factors(kept, j) - delta;
    }
    store_weights(lane, scores);
    add_weighted_k(lane, k_rows(at.batch, kv_head), first, 0u, &sums);
    add_weighted_k(lane, k_rows(at.batch, kv_head), first, AT_ONCE, &sums);
    add_weighted_k(lane, k_rows(at.batch, kv_head), first, 2u * AT_ONCE, &sums);
    add_weighted_k(lane, k_rows(at.batch, kv_head), first, 3u * AT_ONCE, &sums);
    let related = related_keys(at, first);
    add_weighted_related(lane, related, 0u, &sums);
    add_weighted_related(lane, related, 1u, &sums);
    add_weighted_related(lane, related, 2u, &sums);
    add_weighted_related(lane, related, 3u, &sums);
  }
  for (var i = 0u; i < 4u; i++) {
    if (queries[i] < params.time) {
      let out = place(q_rows(at.batch, at.head), queries[i]);
      for (var o = 0u; o < LANE_VECTORS; o++) {
        let vector = o * COLUMN_LANES + lane.column;
        if (vector < VECTORS) {
          dq[out + vector] = sums[i][o] * params.scale;
        }
      }
    }
  }
}

// The sums over queries for the keys of an invocation.
struct KeySums {
  dk: Sums,
  dv: Sums,
}

fn key_sums(at: Block, lane: Lane, sums_dv: bool) -> KeySums {
  let keys = rows_of(at, lane);
  let key_masks = masks_of_keys(at.batch, keys);
  let end = end_of_queries(at.first + ROWS - 1u);
  var dk_sums = Sums();
  var dv_sums = Sums();
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    let hash = text_hash(statistics[row_index(at.batch, head, 0u)].zw);
    for (var first = first_tile(first_query(at.first)); first < end; first += COLUMNS) {
      var scores = k_q_products(at, head, lane, k_rows(at.batch, at.head), q_rows(at.batch, head), first);
      let queries = columns_of(lane, first);
      let query_places = place_of(queries);
      var capped = Scores();
      for (var j = 0u; j < 4u; j++) {
        let row_lse = bitcast<f32>(statistics[row_index(at.batch, head, min(queries[j], params.time - 1u))].x);
        capped[j] = score_of(scores[j]);
        let pairs = table_index(head, vec4u(query_places[j]), place_of(keys));
        let score = masked(biased(capped[j], pairs), vec4i(mask_of_query(at.batch, queries[j])), key_masks);
        scores[j] = exp(seen(score, vec4u(queries[j]), keys, vec4u(end_of_seen(queries[j]))) - row_lse);
      }
      var gradients = v_dy_products(at, lane, v_rows(at.batch, at.head), y_rows(at.batch, head), first);
      let kept = kept_weights(hash, (head * params.time + queries.x) * params.keys + keys, NEXT_COLUMN * params.keys);
      for (var j = 0u; j < 4u; j++) {
        let delta = bitcast<f32>(statistics[row_index(at.batch, head, min(queries[j], params.time - 1u))].y);
        let factors = mask_factors(kept, j);
        gradients[j] = before_cap(scores[j] * (gradients[j] * factors - delta), capped[j]);
        scores[j] *= factors;
      }
      if (sums_dv) {
        store_weights(lane, scores);
        add_weighted_dy(lane, y_rows(at.batch, head), first, 0u, &dv_sums);
        add_weighted_dy(lane, y_rows(at.batch, head), first, AT_ONCE, &dv_sums);
        add_weighted_dy(lane, y_rows(at.batch, head), first, 2u * AT_ONCE, &dv_sums);
        add_weighted_dy(lane, y_rows(at.batch, head), first, 3u * AT_ONCE, &dv_sums);
        workgroupBarrier();
      }
      store_weights(lane, gradients);
      add_weighted_q(lane, q_rows(at.batch, head), first, 0u, &dk_sums);
      add_weighted_q(lane, q_rows(at.batch, head), first, AT_ONCE, &dk_sums);
      add_weighted_q(lane, q_rows(at.batch, head), first, 2u * AT_ONCE, &dk_sums);
      add_weighted_q(lane, q_rows(at.batch, head), first, 3u * AT_ONCE, &dk_sums);
      let related = related_queries(at, head, first);
      add_weighted_related(lane, related, 0u, &dk_sums);
      add_weighted_related(lane, related, 1u, &dk_sums);
      add_weighted_related(lane, related, 2u, &dk_sums);
      add_weighted_related(lane, related, 3u, &dk_sums);
    }
  }
  return KeySums(dk_sums, dv_sums);
}

fn write_dk(lane: Lane, rows: Rows, keys: vec4u, factor: f32, sums: ptr<function, Sums>) {
  for (var i = 0u; i < 4u; i++) {
    if (keys[i] <= rows.last) {
      for (var o = 0u; o < LANE_VECTORS; o++) {
        let vector = o * COLUMN_LANES + lane.column;
        if (vector < VECTORS) {
          dk[place(rows, keys[i]) + vector] = (*sums)[i][o] * factor;
        }
      }
    }
  }
}

fn write_dv(lane: Lane, rows: Rows, keys: vec4u, sums: ptr<function, Sums>) {
  for (var i = 0u; i < 4u; i++) {
    if (keys[i] <= rows.last) {
      for (var o = 0u; o < LANE_VECTORS; o++) {
        let vector = o * COLUMN_LANES + lane.column;
        if (vector < VECTORS) {
          dv[place(rows, keys[i]) + vector] = (*sums)[i][o];
        }
      }
    }
  }
}

@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn grad_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.kv_heads, params.keys, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let sums = key_sums(at, lane, true);
  var dk_sums = sums.dk;
  var dv_sums = sums.dv;
  write_dk(lane, k_rows(at.batch, at.head), rows_of(at, lane), params.scale, &dk_sums);
  write_dv(lane, v_rows(at.batch, at.head), rows_of(at, lane), &dv_sums);
}

// As grad_k_v, but dk and dv are parts of one fused q|k|v gradient, which WebGPU lets us bind for writing only once.
@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn grad_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.kv_heads, params.keys, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let sums = key_sums(at, lane, true);
  var dk_sums = sums.dk;
  var dv_sums = sums.dv;
  write_dk(lane, k_rows(at.batch, at.head), rows_of(at, lane), params.scale, &dk_sums);
  write_dk(lane, v_rows(at.batch, at.head), rows_of(at, lane), 1.0, &dv_sums);
}

@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn grad_k(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.kv_heads, params.keys, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  var dk_sums = key_sums(at, lane, false).dk;
  write_dk(lane, k_rows(at.batch, at.head), rows_of(at, lane), params.scale, &dk_sums);
}

// The gradient of v alone reads neither v nor y, so that they need not be kept.
@compute @workgroup_size(COLUMN_LANES, ROW_LANES)
fn grad_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = block(params.kv_heads, params.keys, group, groups);
  let lane = lane_of(local);
  if (at.batch >= params.batch) {
    return;
  }
  let keys = rows_of(at, lane);
  let key_masks = masks_of_keys(at.batch, keys);
  let end = end_of_queries(at.first + ROWS - 1u);
  let hash = text_hash(text_seed(at.batch));
  var sums = Sums();
  let heads_per_kv = params.heads / params.kv_heads;
  for (var g = 0u; g < heads_per_kv; g++) {
    let head = at.head * heads_per_kv + g;
    for (var first = first_tile(first_query(at.first)); first < end; first += COLUMNS) {
      var scores = k_q_products(at, head, lane, k_rows(at.batch, at.head), q_rows(at.batch, head), first);
      let queries = columns_of(lane, first);
      let query_places = place_of(queries);
      let kept = kept_weights(hash, (head * params.time + queries.x) * params.keys + keys, NEXT_COLUMN * params.keys);
      for (var j = 0u; j < 4u; j++) {
        let row_lse = lse[row_index(at.batch, head, min(queries[j], params.time - 1u))];
        let pairs = table_index(head, vec4u(query_places[j]), place_of(keys));
        let score = masked(biased(score_of(scores[j]), pairs), vec4i(mask_of_query(at.batch, queries[j])), key_masks);
        let shown = seen(score, vec4u(queries[j]), keys, vec4u(end_of_seen(queries[j])));
        scores[j] = exp(shown - row_lse) * mask_factors(kept, j);
      }
      store_weights(lane, scores);
      add_weighted_dy(lane, y_rows(at.batch, head), first, 0u, &sums);
      add_weighted_dy(lane, y_rows(at.batch, head), first, AT_ONCE, &sums);
      add_weighted_dy(lane, y_rows(at.batch, head), first, 2u * AT_ONCE, &sums);
      add_weighted_dy(lane, y_rows(at.batch, head), first, 3u * AT_ONCE, &sums);
    }
  }
  write_dv(lane, v_rows(at.batch, at.head), keys, &sums);
}
