// One step of Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2) after clip_grad_norm_:
//   g' = g min(1, max_norm / (sqrt(total) + 1e-6))         (max_norm 0: g' = g)
//   c = m + (1 - beta1) (g' - m);  m = m + (1 - beta2) (g' - m)
//   p = p - lr (sign(c) + weight_decay p)
//
// hyper = [lr, 1 - beta1, 1 - beta2, max_norm]. The host computes the differences in float64.
// `total` is the sum of squares of all gradients, `loss` the loss of the step. If one of them is not finite, nothing is written.
//
// Shapes: p, m, g [count], total, loss [1], hyper [4]. Threads: one invocation for each element. Range: that of f32.
// Limits: count below 2^31.

#import lib/update

struct Params {
  count: u32,
  weight_decay: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read_write> m: array<Element>;
@group(0) @binding(2) var<storage, read> g: array<Element>;
@group(0) @binding(3) var<storage, read> total: array<u32>;
@group(0) @binding(4) var<storage, read> loss: array<u32>;
@group(0) @binding(5) var<storage, read> hyper: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && is_good_step()) {
    let change = g[i] * clip_factor(hyper[3]) - m[i];
    let direction = sign(fma(Element(hyper[1]), change, m[i]));
    m[i] = fma(Element(hyper[2]), change, m[i]);
    p[i] = p[i] * (1.0 - hyper[0] * params.weight_decay) - hyper[0] * direction;
  }
}
