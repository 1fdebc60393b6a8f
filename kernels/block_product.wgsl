// c[t, i, j] (+)= sum_k a[t, i, k] b[t, k, j] for every block t of a block-diagonal product, or every matrix of a stack; in `plus`,
// c = product_factor a b + d_factor d
//
// Shapes: a [blocks, m, k], b [blocks, k, n], c, d [blocks, m, n]. Where an element lies follows from strides, by which blocks may be
// columns of one matrix; neighbours in a row of c and d lie side by side. Threads: a workgroup of 8 x 8 invocations computes a tile of
// 32 x 32 elements of one block, each invocation 4 x 4; 16 steps of k at a time are copied to workgroup memory, steps past the edge as
// zeros. Range: sums in f32 in the order of k. Limits: fewer than 2^32 elements in any tensor.

#import lib/group

const SIDE: u32 = 8u;
const TILE: u32 = 32u;
const DEPTH: u32 = 16u;

struct Params {
  blocks: u32,
  m: u32,
  n: u32,
  k: u32,
  a_block: u32,
  a_row: u32,
  a_column: u32,
  b_block: u32,
  b_row: u32,
  b_column: u32,
  c_block: u32,
  c_row: u32,
  accumulate: u32,
  product_factor: f32,
  d_factor: f32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> d: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

// Four rows of a, and four columns of b, at each of DEPTH steps.
var<workgroup> a_tile: array<vec4f, DEPTH * SIDE>;
var<workgroup> b_tile: array<vec4f, DEPTH * SIDE>;

// Where a workgroup's tile begins.
struct Place {
  block: u32,
  row: u32,
  column: u32,
}

fn place_of(index: u32) -> Place {
  let across = (params.n + TILE - 1u) / TILE;
  let per_block = across * ((params.m + TILE - 1u) / TILE);
  let tile = index % per_block;
  return Place(index / per_block, tile / across * TILE, tile % across * TILE);
}

// Past the edge, some other element is read, and not used.
fn a_element(block: u32, i: u32, k: u32) -> f32 {
  let element = a[block * params.a_block + i * params.a_row + k * params.a_column];
  return select(0.0, element, i < params.m && k < params.k);
}

fn b_element(block: u32, k: u32, j: u32) -> f32 {
  let element = b[block * params.b_block + k * params.b_row + j * params.b_column];
  return select(0.0, element, k < params.k && j < params.n);
}

// Neighbouring lanes read along the axis on which elements are neighbours.
fn copy_tiles(tile: Place, k0: u32, lane: u32) {
  for (var index = lane; index < DEPTH * SIDE; index += GROUP) {
    let along = vec2u(index % DEPTH, index / DEPTH);
    let across = vec2u(index / SIDE, index % SIDE);
    let of_a = select(across, along, params.a_column == 1u);
    let of_b = select(along, across, params.b_column == 1u);
    let row = tile.row + 4u * of_a.y;
    let column = tile.column + 4u * of_b.y;
    let a_step = k0 + of_a.x;
    let b_step = k0 + of_b.x;
    a_tile[of_a.x * SIDE + of_a.y] = vec4f(
      a_element(tile.block, row, a_step),
      a_element(tile.block, row + 1u, a_step),
      a_element(tile.block, row + 2u, a_step),
      a_element(tile.block, row + 3u, a_step),
    );
    b_tile[of_b.x * SIDE + of_b.y] = vec4f(
      b_element(tile.block, b_step, column),
      b_element(tile.block, b_step, column + 1u),
      b_element(tile.block, b_step, column + 2u),
      b_element(tile.block, b_step, column + 3u),
    );
  }
}

fn sums_of(tile: Place, lane: u32) -> array<vec4f, 4> {
  let own = vec2u(lane / SIDE, lane % SIDE);
  var first = vec4f();
  var second = vec4f();
  var third = vec4f();
  var fourth = vec4f();
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    workgroupBarrier();
    copy_tiles(tile, k0, lane);
    workgroupBarrier();
    // The end is a number that compilers do not know: LLVM, by which software adapters compile, takes long for the reads of all steps.
    for (var k = k0; k < min(params.k, k0 + DEPTH); k += 4u) {
      for (var step = 0u; step < 4u; step++) {
        let of_a = a_tile[(k - k0 + step) * SIDE + own.x];
        let of_b = b_tile[(k - k0 + step) * SIDE + own.y];
        first = fma(vec4f(of_a.x), of_b, first);
        second = fma(vec4f(of_a.y), of_b, second);
        third = fma(vec4f(of_a.z), of_b, third);
        fourth = fma(vec4f(of_a.w), of_b, fourth);
      }
    }
  }
  return array<vec4f, 4>(first, second, third, fourth);
}

// The end of the rows of c that an invocation writes. Compilers do not know it, so that the code has four stores rather than 16, which
// would take LLVM, by which software adapters compile, longer; the next row is moved to the first place each time.
fn end_of_rows(tile: Place, lane: u32) -> u32 {
  return min(tile.row + 4u * (lane / SIDE) + 4u, params.m);
}

@compute @workgroup_size(GROUP)
fn product(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = place_of(group.y * groups.x + group.x);
  if (tile.block >= params.blocks) {
    return;
  }
  var sums = sums_of(tile, local.x);
  let column = tile.column + 4u * (local.x % SIDE);
  for (var row = tile.row + 4u * (local.x / SIDE); row < end_of_rows(tile, local.x); row++) {
    for (var j = 0u; j < 4u; j++) {
      if (column + j < params.n) {
        let at = tile.block * params.c_block + row * params.c_row + column + j;
        var sum = sums[0][j];
        if (params.accumulate != 0u) {
          sum += c[at];
        }
        c[at] = sum;
      }
    }
    sums = array<vec4f, 4>(sums[1], sums[2], sums[3], sums[3]);
  }
}

@compute @workgroup_size(GROUP)
fn plus(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = place_of(group.y * groups.x + group.x);
  if (tile.block >= params.blocks) {
    return;
  }
  var sums = sums_of(tile, local.x);
  let column = tile.column + 4u * (local.x % SIDE);
  for (var row = tile.row + 4u * (local.x / SIDE); row < end_of_rows(tile, local.x); row++) {
    for (var j = 0u; j < 4u; j++) {
      if (column + j < params.n) {
        let at = tile.block * params.c_block + row * params.c_row + column + j;
        c[at] = params.product_factor * sums[0][j] + params.d_factor * d[at];
      }
    }
    sums = array<vec4f, 4>(sums[1], sums[2], sums[3], sums[3]);
  }
}
