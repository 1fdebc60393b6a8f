// y = f(x), dx = f'(x) dy, where f is chosen by KIND and may have two numbers p and q
//
// EXP exp(x), LOG log(x), SQRT sqrt(x), ABS |x|, SIN sin(x), COS cos(x), SIGMOID 1 / (1 + exp(-x)), SOFTPLUS log(1 + exp(x)), CLAMP
// min(max(x, p), q), ADD x + p, SUBTRACT_FROM p - x, DIVIDE p / x, POWER x^p, EXPONENTIAL p^x. The derivative is
// computed from x or from y, or from neither.
//
// Shapes: x, y, dy, dx [count]. Threads: one invocation for each element. Range: that of the function in f32; softplus and
// sigmoid do not overflow. The derivative of |x| at 0 is 0, that of clamp at its ends 1. Limits: count below 2^31.

#import lib/element
#import lib/logistic
#import lib/power
#import lib/sine

const KIND: u32 = 0u;

const EXP: u32 = 0u;
const LOG: u32 = 1u;
const SQRT: u32 = 2u;
const ABS: u32 = 3u;
const SIN: u32 = 4u;
const COS: u32 = 5u;
const SIGMOID: u32 = 6u;
const SOFTPLUS: u32 = 7u;
const CLAMP: u32 = 8u;
const ADD: u32 = 9u;
const SUBTRACT_FROM: u32 = 10u;
const DIVIDE: u32 = 11u;
const POWER: u32 = 12u;
const EXPONENTIAL: u32 = 13u;

// Below this, log(1 + e) has lost digits of e.
const SMALL: f32 = 1e-3;

struct Params {
  count: u32,
  p: f32,
  q: f32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

fn softplus(v: Element) -> Element {
  let e = exp(-abs(v));
  return max(v, Element()) + select(log(1.0 + e), e - 0.5 * e * e, e < Element(SMALL));
}

// x^p. Squares and cubes are exact, as products are.
fn number_power(v: Element, p: f32) -> Element {
  if (p == 2.0) {
    return v * v;
  }
  if (p == 3.0) {
    return v * v * v;
  }
  return power(v, Element(p));
}

fn value(v: Element) -> Element {
  switch (KIND) {
    case EXP: { return exp(v); }
    case LOG: { return log(v); }
    case SQRT: { return sqrt(v); }
    case ABS: { return abs(v); }
    case SIN: { return sine(v); }
    case COS: { return cosine(v); }
    case SIGMOID: { return logistic(v); }
    case SOFTPLUS: { return softplus(v); }
    case CLAMP: { return min(max(v, Element(params.p)), Element(params.q)); }
    case ADD: { return v + params.p; }
    case SUBTRACT_FROM: { return params.p - v; }
    case DIVIDE: { return params.p / v; }
    case POWER: { return number_power(v, params.p); }
    default: { return power(Element(params.p), v); }
  }
}

fn slope_at_x(v: Element) -> Element {
  switch (KIND) {
    case LOG: { return 1.0 / v; }
    case ABS: { return sign(v); }
    case SIN: { return cosine(v); }
    case COS: { return -sine(v); }
    case SOFTPLUS: { return logistic(v); }
    case CLAMP: {
      return select(Element(), Element(1.0), (v >= Element(params.p)) & (v <= Element(params.q)));
    }
    case DIVIDE: { return -params.p / (v * v); }
    default: {
      if (params.p == 0.0) {
        return Element();
      }
      return params.p * number_power(v, params.p - 1.0);
    }
  }
}

fn slope_at_y(v: Element) -> Element {
  switch (KIND) {
    case EXP: { return v; }
    case SQRT: { return 0.5 / v; }
    case SIGMOID: { return v * (1.0 - v); }
    // The host gives log(p) as q.
    default: { return v * params.q; }
  }
}

fn constant_slope() -> f32 {
  return select(-1.0, 1.0, KIND == ADD);
}

fn store(i: u32, value: Element) {
  var gradient = value;
  if (params.accumulate != 0u) {
    gradient += dx[i];
  }
  dx[i] = gradient;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = value(x[i]);
  }
}

@compute @workgroup_size(GROUP)
fn forward_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    y[i] = value(y[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    store(i, slope_at_x(x[i]) * dy[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] *= slope_at_x(x[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    store(i, slope_at_y(y[i]) * dy[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_from_y_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] *= slope_at_y(y[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    store(i, constant_slope() * dy[i]);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x_in_place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    dx[i] *= constant_slope();
  }
}
