// The attention of attention.wgsl in tiles, for adapters whose subgroups all have SUBGROUP invocations.
//
// Formulas: as there; sums over keys (or queries) are taken tile by tile, so results differ by rounding. The entries that it
// has take the place of those there, and bind the same.
// Shapes, strides and Params: as there.
// Threads: a workgroup is one subgroup, and works on ROWS rows of one head. A tile is its ROWS rows by SUBGROUP * COLUMNS
// rows of the other side, of which each invocation has COLUMNS, SUBGROUP apart. Scores are a product of these two, in which
// an invocation gets its neighbours' elements of the ROWS rows by shuffles (as in product_subgroup.wgsl); what the weights
// are summed into is another, in which each invocation holds every SUBGROUP-th element of HEAD.
// ROWS is a multiple of SUBGROUP. Range: as there; a key that does not exist, or lies ahead, weighs exactly 0.
// Loads take four neighbours at once where they can: on a software adapter that is what a load costs most for. Loops over a
// tile's rows are short, each for one thing: where one is not unrolled, llvmpipe keeps the tile in memory, lane by lane.
// Limits: HEAD a multiple of 4 up to 128, since ROWS * HEAD / SUBGROUP sums are held in registers.

enable subgroups;
requires unrestricted_pointer_parameters;

const HEAD: u32 = 8u;
const SUBGROUP: u32 = 8u;
const ROWS: u32 = 16u;
const COLUMNS: u32 = 2u;
const HIDDEN_SCORE: f32 = -3.0e38;
const ABSENT_SCORE: f32 = -3.4e38;

// Neighbouring elements of a row of one head that an invocation reads at once where it sums.
const PACK: u32 = select(1u, 4u, HEAD % (4u * SUBGROUP) == 0u);
// Elements of a row of one head that an invocation sums, and rows of the workgroup that it reads itself.
const OWN: u32 = (HEAD + SUBGROUP - 1u) / SUBGROUP;
const OWN_ROWS: u32 = ROWS / SUBGROUP;

struct Params {
  batch: u32,
  batch0: u32,
  time: u32,
  heads: u32,
  kv_heads: u32,
  q_row: u32,
  q_offset: u32,
  k_row: u32,
  k_offset: u32,
  v_row: u32,
  v_offset: u32,
  causal: u32,
  scale: f32,
  salt: u32,
  keep_threshold: u32,
  keep_scale: f32,
  dropping: u32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> mask: array<i32>;
@group(0) @binding(4) var<storage, read> seed: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> statistics: array<vec4u>;
@group(0) @binding(9) var<storage, read_write> dq: array<f32>;
@group(0) @binding(10) var<storage, read_write> dk: array<f32>;
@group(0) @binding(11) var<storage, read_write> dv: array<f32>;
@group(0) @binding(12) var<uniform> params: Params;

alias Tile = array<array<f32, COLUMNS>, ROWS>;
alias Sums = array<array<f32, OWN>, ROWS>;

// The ROWS rows of one head that this workgroup works on: which batch row (within this launch), head, and first time.
struct Block {
  batch: u32,
  head: u32,
  first: u32,
}

fn block(heads: u32, group: vec3u, groups: vec3u) -> Block {
  let blocks = (params.time + ROWS - 1u) / ROWS;
  let index = group.y * groups.x + group.x;
  let row = index / blocks;
  return Block(row / heads, row % heads, (index % blocks) * ROWS);
}

fn row_index(batch: u32, head: u32, time: u32) -> u32 {
  return (batch * params.heads + head) * params.time + time;
}

// Two words for each text of the whole batch: a text has one mask whatever batch it stands in.
fn text_seed(batch: u32) -> vec2u {
  let text = params.batch0 + batch;
  return vec2u(seed[2u * text], seed[2u * text + 1u]);
}

// pcg3d of Jarzynski and Olano (2020), first component: what is the same for all elements of a text, and the rest. The
// element index counts [heads, time, time] of one text.
fn text_hash(seeds: vec2u) -> vec2u {
  return vec2u(params.salt ^ seeds.y, seeds.x) * 1664525u + 1013904223u;
}

fn kept(hash: vec2u, row: u32, key: u32) -> f32 {
  var r = vec3u((row * params.time + key) * 1664525u + 1013904223u, hash);
  r.x += r.y * r.z;
  r.y += r.z * r.x;
  r.z += r.x * r.y;
  r ^= r >> vec3u(16u);
  r.x += r.y * r.z;
  return select(0.0, params.keep_scale, r.x < params.keep_threshold);
}

fn is_hidden(batch: u32, key: u32) -> bool {
  return mask[batch * params.time + min(key, params.time - 1u)] == 0;
}

// The score of a query and a key of this head.
fn score_of(dot: f32, hidden: bool, query: u32, key: u32) -> f32 {
  let absent = key >= params.time || (params.causal != 0u && key > query);
  return select(select(dot * params.scale, HIDDEN_SCORE, hidden), ABSENT_SCORE, absent);
}

// Where rows of one head lie in a table: the first element of the row at time 0, and the length of a row.
struct Rows {
  start: u32,
  row: u32,
}

fn q_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.time * params.q_row + params.q_offset + head * HEAD, params.q_row);
}

fn k_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.time * params.k_row + params.k_offset + head * HEAD, params.k_row);
}

fn v_rows(batch: u32, head: u32) -> Rows {
  return Rows(batch * params.time * params.v_row + params.v_offset + head * HEAD, params.v_row);
}

fn y_rows(batch: u32, head: u32) -> Rows {
  return Rows((batch * params.time * params.heads + head) * HEAD, params.heads * HEAD);
}

// Rows past the end repeat the last one; they are never written, and their keys and queries weigh nothing.
fn element(rows: Rows, time: u32) -> u32 {
  return rows.start + min(time, params.time - 1u) * rows.row;
}

// The c-th element of a row of one head that an invocation sums.
fn column_of(c: u32, lane: u32) -> u32 {
  return ((c / PACK) * SUBGROUP + lane) * PACK + c % PACK;
}

alias Table = ptr<storage, array<vec4f>, read>;

// dots[i][j] = left[first + i] . right[other + j * SUBGROUP + lane]
fn dots(left: Table, left_rows: Rows, first: u32, right: Table, right_rows: Rows, other: u32, lane: u32) -> Tile {
  var found = Tile();
  var column: array<u32, COLUMNS>;
  for (var j = 0u; j < COLUMNS; j++) {
    column[j] = element(right_rows, other + j * SUBGROUP + lane) / 4u;
  }
  var row: array<u32, OWN_ROWS>;
  for (var i = 0u; i < OWN_ROWS; i++) {
    row[i] = element(left_rows, first + i * SUBGROUP + lane) / 4u;
  }
  for (var c = 0u; c < HEAD / 4u; c++) {
    var own: array<vec4f, OWN_ROWS>;
    for (var i = 0u; i < OWN_ROWS; i++) {
      own[i] = left[row[i] + c];
    }
    var theirs: array<vec4f, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      theirs[j] = right[column[j] + c];
    }
    for (var i = 0u; i < ROWS; i++) {
      var mine: array<f32, 4>;
      for (var s = 0u; s < 4u; s++) {
        mine[s] = subgroupShuffle(own[i / SUBGROUP][s], i % SUBGROUP);
      }
      for (var j = 0u; j < COLUMNS; j++) {
        for (var s = 0u; s < 4u; s++) {
          found[i][j] = fma(mine[s], theirs[j][s], found[i][j]);
        }
      }
    }
  }
  return found;
}

// sums[i][c] += sum over the tile's columns of weights[i][column] table[column][c]; a column's weights lie with its lane.
fn add_weighted(table: Table, rows: Rows, first: u32, lane: u32, weights: ptr<function, Tile>, sums: ptr<function, Sums>) {
  for (var s = 0u; s < SUBGROUP; s++) {
    var values: array<array<f32, OWN>, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      let at = element(rows, first + j * SUBGROUP + s);
      for (var c = 0u; c < OWN; c += PACK) {
        let first_column = at + min(column_of(c, lane), HEAD - 1u);
        if (PACK == 4u) {
          let four = table[first_column / 4u];
          values[j][c] = four.x;
          values[j][c + 1u] = four.y;
          values[j][c + 2u] = four.z;
          values[j][c + 3u] = four.w;
        } else {
          values[j][c] = table[first_column / 4u][first_column % 4u];
        }
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      var weight: array<f32, COLUMNS>;
      for (var j = 0u; j < COLUMNS; j++) {
        weight[j] = subgroupShuffle((*weights)[i][j], s);
      }
      for (var c = 0u; c < OWN; c++) {
        var sum = (*sums)[i][c];
        for (var j = 0u; j < COLUMNS; j++) {
          sum = fma(weight[j], values[j][c], sum);
        }
        (*sums)[i][c] = sum;
      }
    }
  }
}

fn largest_of_all(own: f32) -> f32 {
  var most = own;
  for (var step = 1u; step < SUBGROUP; step *= 2u) {
    most = max(most, subgroupShuffleXor(most, step));
  }
  return most;
}

alias Written = ptr<storage, array<f32>, read_write>;

// Writes the sums of the workgroup's rows, each times a factor.
fn write_rows(table: Written, rows: Rows, first: u32, lane: u32, factor: f32, sums: ptr<function, Sums>) {
  // A copy, since this loop is not unrolled.
  var written = *sums;
  for (var i = 0u; i < ROWS; i++) {
    if (first + i < params.time) {
      let out = element(rows, first + i);
      for (var c = 0u; c < OWN; c++) {
        if (column_of(c, lane) < HEAD) {
          table[out + column_of(c, lane)] = written[i][c] * factor;
        }
      }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.heads, group, groups);
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
  let end = select(params.time, min(params.time, at.first + ROWS), params.causal != 0u);
  for (var key = 0u; key < end; key += SUBGROUP * COLUMNS) {
    var weights = dots(&q, queries, at.first, &k, keys, key, lane);
    var hidden: array<bool, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      hidden[j] = is_hidden(at.batch, key + j * SUBGROUP + lane);
    }
    var most = largest;
    for (var i = 0u; i < ROWS; i++) {
      let query = min(at.first + i, params.time - 1u);
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] = score_of(weights[i][j], hidden[j], query, key + j * SUBGROUP + lane);
        most[i] = max(most[i], weights[i][j]);
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      most[i] = largest_of_all(most[i]);
    }
    var shrink: array<f32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
      shrink[i] = exp(largest[i] - most[i]);
      largest[i] = most[i];
    }
    for (var i = 0u; i < ROWS; i++) {
      var sum = 0.0;
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] = exp(weights[i][j] - most[i]);
        sum += weights[i][j];
      }
      total[i] = fma(total[i], shrink[i], sum);
    }
    for (var i = 0u; i < ROWS; i++) {
      for (var c = 0u; c < OWN; c++) {
        sums[i][c] *= shrink[i];
      }
    }
    if (params.dropping != 0u) {
      for (var i = 0u; i < ROWS; i++) {
        let query = min(at.first + i, params.time - 1u);
        for (var j = 0u; j < COLUMNS; j++) {
          weights[i][j] *= kept(hash, at.head * params.time + query, key + j * SUBGROUP + lane);
        }
      }
    }
    add_weighted(&v, v_rows(at.batch, kv_head), key, lane, &weights, &sums);
  }
  for (var i = 0u; i < ROWS; i++) {
    let whole = subgroupAdd(total[i]);
    for (var c = 0u; c < OWN; c++) {
      sums[i][c] /= whole;
    }
    if (lane == 0u && at.first + i < params.time) {
      lse[row_index(at.batch, at.head, at.first + i)] = largest[i] + log(whole);
    }
  }
  write_rows(&y, y_rows(at.batch, at.head), at.first, lane, 1.0, &sums);
}

@compute @workgroup_size(SUBGROUP)
fn grad_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.heads, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  let kv_head = at.head * params.kv_heads / params.heads;
  let queries = q_rows(at.batch, at.head);
  let keys = k_rows(at.batch, kv_head);
  var sums: Sums;
  var own_lse: array<f32, OWN_ROWS>;
  var own_delta: array<f32, OWN_ROWS>;
  for (var i = 0u; i < OWN_ROWS; i++) {
    let known = statistics[row_index(at.batch, at.head, min(at.first + i * SUBGROUP + lane, params.time - 1u))];
    own_lse[i] = bitcast<f32>(known.x);
    own_delta[i] = bitcast<f32>(known.y);
  }
  let hash = text_hash(statistics[row_index(at.batch, at.head, 0u)].zw);
  let end = select(params.time, min(params.time, at.first + ROWS), params.causal != 0u);
  for (var key = 0u; key < end; key += SUBGROUP * COLUMNS) {
    var weights = dots(&q, queries, at.first, &k, keys, key, lane);
    var changes = dots(&dy, y_rows(at.batch, at.head), at.first, &v, v_rows(at.batch, kv_head), key, lane);
    var hidden: array<bool, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      hidden[j] = is_hidden(at.batch, key + j * SUBGROUP + lane);
    }
    for (var i = 0u; i < ROWS; i++) {
      let query = min(at.first + i, params.time - 1u);
      let row_lse = subgroupShuffle(own_lse[i / SUBGROUP], i % SUBGROUP);
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] = exp(score_of(weights[i][j], hidden[j], query, key + j * SUBGROUP + lane) - row_lse);
      }
    }
    if (params.dropping != 0u) {
      for (var i = 0u; i < ROWS; i++) {
        let query = min(at.first + i, params.time - 1u);
        for (var j = 0u; j < COLUMNS; j++) {
          changes[i][j] *= kept(hash, at.head * params.time + query, key + j * SUBGROUP + lane);
        }
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      let delta = subgroupShuffle(own_delta[i / SUBGROUP], i % SUBGROUP);
      for (var j = 0u; j < COLUMNS; j++) {
        weights[i][j] *= changes[i][j] - delta;
      }
    }
    add_weighted(&k, keys, key, lane, &weights, &sums);
  }
  write_rows(&dq, queries, at.first, lane, params.scale, &sums);
}

// The sums over queries that belong to the workgroup's keys.
struct KeySums {
  dk: Sums,
  dv: Sums,
}

// The same keys' share in the gradients of queries: table[query] += scale * sum over keys of changes[key][query] k[key], of
// which an invocation has the queries of its columns.
fn add_to_queries(table: Written, at: Block, rows: Rows, query: u32, lane: u32, changes: ptr<function, Tile>) {
  let keys = k_rows(at.batch, at.head);
  var row: array<u32, OWN_ROWS>;
  for (var i = 0u; i < OWN_ROWS; i++) {
    row[i] = element(keys, at.first + i * SUBGROUP + lane) / 4u;
  }
  for (var c = 0u; c < HEAD; c += 4u) {
    var own: array<vec4f, OWN_ROWS>;
    for (var i = 0u; i < OWN_ROWS; i++) {
      own[i] = k[row[i] + c / 4u] * params.scale;
    }
    var sums: array<vec4f, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
      let found = element(rows, query + j * SUBGROUP + lane) + c;
      sums[j] = vec4f();
      if (at.first > 0u) {
        sums[j] = vec4f(table[found], table[found + 1u], table[found + 2u], table[found + 3u]);
      }
    }
    for (var s = 0u; s < 4u; s++) {
      for (var i = 0u; i < ROWS; i++) {
        let key = subgroupShuffle(own[i / SUBGROUP][s], i % SUBGROUP);
        for (var j = 0u; j < COLUMNS; j++) {
          sums[j][s] = fma((*changes)[i][j], key, sums[j][s]);
        }
      }
    }
    for (var j = 0u; j < COLUMNS; j++) {
      if (query + j * SUBGROUP + lane < params.time) {
        let found = element(rows, query + j * SUBGROUP + lane) + c;
        for (var s = 0u; s < 4u; s++) {
          table[found + s] = sums[j][s];
        }
      }
    }
  }
}

// With `with_queries`, also adds to the gradients of queries in `of_queries`.
fn key_sums(at: Block, lane: u32, of_queries: Written, with_queries: bool) -> KeySums {
  var dk_sums: Sums;
  var dv_sums: Sums;
  let shared_by = params.heads / params.kv_heads;
  var own_hidden: array<u32, OWN_ROWS>;
  for (var i = 0u; i < OWN_ROWS; i++) {
    own_hidden[i] = u32(is_hidden(at.batch, at.first + i * SUBGROUP + lane));
  }
  for (var g = 0u; g < shared_by; g++) {
    let head = at.head * shared_by + g;
    let queries = q_rows(at.batch, head);
    let outputs = y_rows(at.batch, head);
    let hash = text_hash(statistics[row_index(at.batch, head, 0u)].zw);
    for (var query = select(0u, at.first, params.causal != 0u); query < params.time; query += SUBGROUP * COLUMNS) {
      var weights = dots(&k, k_rows(at.batch, at.head), at.first, &q, queries, query, lane);
      var changes = dots(&v, v_rows(at.batch, at.head), at.first, &dy, outputs, query, lane);
      var own_lse: array<f32, COLUMNS>;
      var own_delta: array<f32, COLUMNS>;
      for (var j = 0u; j < COLUMNS; j++) {
        let known = statistics[row_index(at.batch, head, min(query + j * SUBGROUP + lane, params.time - 1u))];
        own_lse[j] = bitcast<f32>(known.x);
        own_delta[j] = bitcast<f32>(known.y);
      }
      for (var i = 0u; i < ROWS; i++) {
        let hidden = subgroupShuffle(own_hidden[i / SUBGROUP], i % SUBGROUP) != 0u;
        for (var j = 0u; j < COLUMNS; j++) {
          let own = query + j * SUBGROUP + lane;
          let score = select(score_of(weights[i][j], hidden, own, at.first + i), ABSENT_SCORE, own >= params.time);
          weights[i][j] = exp(score - own_lse[j]);
        }
      }
      if (params.dropping == 0u) {
        for (var i = 0u; i < ROWS; i++) {
          for (var j = 0u; j < COLUMNS; j++) {
            changes[i][j] = weights[i][j] * (changes[i][j] - own_delta[j]);
          }
        }
      } else {
        for (var i = 0u; i < ROWS; i++) {
          for (var j = 0u; j < COLUMNS; j++) {
            let keep = kept(hash, head * params.time + query + j * SUBGROUP + lane, at.first + i);
            changes[i][j] = weights[i][j] * (changes[i][j] * keep - own_delta[j]);
            weights[i][j] *= keep;
          }
        }
      }
      if (with_queries) {
        add_to_queries(of_queries, at, queries, query, lane, &changes);
      }
      add_weighted(&q, queries, query, lane, &changes, &dk_sums);
      add_weighted(&dy, outputs, query, lane, &weights, &dv_sums);
    }
  }
  return KeySums(dk_sums, dv_sums);
}

@compute @workgroup_size(SUBGROUP)
fn grad_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums = key_sums(at, lane, &dk, false);
  write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
  write_rows(&dv, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
}

// The same into one fused q|k|v gradient, which WebGPU lets us bind for writing only once.
@compute @workgroup_size(SUBGROUP)
fn grad_k_v_fused(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let at = block(params.kv_heads, group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  var sums = key_sums(at, lane, &dk, false);
  write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
  write_rows(&dk, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
}

// The head of keys and values that this workgroup has whole, from its first row on.
fn whole_head(group: vec3u, groups: vec3u) -> Block {
  let index = group.y * groups.x + group.x;
  return Block(index / params.kv_heads, index % params.kv_heads, 0u);
}

// All gradients of one head of keys and values, block after block of its rows: what a block adds to the queries' gradients,
// an invocation finds again where it left it.
@compute @workgroup_size(SUBGROUP)
fn grad_q_k_v(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  var at = whole_head(group, groups);
  if (at.batch >= params.batch) {
    return;
  }
  for (; at.first < params.time; at.first += ROWS) {
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
  for (; at.first < params.time; at.first += ROWS) {
    var sums = key_sums(at, lane, &dk, true);
    write_rows(&dk, k_rows(at.batch, at.head), at.first, lane, params.scale, &sums.dk);
    write_rows(&dk, v_rows(at.batch, at.head), at.first, lane, 1.0, &sums.dv);
  }
}
