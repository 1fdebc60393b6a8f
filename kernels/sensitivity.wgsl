// s = |g|, |p g|, |g / p| (0 if p is 0) or |p|;  mean <- beta1 mean + (1 - beta1) s
//   uncertainty <- beta2 uncertainty + (1 - beta2) |s - mean|
//
// Moving averages of the sensitivity s of each weight and of its variation. `forward_window` first averages s (0 if p
// is 0) over a window of steps, as AFLoRA's published code does: `phase` is the number of this step in its window, from
// 0. At phase 0, the average of the previous window enters the two moving averages, and a new average begins.
//
// Shapes: p, g, mean, uncertainty, average [count], phase [1]. Threads: one invocation for each element. Range: any; a
// gradient that is not finite has sensitivity 0. Limits: count below 2^31.

#import lib/is_finite

const WEIGHT_GRADIENT: u32 = 1u;
const GRADIENT_OVER_WEIGHT: u32 = 2u;
const WEIGHT: u32 = 3u;

struct Params {
  count: u32,
  kind: u32,
  beta1: f32,
  beta2: f32,
}

@group(0) @binding(0) var<storage, read> p: array<Element>;
@group(0) @binding(1) var<storage, read> g: array<Element>;
@group(0) @binding(2) var<storage, read_write> mean: array<Element>;
@group(0) @binding(3) var<storage, read_write> uncertainty: array<Element>;
@group(0) @binding(4) var<storage, read_write> average: array<Element>;
@group(0) @binding(5) var<storage, read> phase: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

fn sensitivity(weight: Element, gradient: Element) -> Element {
  if (params.kind == WEIGHT) {
    return abs(weight);
  }
  var size = abs(gradient);
  if (params.kind == WEIGHT_GRADIENT) {
    size = abs(weight * gradient);
  }
  if (params.kind == GRADIENT_OVER_WEIGHT) {
    size = select(abs(gradient / weight), Element(), weight == Element());
  }
  return select(Element(), size, is_finite(bitcast<Index>(gradient)));
}

fn update_means(i: u32, current: Element) {
  let new_mean = params.beta1 * mean[i] + (1.0 - params.beta1) * current;
  mean[i] = new_mean;
  uncertainty[i] = params.beta2 * uncertainty[i] + (1.0 - params.beta2) * abs(current - new_mean);
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH < params.count) {
    update_means(i, sensitivity(p[i], g[i]));
  }
}

@compute @workgroup_size(GROUP)
fn forward_window(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  let step = phase[0];
  if (i * WIDTH < params.count) {
    let current = select(sensitivity(p[i], g[i]), Element(), p[i] == Element());
    if (step == 0.0) {
      update_means(i, average[i]);
    }
    average[i] = (average[i] * step + current) / (step + 1.0);
  }
}
