// y[b] = the rows of head, then those of x[b]
//   dhead[i] = sum_b dy[b, i], in order of b;  dx[b] = dy[b] without the rows of head
//
// Shapes: head, dhead [head_count] = [n, d], x, dx [texts, x_count] = [texts, t, d], y, dy [texts, head_count +
// x_count]. Threads: one invocation for each element of y, dhead or dx. Range: any. Limits: count below 2^31; the head
// fits one binding.

#import lib/element

// `count` is the number of elements of y, dhead or dx that a launch writes; `head_count` and `x_count` count elements too.
struct Params {
  count: u32,
  texts: u32,
  head_count: u32,
  x_count: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> head: array<Element>;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dhead: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  let y_count = params.head_count + params.x_count;
  if (i < params.count) {
    let within = i % y_count;
    if (within < params.head_count) {
      y[i] = head[within];
    } else {
      y[i] = x[(i / y_count) * params.x_count + within - params.head_count];
    }
  }
}

@compute @workgroup_size(GROUP)
fn grad_head(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    var sum = Element();
    if (params.accumulate != 0u) {
      sum = dhead[i];
    }
    for (var text = 0u; text < params.texts; text++) {
      sum += dy[text * (params.head_count + params.x_count) + i];
    }
    dhead[i] = sum;
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i < params.count) {
    let text = i / params.x_count;
    var gradient = dy[(text + 1u) * params.head_count + i];
    if (params.accumulate != 0u) {
      gradient += dx[i];
    }
    dx[i] = gradient;
  }
}
