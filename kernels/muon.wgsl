// One step of Muon (Jordan et al. 2024) after clip_grad_norm_, in four stages:
//   momentum:    g' = g min(1, max_norm / (sqrt(total) + 1e-6));  m = m + (1 - momentum) (g' - m)
//                u = m, or g' + momentum (m - g') for Nesterov's
//   normalise:   x = y / (sqrt(squares) + 1e-7), where y is u, and squares its sum of squares
//   polynomial:  s = a I + b s + c square, in place, where square = s s, for Newton-Schulz's x = (a I + b s + c s s) x of s = x x^T
//   forward:     p = p (1 - lr weight_decay) - lr scale y
//
// hyper = [lr, ..., max_norm], as of AdamW, whose other numbers it does not read.
// `total` is the sum of squares of all gradients, `loss` the loss of the step. If one of them is not finite, m and p stay as they
// are, and u is 0.
//
// Shapes: p, m, g, u, x, y [count], s, square [n, n], squares, total, loss [1], hyper [8]. Threads: one invocation for each
// element. Range: that of f32. Limits: count below 2^31.

#import lib/update

const A: f32 = 3.4445;
const B: f32 = -4.775;
const C: f32 = 2.0315;

// `start` is the first element of a launch of `polynomial`, `n` its row's length.
struct Params {
  count: u32,
  start: u32,
  n: u32,
  momentum: f32,
  is_nesterov: u32,
  weight_decay: f32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<Element>;
@group(0) @binding(1) var<storage, read_write> m: array<Element>;
@group(0) @binding(2) var<storage, read> g: array<Element>;
@group(0) @binding(3) var<storage, read_write> u: array<Element>;
@group(0) @binding(4) var<storage, read> squares: array<f32>;
@group(0) @binding(5) var<storage, read_write> x: array<Element>;
@group(0) @binding(6) var<storage, read_write> s: array<Element>;
@group(0) @binding(7) var<storage, read> square: array<Element>;
@group(0) @binding(8) var<storage, read> y: array<Element>;
@group(0) @binding(9) var<storage, read> total: array<u32>;
@group(0) @binding(10) var<storage, read> loss: array<u32>;
@group(0) @binding(11) var<storage, read> hyper: array<f32>;
@group(0) @binding(12) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn momentum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH >= params.count) {
    return;
  }
  if (!is_good_step()) {
    u[i] = Element();
    return;
  }
  let gradient = g[i] * clip_factor(hyper[7]);
  let mean = fma(Element(1.0 - params.momentum), gradient - m[i], m[i]);
  m[i] = mean;
  u[i] = select(mean, fma(Element(params.momentum), mean - gradient, gradient), params.is_nesterov == 1u);
}

@compute @workgroup_size(GROUP)
fn normalise(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    x[i] = y[i] / (sqrt(squares[0]) + 1e-7);
  }
}

@compute @workgroup_size(GROUP)
fn polynomial(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    let numbers = number_indices(i) + params.start;
    let identity = select(Element(), Element(A), numbers / params.n == numbers % params.n);
    s[i] = fma(Element(B), s[i], fma(Element(C), square[i], identity));
  }
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count && is_good_step()) {
    p[i] = p[i] * (1.0 - hyper[0] * params.weight_decay) - hyper[0] * params.scale * y[i];
  }
}
