// One step of stochastic gradient descent with momentum, as in torch.optim.SGD after clip_grad_norm_:
//   g' = g min(1, max_norm / (sqrt(total) + 1e-6)) + weight_decay p        (max_norm 0: g is not clipped)
//   m = momentum m + gradient_share g';  d = m, or g' + momentum m for Nesterov's
//   p = p - lr d                                                            (forward_plain: d = g', and there is no m)
//
// hyper = [lr, gradient_share, max_norm]. gradient_share is 1 in the first step, and 1 - dampening later.
// `total` is the sum of squares of all gradients, `loss` the loss of the step. If one of them is not finite, nothing is written.
//
// Shapes: p, m, g [count], total, loss [1], hyper [3]. Threads: one invocation for each element. Range: that of f32.
// Limits: count below 2^31.

#import lib/update

struct Params {
  count: u32,
  weight_decay: f32,
  momentum: f32,
  is_nesterov: u32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read_write> m: array<Element>;
@group(0) @binding(2) var<storage, read> g: array<Element>;
@group(0) @binding(3) var<storage, read> total: array<u32>;
@group(0) @binding(4) var<storage, read> loss: array<u32>;
@group(0) @binding(5) var<storage, read> hyper: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

fn gradient(i: u32) -> Element {
  return fma(Element(params.weight_decay), p[i], g[i] * clip_factor(hyper[2]));
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && is_good_step()) {
    let decayed = gradient(i);
    let velocity = fma(Element(params.momentum), m[i], hyper[1] * decayed);
    m[i] = velocity;
    var direction = velocity;
    if (params.is_nesterov == 1u) {
      direction = fma(Element(params.momentum), velocity, decayed);
    }
    p[i] = fma(Element(-hyper[0]), direction, p[i]);
  }
}

@compute @workgroup_size(GROUP)
fn forward_plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && is_good_step()) {
    p[i] = fma(Element(-hyper[0]), gradient(i), p[i]);
  }
}
