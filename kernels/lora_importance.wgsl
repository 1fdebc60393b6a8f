// y[i] (+)= sum_j |g[i, j] (w + scale B A)[i, j]|,  g = dB A + B dA - dB dA, the gradient of w as LoRA's own give it
// (LoRAPrune, Zhang et al. 2023), over the rows or over the columns of w
//
// Shapes: w [rows, columns] as it is stored, bound for rows [row0, row0 + count); a, da [rank, in], db, b [out, rank], where a
// row of w is an output, or an input if `transposed`; y [rows] or, if `by_columns`, [columns].
// Threads: a workgroup for each element of y, strided over what is summed. Range: any. Limits: a, b, da, db fit a binding.

const GROUP: u32 = 64u;
const BRANCH: u32 = 8u;

struct Params {
  count: u32,
  row0: u32,
  columns: u32,
  inputs: u32,
  rank: u32,
  transposed: u32,
  by_columns: u32,
  accumulate: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> da: array<f32>;
@group(0) @binding(4) var<storage, read> db: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> lanes: array<f32, GROUP>;
var<workgroup> branches: array<f32, BRANCH>;

// Sum over the workgroup, in a fixed order: eight lanes at a time, then the eight sums.
fn group_sum(own: f32, lane: u32) -> f32 {
  lanes[lane] = own;
  workgroupBarrier();
  if (lane < BRANCH) {
    var branch = lanes[lane * BRANCH];
    for (var i = 1u; i < BRANCH; i++) {
      branch += lanes[lane * BRANCH + i];
    }
    branches[lane] = branch;
  }
  workgroupBarrier();
  var sum = branches[0];
  for (var i = 1u; i < BRANCH; i++) {
    sum += branches[i];
  }
  return sum;
}

fn importance(row: u32, col: u32) -> f32 {
  let out = select(params.row0 + row, col, params.transposed != 0u);
  let at = select(col, params.row0 + row, params.transposed != 0u);
  var gradient = 0.0;
  var update = 0.0;
  for (var r = 0u; r < params.rank; r++) {
    let own_a = a[r * params.inputs + at];
    let own_b = b[out * params.rank + r];
    let own_db = db[out * params.rank + r];
    let own_da = da[r * params.inputs + at];
    gradient += own_db * own_a + own_b * own_da - own_db * own_da;
    update = fma(own_b, own_a, update);
  }
  return abs(gradient * fma(params.scale, update, w[row * params.columns + col]));
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.y * groups.x + group.x;
  if (index >= select(params.count, params.columns, params.by_columns != 0u)) {
    return;
  }
  var own = 0.0;
  if (params.by_columns != 0u) {
    for (var row = local.x; row < params.count; row += GROUP) {
      own += importance(row, index);
    }
  } else {
    for (var col = local.x; col < params.columns; col += GROUP) {
      own += importance(index, col);
    }
  }
  let sum = group_sum(own, local.x);
  if (local.x == 0u) {
    let place = select(params.row0 + index, index, params.by_columns != 0u);
    if (params.accumulate != 0u) {
      y[place] += sum;
    } else {
      y[place] = sum;
    }
  }
}
