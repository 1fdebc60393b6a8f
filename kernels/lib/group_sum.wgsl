// The sum of a value over a workgroup of GROUP = 64 invocations, in a fixed order. The kernel declares GROUP.

const BRANCH: u32 = 8u;

var<workgroup> lanes: array<f32, GROUP>;
var<workgroup> branches: array<f32, BRANCH>;

// Eight lanes at a time, then the eight sums. This takes two barriers, where
// halving would take six: barriers are expensive on a CPU.
fn group_sum(value: f32, lane: u32) -> f32 {
  lanes[lane] = value;
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
