// Sums and maxima of x over some axes
//
// total[o] (+)= factor * sum_r x[o, r];  largest[o] = max_r x[o, r], index[o] the first r where it is;  dx[o, index[o]] += dy[o]
//
// Shapes: total, largest, index, dy [count], x and dx any, as operand a of lib/strided, whose iteration has the axes that are kept
// and then those that are summed. A launch with `accumulate` continues a sum or a maximum over what another one has bound.
// Threads: one invocation for each o, or in `..._group` a workgroup whose lanes take every GROUP-th r. Range: f32, sums in a fixed
// order; a maximum passes over NaN unless it comes first. Limits: elements of x below 2^31.

#import lib/strided
#import lib/group_sum

const NONE: i32 = -1;

@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(2) var<storage, read_write> total: array<Element>;
@group(0) @binding(3) var<storage, read_write> largest: array<f32>;
@group(0) @binding(4) var<storage, read_write> index: array<i32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

fn x_at(i: u32) -> Element {
  let here = place(i);
  if (!here.is_bound) {
    return Element();
  }
  return x[here.at.x];
}

fn store_total(o: u32, sum: Element) {
  var scaled = params.factor * sum;
  if (params.accumulate != 0u) {
    scaled += total[o];
  }
  total[o] = scaled;
}

@compute @workgroup_size(GROUP)
fn sum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  var sum = Element();
  for (var r = 0u; r < params.reduced; r++) {
    sum += x_at((params.first + o) * params.reduced + r);
  }
  store_total(o, sum);
}

@compute @workgroup_size(GROUP)
fn sum_group(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = group.y * groups.x + group.x;
  if (o >= params.count) {
    return;
  }
  var lane_sum = Element();
  for (var r = local.x; r < params.reduced; r += GROUP) {
    lane_sum += x_at((params.first + o) * params.reduced + r);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    store_total(o, Element(sum));
  }
}

// A number and where it is; NONE for no number yet.
struct Found {
  number: f32,
  index: i32,
}

// The larger of two, the one that comes first where they are equal.
fn larger(left: Found, right: Found) -> Found {
  if (right.index == NONE) {
    return left;
  }
  let is_first = right.number == left.number && right.index < left.index;
  if (left.index == NONE || right.number > left.number || is_first) {
    return right;
  }
  return left;
}

fn found_at(o: u32, r: u32) -> Found {
  let here = place((params.first + o) * params.reduced + r);
  if (!here.is_bound) {
    return Found(0.0, NONE);
  }
  return Found(largest_number(x[here.at.x]), i32(r));
}

fn store_largest(o: u32, found: Found) {
  var best = found;
  if (params.accumulate != 0u) {
    best = larger(Found(largest[o], index[o]), found);
  }
  largest[o] = best.number;
  index[o] = best.index;
}

@compute @workgroup_size(GROUP)
fn maximum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  var best = Found(0.0, NONE);
  for (var r = 0u; r < params.reduced; r++) {
    best = larger(best, found_at(o, r));
  }
  store_largest(o, best);
}

var<workgroup> lane_found: array<Found, GROUP>;

@compute @workgroup_size(GROUP)
fn maximum_group(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = group.y * groups.x + group.x;
  if (o >= params.count) {
    return;
  }
  var lane_best = Found(0.0, NONE);
  for (var r = local.x; r < params.reduced; r += GROUP) {
    lane_best = larger(lane_best, found_at(o, r));
  }
  lane_found[local.x] = lane_best;
  workgroupBarrier();
  if (local.x == 0u) {
    var best = lane_found[0];
    for (var lane = 1u; lane < GROUP; lane++) {
      best = larger(best, lane_found[lane]);
    }
    store_largest(o, best);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  let here = place((params.first + o) * params.reduced + u32(index[o]));
  if (here.is_bound) {
    dx[here.at.x] += dy[o];
  }
}
