// y[i] = table[ids[i]]: a gather of rows; an id outside the table gives a row of zeros (the host refuses such ids)
//   dtable[r] = sum of dy[i] over the tokens i with ids[i] = r, in order of i: no atomics, so a run can be repeated
//
// `temp_chain` finds, for each token, the tokens before and after it that have the same id. `grad_table_zero` clears
// dtable (unless it accumulates); in `grad_table` the first token of each id then walks its chain and adds the sum to one
// row. A table beyond one binding is bound from `table_row0` on, `table_rows` of it at a time, and tokens likewise from
// `token0` on: a launch handles the ids of its range alone, and a chain is walked in as many parts as dy has.
//
// Shapes: table, dtable [v, columns], ids [tokens], y, dy [tokens, columns], chain [all tokens, 2].
// Threads: a workgroup a token for `forward`; one invocation a token for `temp_chain` (tokens^2 comparisons); a workgroup
// a token and 64 columns for `grad_table`; one invocation PER_INVOCATION elements of dtable for `grad_table_zero`.
// Range: any. Limits: ids fit one binding in `temp_chain`; every other table is cut.

const GROUP: u32 = 64u;
const PER_INVOCATION: u32 = 4u;
const NONE: u32 = 0xffffffffu;
// How the table is stored: f32, f16 or bf16.
const FORMAT: u32 = 0u;
const F32: u32 = 0u;
const F16: u32 = 1u;

// `count` belongs to `grad_table_zero`; `vocabulary` is the whole table's number of rows.
struct Params {
  tokens: u32,
  token0: u32,
  columns: u32,
  vocabulary: u32,
  table_row0: u32,
  table_rows: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> chain: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

fn table_at(index: u32) -> f32 {
  if (FORMAT == F32) {
    return bitcast<f32>(table[index]);
  }
  let word = table[index >> 1u];
  if (FORMAT == F16) {
    return unpack2x16float(word)[index & 1u];
  }
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (index & 1u) != 0u));
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let token = group.y * groups.x + group.x;
  if (token >= params.tokens) {
    return;
  }
  // A negative id becomes a large one.
  let id = u32(ids[token]);
  let known = id < params.vocabulary;
  let bound = known && id >= params.table_row0 && id - params.table_row0 < params.table_rows;
  if (!bound && (known || params.table_row0 != 0u)) {
    return;
  }
  for (var j = local.x; j < params.columns; j += GROUP) {
    var value = 0.0;
    if (bound) {
      value = table_at((id - params.table_row0) * params.columns + j);
    }
    y[token * params.columns + j] = value;
  }
}

@compute @workgroup_size(GROUP)
fn temp_chain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let token = (group.y * groups.x + group.x) * GROUP + local.x;
  if (token >= params.tokens) {
    return;
  }
  let id = ids[token];
  var before = NONE;
  for (var i = token; i > 0u; i--) {
    if (ids[i - 1u] == id) {
      before = i - 1u;
      break;
    }
  }
  var after = NONE;
  for (var i = token + 1u; i < params.tokens; i++) {
    if (ids[i] == id) {
      after = i;
      break;
    }
  }
  chain[2u * token] = before;
  chain[2u * token + 1u] = after;
}

@compute @workgroup_size(GROUP)
fn grad_table_zero(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      dtable[i] = 0.0;
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_table(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let across = (params.columns + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  let token = index / across;
  let column = (index % across) * GROUP + local.x;
  if (token >= params.tokens || column >= params.columns) {
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
  var sum = 0.0;
  var at = token;
  loop {
    sum += dy[at * params.columns + column];
    let after = chain[2u * at + 1u];
    if (after == NONE || after - params.token0 >= params.tokens) {
      break;
    }
    at = after - params.token0;
  }
  dtable[(id - params.table_row0) * params.columns + column] += sum;
}
