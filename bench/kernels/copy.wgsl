// target[i] = source[i], four elements per invocation: the highest rate of bytes that a kernel can reach.
//
// Shapes: both [count / 4]. Threads: one invocation per vector. Range: f32. Limits: count a multiple of 4, below 2^32.

struct Params {
  vectors: u32,
}

@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = (group.y * groups.x + group.x) * 64u + local.x;
  if (i < params.vectors) {
    target_[i] = source[i];
  }
}
