// total = previous + sum_i x[i]^2; a chain of these over all gradients gives the square of their norm
//
// Two stages, in a fixed order: `forward_partials` sums segments of SEGMENT elements, `forward` sums the segments, and
// `forward_chained` adds `previous`, the total of the tensors before, to them.
//
// Shapes: x [count] (in the second stage: the partial sums), partials [segments], previous, total [1]. Threads: a
// workgroup for each segment, in which each invocation sums every GROUP-th element; one workgroup for the second stage. Range: |x| below 1.8e19; a larger,
// infinite or NaN element makes total not finite, which tells the optimizer to skip the step. Limits: partials fit one
// binding.
//
// Values that are not finite are recognised by their bits and passed on as bits, from element to segment to total. A
// WGSL compiler may assume that no number is NaN or infinite, so neither comparisons nor sums are safe for them.

#import lib/element
#import lib/group_sum
#import lib/is_finite
#import lib/lane_numbers

const SEGMENT: u32 = 512u;

// Only `forward_partials` reads `count` and `segment0`; only the second stage reads `segments`.
struct Params {
  count: u32,
  segment0: u32,
  segments: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Index>;
@group(0) @binding(1) var<storage, read_write> partials: array<u32>;
@group(0) @binding(2) var<storage, read> previous: array<u32>;
@group(0) @binding(3) var<storage, read_write> total: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

// The largest bits, without sign, of the values that are not finite; 0 if all are finite. NaN is above infinity.
var<workgroup> worst: atomic<u32>;

// The numbers with these bits, or 0 where one is not finite; then its magnitude enters `worst`.
fn finite_or_zero(bits: Index) -> Element {
  let finite = is_finite(bits);
  if (!all(finite)) {
    atomicMax(&worst, largest_index(select(bits & Index(0x7fffffffu), Index(), finite)));
  }
  return bitcast<Element>(select(Index(), bits, finite));
}

// The numbers of element i of x that are the lane's to sum; 0 where `count` numbers of x have no such element.
fn finite_numbers(i: u32, count: u32, lane: u32) -> Element {
  var element = Element();
  if (i * WIDTH < count) {
    element = finite_or_zero(x[i]);
  }
  return lane_numbers(element, lane);
}

// The bits of `sum`, or `worst` if a value was not finite. To be called after a barrier.
fn result_bits(sum: f32) -> u32 {
  let magnitude = atomicLoad(&worst);
  return select(bitcast<u32>(sum), magnitude, magnitude != 0u);
}

@compute @workgroup_size(GROUP)
fn forward_partials(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let segment = group.y * groups.x + group.x;
  if (segment * SEGMENT >= params.count) {
    return;
  }
  var lane_sum = 0.0;
  for (var i = 0u; i < SEGMENT / WIDTH; i += GROUP) {
    let numbers = finite_numbers(segment * (SEGMENT / WIDTH) + i + local.x, params.count, local.x);
    for (var e = 0u; e < WIDTH; e++) {
      lane_sum = fma(number(numbers, e), number(numbers, e), lane_sum);
    }
  }
  let sum = group_sum(lane_sum, local.x);
  if (local.x == 0u) {
    partials[params.segment0 + segment] = result_bits(sum);
  }
}

fn sum_of_partials(lane: u32) -> f32 {
  var lane_sum = 0.0;
  for (var i = 0u; i * WIDTH < params.segments; i += GROUP) {
    let numbers = finite_numbers(i + lane, params.segments, lane);
    for (var e = 0u; e < WIDTH; e++) {
      lane_sum += number(numbers, e);
    }
  }
  return group_sum(lane_sum, lane);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(local_invocation_id) local: vec3u) {
  let sum = sum_of_partials(local.x);
  if (local.x == 0u) {
    total[0] = result_bits(sum);
  }
}

@compute @workgroup_size(GROUP)
fn forward_chained(@builtin(local_invocation_id) local: vec3u) {
  let sum = sum_of_partials(local.x);
  if (local.x == 0u) {
    let before = number(finite_or_zero(Index(previous[0])), 0u);
    total[0] = result_bits(before + sum);
  }
}
