// y = f(a, b) of operands that are repeated along axes, as in NumPy; comparisons; and y = a where condition, else b
//
// f is chosen by KIND: ADD a + b, SUB a - b, MUL a b, DIV a / b, POW a^b, MAXIMUM, MINIMUM, GREATER ... NOT_EQUAL (1 or 0). Gradients
// are summed over the elements of y that an operand's element was read for: `reduced` of them, in order of their indices, or in
// `..._group` by the lanes of a workgroup, in a fixed order. WRT is 0 for the gradient with respect to a, 1 for b.
//
// Shapes: y, dy, flags as broadcast, a, b, condition and target (da or db) any that broadcast to it. Places of operands are those
// of lib/strided: a is operand a there (in `grad_select...` the condition is), b operand b, dy and otherwise the condition
// operand c. Threads: one invocation for each element of y or of the target; in `..._group` a workgroup. Range: f32; where a and b are
// equal, each gets half the gradient of maximum and minimum. Limits: elements of y below 2^31.

#import lib/strided
#import lib/group_sum
#import lib/power

const KIND: u32 = 0u;
const WRT: u32 = 0u;

const ADD: u32 = 0u;
const SUB: u32 = 1u;
const MUL: u32 = 2u;
const DIV: u32 = 3u;
const POW: u32 = 4u;
const MAXIMUM: u32 = 5u;
const MINIMUM: u32 = 6u;

const GREATER: u32 = 0u;
const GREATER_EQUAL: u32 = 1u;
const LESS: u32 = 2u;
const LESS_EQUAL: u32 = 3u;
const EQUAL: u32 = 4u;
const NOT_EQUAL: u32 = 5u;

@group(0) @binding(1) var<storage, read> a: array<Element>;
@group(0) @binding(2) var<storage, read> b: array<Element>;
@group(0) @binding(3) var<storage, read> condition: array<Index>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
@group(0) @binding(5) var<storage, read_write> flags: array<Index>;
@group(0) @binding(6) var<storage, read> dy: array<Element>;
@group(0) @binding(7) var<storage, read_write> target_: array<Element>;

fn combined(left: Element, right: Element) -> Element {
  switch (KIND) {
    case ADD: { return left + right; }
    case SUB: { return left - right; }
    case MUL: { return left * right; }
    case DIV: { return left / right; }
    case POW: { return power(left, right); }
    case MAXIMUM: { return max(left, right); }
    default: { return min(left, right); }
  }
}

fn truth(left: Element, right: Element) -> Truth {
  switch (KIND) {
    case GREATER: { return left > right; }
    case GREATER_EQUAL: { return left >= right; }
    case LESS: { return left < right; }
    case LESS_EQUAL: { return left <= right; }
    case EQUAL: { return left == right; }
    default: { return left != right; }
  }
}

// 1, or a half where both operands get a share of the gradient, or 0.
fn share(is_chosen: Truth, is_tied: Truth) -> Element {
  return select(select(Element(), Element(1.0), is_chosen), Element(0.5), is_tied);
}

fn slope(left: Element, right: Element) -> Element {
  switch (KIND) {
    case DIV: { return -left / (right * right); }
    case POW: {
      if (WRT == 0u) {
        return select(right * power(left, right - 1.0), Element(), right == Element());
      }
      return select(power(left, right) * log(left), Element(), left == Element());
    }
    case MAXIMUM: { return share(select((left < right), (left > right), WRT == 0u), left == right); }
    default: { return share(select((left > right), (left < right), WRT == 0u), left == right); }
  }
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    y[i] = combined(a[here.at.x], b[here.at.y]);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    y[i] = combined(y[i], b[here.at.y]);
  }
}

@compute @workgroup_size(GROUP)
fn compare(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    flags[i] = select(Index(), Index(1u), truth(a[here.at.x], b[here.at.y]));
  }
}

@compute @workgroup_size(GROUP)
fn choose(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    y[i] = select(a[here.at.x], b[here.at.y], condition[here.at.z] == Index());
  }
}

// What an element of the iteration adds to the gradient, where the slope is the other operand, bound as b, or one divided by it.
fn by_other(i: u32) -> Element {
  let here = place(i);
  if (!here.is_bound) {
    return Element();
  }
  if (KIND == DIV) {
    return dy[here.at.z] / b[here.at.y];
  }
  return dy[here.at.z] * b[here.at.y];
}

fn by_both(i: u32) -> Element {
  let here = place(i);
  if (!here.is_bound) {
    return Element();
  }
  return dy[here.at.z] * slope(a[here.at.x], b[here.at.y]);
}

fn by_condition(i: u32) -> Element {
  let here = place(i);
  if (!here.is_bound) {
    return Element();
  }
  let is_b = condition[here.at.x] == Index();
  if (WRT == 0u) {
    return select(dy[here.at.z], Element(), is_b);
  }
  return select(Element(), dy[here.at.z], is_b);
}

fn store(o: u32, sum: Element) {
  var gradient = sum;
  if (params.accumulate != 0u) {
    gradient += target_[o];
  }
  target_[o] = gradient;
}

@compute @workgroup_size(GROUP)
fn grad_by_other(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  var sum = Element();
  for (var r = 0u; r < params.reduced; r++) {
    sum += by_other((params.first + o) * params.reduced + r);
  }
  store(o, sum);
}

@compute @workgroup_size(GROUP)
fn grad_by_other_group(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = group.y * groups.x + group.x;
  if (o >= params.count) {
    return;
  }
  var lane_sum = Element();
  for (var r = local.x; r < params.reduced; r += GROUP) {
    lane_sum += by_other((params.first + o) * params.reduced + r);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    store(o, Element(sum));
  }
}

@compute @workgroup_size(GROUP)
fn grad_by_both(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  var sum = Element();
  for (var r = 0u; r < params.reduced; r++) {
    sum += by_both((params.first + o) * params.reduced + r);
  }
  store(o, sum);
}

@compute @workgroup_size(GROUP)
fn grad_by_both_group(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = group.y * groups.x + group.x;
  if (o >= params.count) {
    return;
  }
  var lane_sum = Element();
  for (var r = local.x; r < params.reduced; r += GROUP) {
    lane_sum += by_both((params.first + o) * params.reduced + r);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    store(o, Element(sum));
  }
}

@compute @workgroup_size(GROUP)
fn grad_by_condition(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = element_index(group, groups, local);
  if (o >= params.count) {
    return;
  }
  var sum = Element();
  for (var r = 0u; r < params.reduced; r++) {
    sum += by_condition((params.first + o) * params.reduced + r);
  }
  store(o, sum);
}

@compute @workgroup_size(GROUP)
fn grad_by_condition_group(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let o = group.y * groups.x + group.x;
  if (o >= params.count) {
    return;
  }
  var lane_sum = Element();
  for (var r = local.x; r < params.reduced; r += GROUP) {
    lane_sum += by_condition((params.first + o) * params.reduced + r);
  }
  let sum = group_sum(number_sum(lane_sum), local.x);
  if (local.x == 0u) {
    store(o, Element(sum));
  }
}
