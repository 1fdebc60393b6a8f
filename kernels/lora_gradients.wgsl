// c[i, j] (+)= factor sum_k a[k, i] b[k, j],  second_c[j, i] (+)= factor sum_k second_a[k, j] second_b[k, i]
//
// Both gradients of a LoRA (Hu et al. 2021) in one dispatch: dA = scale u^T x and dB = scale dy^T z, in place of two products. `params`
// are those of the first product, `second` those of the other.
//
// Shapes: a [k, rank], b [k, in], c [rank, in], second_a [k, out], second_b [k, rank], second_c [out, rank]. Threads: a workgroup covers
// 4 * GROUP_X columns of b or of second_a and all components of the rank, in squares of 4 x 4 sums of which an invocation has
// SQUARES. As many invocations as SLICES share a square: each sums every SLICES-th step, and their sums are then added in
// pairs, the same ones in every run. Every access is a vector of four. There is no other workgroup memory: few invocations
// need the same elements. Range: f32 throughout.
// Limits: rank is 4 * SQUARES * GROUP_Y; in and out are multiples of four; SLICES is a power of two, at least 2; no operand is
// cut, each has fewer than 2^31 elements; at most 256 invocations.

#import lib/product_params

const GROUP_X: u32 = 4u;
const GROUP_Y: u32 = 1u;
const SQUARES: u32 = 1u;
const SLICES: u32 = 64u;

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;
@group(0) @binding(8) var<storage, read> second_a: array<vec4f>;
@group(0) @binding(9) var<storage, read> second_b: array<vec4f>;
@group(0) @binding(10) var<storage, read_write> second_c: array<vec4f>;
@group(0) @binding(11) var<uniform> second: Params;

// A row for each component of the rank, with four columns.
const ROWS: u32 = 4u * SQUARES;
alias Sums = array<vec4f, ROWS>;

struct Place {
  is_first: bool,
  // The first of four columns, and the first vector of components in a row of a or of second_b.
  column: u32,
  component: u32,
  local: vec3u,
}

fn place(group: vec3u, groups: vec3u, local: vec3u) -> Place {
  let index = group.y * groups.x + group.x;
  let first_groups = (params.n + 4u * GROUP_X - 1u) / (4u * GROUP_X);
  let is_first = index < first_groups;
  let column = 4u * (select(index - first_groups, index, is_first) * GROUP_X + local.x);
  return Place(is_first, column, local.y * SQUARES, local);
}

fn sum_first(at: Place, sums: ptr<function, Sums>) {
  var left = at.local.z * (params.m / 4u) + at.component;
  var right = (at.local.z * params.n + min(at.column, params.n - 4u)) / 4u;
  for (var k = at.local.z; k < params.k; k += SLICES) {
    for (var i = 0u; i < SQUARES; i++) {
      for (var row = 0u; row < 4u; row++) {
        (*sums)[4u * i + row] = fma(vec4f(a[left + i][row]), b[right], (*sums)[4u * i + row]);
      }
    }
    left += SLICES * (params.m / 4u);
    right += SLICES * (params.n / 4u);
  }
}

fn sum_second(at: Place, sums: ptr<function, Sums>) {
  var left = at.local.z * (second.n / 4u) + at.component;
  var right = (at.local.z * second.m + min(at.column, second.m - 4u)) / 4u;
  for (var k = at.local.z; k < second.k; k += SLICES) {
    for (var i = 0u; i < SQUARES; i++) {
      for (var row = 0u; row < 4u; row++) {
        (*sums)[4u * i + row] = fma(vec4f(second_b[left + i][row]), second_a[right], (*sums)[4u * i + row]);
      }
    }
    left += SLICES * (second.n / 4u);
    right += SLICES * (second.m / 4u);
  }
}

var<workgroup> shared_sums: array<array<vec4f, GROUP_X * GROUP_Y * SLICES / 2u>, ROWS>;

// Those of the first slice are then complete.
fn join_slices(local: vec3u, sums: ptr<function, Sums>) {
  let square = local.y * GROUP_X + local.x;
  for (var half = SLICES / 2u; half > 0u; half /= 2u) {
    if (local.z >= half && local.z < 2u * half) {
      for (var row = 0u; row < ROWS; row++) {
        shared_sums[row][(local.z - half) * GROUP_X * GROUP_Y + square] = (*sums)[row];
      }
    }
    workgroupBarrier();
    if (local.z < half) {
      for (var row = 0u; row < ROWS; row++) {
        (*sums)[row] += shared_sums[row][local.z * GROUP_X * GROUP_Y + square];
      }
    }
    workgroupBarrier();
  }
}

fn store(at: Place, sums: ptr<function, Sums>) {
  if (at.local.z != 0u) {
    return;
  }
  if (at.is_first) {
    if (at.column < params.n) {
      for (var row = 0u; row < ROWS; row++) {
        let index = ((4u * at.component + row) * params.n + at.column) / 4u;
        c[index] = fma(vec4f(params.factor), (*sums)[row], select(vec4f(), c[index], params.accumulate != 0u));
      }
    }
  } else if (at.column < second.m) {
    for (var s = 0u; s < SQUARES; s++) {
      let square = transpose(mat4x4f((*sums)[4u * s], (*sums)[4u * s + 1u], (*sums)[4u * s + 2u], (*sums)[4u * s + 3u]));
      for (var e = 0u; e < 4u; e++) {
        let index = (at.column + e) * second.n / 4u + at.component + s;
        second_c[index] = fma(vec4f(second.factor), square[e], select(vec4f(), second_c[index], second.accumulate != 0u));
      }
    }
  }
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn both(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = place(group, groups, local);
  var sums: Sums;
  if (at.is_first) {
    sum_first(at, &sums);
  } else {
    sum_second(at, &sums);
  }
  join_slices(local, &sums);
  store(at, &sums);
}
