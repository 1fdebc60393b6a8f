// Sums over a workgroup, in a fixed order: eight lanes at a time, then the eight sums. This takes two barriers, where halving
// would take six: barriers are expensive on a CPU.

#import lib/group

const BRANCH: u32 = 8u;

var<workgroup> lanes: array<vec2f, GROUP>;
var<workgroup> branches: array<vec2f, BRANCH>;

// Two sums at once.
fn group_sums(values: vec2f, lane: u32) -> vec2f {
  lanes[lane] = values;
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

// One sum. Of the pairs in workgroup memory, it reads and writes the first numbers alone.
fn group_sum(value: f32, lane: u32) -> f32 {
  lanes[lane].x = value;
  workgroupBarrier();
  if (lane < BRANCH) {
    var branch = lanes[lane * BRANCH].x;
    for (var i = 1u; i < BRANCH; i++) {
      branch += lanes[lane * BRANCH + i].x;
    }
    branches[lane].x = branch;
  }
  workgroupBarrier();
  var sum = branches[0].x;
  for (var i = 1u; i < BRANCH; i++) {
    sum += branches[i].x;
  }
  return sum;
}
