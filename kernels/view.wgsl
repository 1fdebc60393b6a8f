// Views of a tensor: its elements in another order, some of them, or some of them several times
//
// `gather`: packed_out[i] (+)= factor * strided_in[at(i)];  `scatter`: strided_out[at(i)] (+)= factor * packed_in[i];  `fill`:
// strided_out = factor. at(i) is the place of operand a of lib/strided: permuted axes, slices, axes along which it is repeated.
//
// Shapes: packed_in, packed_out [count], strided_in, strided_out any. `scatter` has no two i with the same place. Threads: one invocation
// for each element of the packed tensor, in `fill` of the other one. Range: any. Limits: elements below 2^31.

#import lib/strided

@group(0) @binding(1) var<storage, read> strided_in: array<Element>;
@group(0) @binding(2) var<storage, read_write> packed_out: array<Element>;
@group(0) @binding(3) var<storage, read> packed_in: array<Element>;
@group(0) @binding(4) var<storage, read_write> strided_out: array<Element>;

@compute @workgroup_size(GROUP)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    var value = params.factor * strided_in[here.at.x];
    if (params.accumulate != 0u) {
      value += packed_out[i];
    }
    packed_out[i] = value;
  }
}

@compute @workgroup_size(GROUP)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let here = place(params.first + i);
  if (here.is_bound) {
    var value = params.factor * packed_in[i];
    if (params.accumulate != 0u) {
      value += strided_out[here.at.x];
    }
    strided_out[here.at.x] = value;
  }
}

@compute @workgroup_size(GROUP)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    strided_out[i] = Element(params.factor);
  }
}
