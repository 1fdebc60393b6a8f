// total = previous + sum_i x[i]^2: chained over tensors into the square of the global gradient norm
//
// Two stages in a fixed order, so a run can be repeated: `forward_partials` sums segments of SEGMENT elements, `forward`
// sums the segments; `forward_chained` adds the total of the tensors before, `previous`, to them.
//
// Shapes: x [count], partials [segments], previous, total [1]. Threads: a workgroup a segment (strided, then a tree in
// shared memory), one workgroup for the second stage. Range: |x| below 1.8e19; a larger, infinite or NaN element makes
// total not finite, which is how an optimizer step knows that it must not be taken. Limits: partials fit one binding.
//
// What is not finite is found by its bits and handed on as bits, from element to segment to total: WGSL may assume that no
// number is NaN or infinite, so neither a comparison nor a sum is asked to carry it.

const GROUP: u32 = 64u;
const BRANCH: u32 = 8u;
const SEGMENT: u32 = 512u;

// `count` and `segment0` belong to `forward_partials`, `segments` to the second stage.
struct Params {
  count: u32,
  segment0: u32,
  segments: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> partials: array<u32>;
@group(0) @binding(2) var<storage, read> previous: array<u32>;
@group(0) @binding(3) var<storage, read_write> total: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> lanes: array<f32, GROUP>;
var<workgroup> branches: array<f32, BRANCH>;
// The largest magnitude, as bits, of what is not finite: infinity, or above it NaN; 0 where all is finite.
var<workgroup> worst: atomic<u32>;

const INFINITY: u32 = 0x7f800000u;

// The value of some bits, and 0 for what is not finite, which is noted.
fn finite_or_noted(bits: u32) -> f32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude < INFINITY) {
    return bitcast<f32>(bits);
  }
  atomicMax(&worst, magnitude);
  return 0.0;
}

// The bits of a sum, or of the worst that was noted. After a barrier.
fn judged(sum: f32) -> u32 {
  let noted = atomicLoad(&worst);
  return select(bitcast<u32>(sum), noted, noted != 0u);
}

// Sums over the workgroup, in a fixed order: eight lanes at a time, then the eight sums. Two barriers, not one a
// halving, since a barrier is dear on a CPU.
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

@compute @workgroup_size(GROUP)
fn forward_partials(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let segment = group.y * groups.x + group.x;
  if (segment * SEGMENT >= params.count) {
    return;
  }
  var own = 0.0;
  for (var i = segment * SEGMENT + local.x; i < min(params.count, (segment + 1u) * SEGMENT); i += GROUP) {
    let value = finite_or_noted(x[i]);
    own = fma(value, value, own);
  }
  let sum = group_sum(own, local.x);
  if (local.x == 0u) {
    partials[params.segment0 + segment] = judged(sum);
  }
}

fn sum_of_partials(lane: u32) -> f32 {
  var own = 0.0;
  for (var i = lane; i < params.segments; i += GROUP) {
    own += finite_or_noted(partials[i]);
  }
  return group_sum(own, lane);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(local_invocation_id) local: vec3u) {
  let sum = sum_of_partials(local.x);
  if (local.x == 0u) {
    total[0] = judged(sum);
  }
}

@compute @workgroup_size(GROUP)
fn forward_chained(@builtin(local_invocation_id) local: vec3u) {
  let sum = sum_of_partials(local.x);
  if (local.x == 0u) {
    let before = finite_or_noted(previous[0]);
    total[0] = judged(before + sum);
  }
}
