// y[i] = x[i] f(i),  f(i) = 1 / (1 - probability) if the random bits of (seed, salt, i) are below a threshold, else 0
//   dx[i] = dy[i] f(i)
//
// The mask is not stored: the gradient computes the same bits again. Each text of the batch has a seed, and i counts
// the elements of its text, so that the mask of a text does not depend on the batch that it is in. `first` is the index
// in the complete tensor of the first element that a launch binds, so that a tensor that is cut has the same mask.
//
// Shapes: x, y, dy, dx [count], seed [texts, 2], with `per_text` elements for each text. Threads: one invocation for
// each element. Range: any; a dropped infinity or NaN becomes 0. Limits: element indices wrap at 2^32.

#import lib/dropout

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> seed: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;
@group(0) @binding(5) var<uniform> params: DropoutParams;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = dropped(x[i], i, params);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = dropped(y[i], i, params);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = dropped(dy[i], i, params);
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] = dropped(dx[i], i, params);
  }
}
