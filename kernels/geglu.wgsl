// y = gelu(gate) up;  dup = dy gelu(gate);  dgate = dy up gelu'(gate), exact or by tanh as in gelu.wgsl
//
// `grad_gate_up_in_place` runs in place of `grad_gate`, whose params are `gate_params`, and the `grad_up_in_place` after it.
//
// Shapes: gate, up, y, dy, dgate, dup [count]. Threads: one invocation for each element. Range: |gate| below 1e12. Limits:
// count below 2^31.

#import lib/element
#import lib/gelu

struct Params {
  count: u32,
  by_tanh: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> gate: array<Element>;
@group(0) @binding(1) var<storage, read> up: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dgate: array<Element>;
@group(0) @binding(5) var<storage, read_write> dup: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;
@group(0) @binding(7) var<uniform> gate_params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = gelu(gate[i]) * up[i];
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = gelu(y[i]) * up[i];
  }
}

fn store_gate_gradient(i: u32, gradient_of_y: Element, accumulate: u32) {
  var gradient = gradient_of_y * up[i] * slope(gate[i]);
  if (accumulate != 0u) {
    gradient += dgate[i];
  }
  dgate[i] = gradient;
}

@compute @workgroup_size(GROUP)
fn grad_gate(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    store_gate_gradient(i, dy[i], params.accumulate);
  }
}

@compute @workgroup_size(GROUP)
fn grad_up(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dy[i] * gelu(gate[i]);
    if (params.accumulate != 0u) {
      gradient += dup[i];
    }
    dup[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_up_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dup[i] *= gelu(gate[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_gate_up_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    store_gate_gradient(i, dup[i], gate_params.accumulate);
    dup[i] *= gelu(gate[i]);
  }
}
