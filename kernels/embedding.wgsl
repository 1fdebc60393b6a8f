// y[i] = table[ids[i]], or zeros if the id is outside the table (the host refuses such ids)
//   dtable[r] = sum of dy[i] over the tokens i with ids[i] = r, in order of i
//
// There are no atomics, so that every run gives the same bits. `temp_chain` finds for each token the tokens before and
// after it that have the same id. `grad_table_zero` clears dtable, unless the gradient accumulates. In `grad_table`,
// the first token of each id follows its chain and adds the sum to its row. A launch binds `table_rows` rows of the
// table from `table_row0` on, and `tokens` tokens from `token0` on. It processes only the ids in its range of rows, and
// only the links of a chain in its range of tokens.
//
// Shapes: table, dtable [v, columns], ids [tokens], y, dy [tokens, columns], chain [all tokens, 2]. Threads: in
// `forward` a workgroup for each token; in `temp_chain` one invocation for each token, with up to `tokens` comparisons;
// in `grad_table` a workgroup for each token and 64 elements of a row; in `grad_table_zero` one invocation for each element.
// Range: any. Limits: ids fit one binding in `temp_chain`; other tensors may be cut.

#import lib/half_numbers

const NONE: u32 = 0xffffffffu;
// Storage format of the table: f32, f16 or bf16.
const FORMAT: u32 = 0u;
const F32: u32 = 0u;

// Only `grad_table_zero` reads `count`. `vocabulary` is the number of rows of the complete table.
struct Params {
  tokens: u32,
  token0: u32,
  columns: u32,
  vocabulary: u32,
  table_row0: u32,
  table_rows: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read> table: array<Index>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read_write> chain: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<Element>;
@group(0) @binding(5) var<storage, read_write> dtable: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;
// The ids of all tokens, in `temp_chain`.
@group(0) @binding(7) var<storage, read> all_ids: array<Index>;

fn table_element(i: u32) -> Element {
  if (FORMAT == F32) {
    return bitcast<Element>(table[i]);
  }
  return widened(table[i / 2u], i % 2u);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let token = group.y * groups.x + group.x;
  if (token >= params.tokens) {
    return;
  }
  // A negative id becomes a large one, which is outside the table.
  let id = u32(ids[token]);
  let is_valid = id < params.vocabulary;
  let is_bound = is_valid && id >= params.table_row0 && id - params.table_row0 < params.table_rows;
  if (!is_bound && (is_valid || params.table_row0 != 0u)) {
    return;
  }
  let columns = params.columns / WIDTH;
  for (var j = local.x; j < columns; j += GROUP) {
    var value = Element();
    if (is_bound) {
      value = table_element((id - params.table_row0) * columns + j);
    }
    y[token * columns + j] = value;
  }
}

@compute @workgroup_size(GROUP)
fn temp_chain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let token = (group.y * groups.x + group.x) * GROUP + local.x;
  if (token >= params.tokens) {
    return;
  }
  let id = Index(word(all_ids[token / WIDTH], token % WIDTH));
  var before = NONE;
  for (var i = token / WIDTH + 1u; i > 0u; i--) {
    let tokens = number_indices(i - 1u);
    let is_same = (all_ids[i - 1u] == id) & (tokens < Index(token));
    if (any(is_same)) {
      before = largest_index(select(Index(), tokens, is_same));
      break;
    }
  }
  var after = NONE;
  for (var i = token / WIDTH; i * WIDTH < params.tokens; i++) {
    let tokens = number_indices(i);
    let is_same = (all_ids[i] == id) & (tokens > Index(token));
    if (any(is_same)) {
      // The smallest.
      after = ~largest_index(select(Index(), ~tokens, is_same));
      break;
    }
  }
  chain[2u * token] = before;
  chain[2u * token + 1u] = after;
}

@compute @workgroup_size(GROUP)
fn grad_table_zero(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dtable[i] = Element();
  }
}

@compute @workgroup_size(GROUP)
fn grad_table(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let columns = params.columns / WIDTH;
  let per_row = (columns + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  let token = index / per_row;
  let column = (index % per_row) * GROUP + local.x;
  if (token >= params.tokens || column >= columns) {
    return;
  }
  let id = u32(ids[token]);
  if (id < params.table_row0 || id - params.table_row0 >= params.table_rows) {
    return;
  }
  let before = chain[2u * token];
  if (before != NONE && before >= params.token0) {
    return;
  }
  var sum = Element();
  var current = token;
  loop {
    sum += dy[current * columns + column];
    let after = chain[2u * current + 1u];
    if (after == NONE || after - params.token0 >= params.tokens) {
      break;
    }
    current = after - params.token0;
  }
  dtable[(id - params.table_row0) * columns + column] += sum;
}
