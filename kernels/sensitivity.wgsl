// An exponential mean of how much each weight matters, and of how much that changes:
//   now = |g|, |p g| or |g / p| (0 where p is 0);  mean <- beta1 mean + (1 - beta1) now
//   uncertainty <- beta2 uncertainty + (1 - beta2) |now - mean|
// With a window, `now` (0 where p is 0) is first averaged over some steps, of which `phase` is this one's number from 0; the
// two means then take in the average of the window before: at phase 0, before the average begins anew (AFLoRA's code).
//
// Shapes: p, g, mean, uncertainty, average [count], phase [1]. Threads: one invocation handles PER_INVOCATION elements, a workgroup's width
// apart. Range: any; a gradient that is not finite counts as none. Limits: count below 2^31.

const GROUP: u32 = 64u;
const PER_INVOCATION: u32 = 4u;

const WEIGHT_GRADIENT: u32 = 1u;
const GRADIENT_OVER_WEIGHT: u32 = 2u;

struct Params {
  count: u32,
  kind: u32,
  beta1: f32,
  beta2: f32,
}

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> uncertainty: array<f32>;
@group(0) @binding(4) var<storage, read_write> average: array<f32>;
@group(0) @binding(5) var<storage, read> phase: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

// By its bits: comparisons with NaN may be optimised away.
fn is_finite(v: f32) -> bool {
  return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

fn sensitivity(weight: f32, gradient: f32) -> f32 {
  if (!is_finite(gradient)) {
    return 0.0;
  }
  if (params.kind == WEIGHT_GRADIENT) {
    return abs(weight * gradient);
  }
  if (params.kind == GRADIENT_OVER_WEIGHT) {
    return select(abs(gradient / weight), 0.0, weight == 0.0);
  }
  return abs(gradient);
}

fn first_element(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.y * groups.x + group.x) * GROUP * PER_INVOCATION + local.x;
}

fn smooth_in(i: u32, now: f32) {
  let smooth_now = params.beta1 * mean[i] + (1.0 - params.beta1) * now;
  mean[i] = smooth_now;
  uncertainty[i] = params.beta2 * uncertainty[i] + (1.0 - params.beta2) * abs(now - smooth_now);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      smooth_in(i, sensitivity(p[i], g[i]));
    }
  }
}

@compute @workgroup_size(GROUP)
fn forward_window(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let first = first_element(group, groups, local);
  let step = phase[0];
  for (var e = 0u; e < PER_INVOCATION; e++) {
    let i = first + e * GROUP;
    if (i < params.count) {
      let now = select(sensitivity(p[i], g[i]), 0.0, p[i] == 0.0);
      if (step == 0.0) {
        smooth_in(i, average[i]);
      }
      average[i] = (average[i] * step + now) / (step + 1.0);
    }
  }
}
