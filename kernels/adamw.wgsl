// One step of AdamW (Loshchilov and Hutter 2019), as in torch.optim.AdamW after clip_grad_norm_:
//   g' = g min(1, max_norm / (sqrt(total) + 1e-6))         (max_norm 0: g' = g)
//   p = p - lr weight_decay p                              (Adam, COUPLED: g' = g' + weight_decay p)
//   m = m + (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g'^2
//   p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// hyper = [lr, 1 - beta1, beta2, 1 - beta2, eps, 1 - beta1^t, 1 - beta2^t, max_norm]. The host computes the differences
// in float64, since 1 - 0.999 in f32 is wrong in the fifth digit.
// `total` is the sum of squares of all gradients, `loss` the loss of the step. If one of them is not finite, nothing is
// written, and p, m and v keep the values of the last good step.
//
// Shapes: p, m, v, g [count], total, loss [1], hyper [8]. Threads: one invocation for each element. Range: v must not
// overflow f32. Limits: count below 2^31.

#import lib/update

// 1 for Adam.
const COUPLED: u32 = 0u;

struct Params {
  count: u32,
  weight_decay: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read_write> m: array<Element>;
@group(0) @binding(2) var<storage, read_write> v: array<Element>;
@group(0) @binding(3) var<storage, read> g: array<Element>;
@group(0) @binding(4) var<storage, read> total: array<u32>;
@group(0) @binding(5) var<storage, read> loss: array<u32>;
@group(0) @binding(6) var<storage, read> hyper: array<f32>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  if (!is_good_step()) {
    return;
  }
  let lr = hyper[0];
  let clip = clip_factor(hyper[7]);
  let step_size = lr / hyper[5];
  let inverse_correction = 1.0 / sqrt(hyper[6]);
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    var gradient = g[i] * clip;
    var decayed = p[i];
    if (COUPLED == 1u) {
      gradient = fma(Element(params.weight_decay), p[i], gradient);
    } else {
      decayed *= 1.0 - lr * params.weight_decay;
    }
    let first_moment = fma(Element(hyper[1]), gradient - m[i], m[i]);
    let second_moment = fma(Element(hyper[2]), v[i], hyper[3] * gradient * gradient);
    m[i] = first_moment;
    v[i] = second_moment;
    p[i] = decayed - step_size * first_moment / fma(sqrt(second_moment), Element(inverse_correction), Element(hyper[4]));
  }
}
