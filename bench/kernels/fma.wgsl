// y[i] = a chain of fused multiply-adds on 16 independent numbers: the highest FLOP/s that a kernel can reach.
//
// Threads: one invocation runs ROUNDS x 16 fmas and writes one number, so the memory's speed does not matter.

const ROUNDS: u32 = 4096u;

struct Params {
  unused: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  let step = 1.0 + f32(params.unused) * 1e-9;
  var a = vec4f(f32(id.x), 1.0, 2.0, 3.0);
  var b = a + 1.0;
  var c = a + 2.0;
  var d = a + 3.0;
  for (var i = 0u; i < ROUNDS; i++) {
    a = fma(a, vec4f(step), vec4f(1e-3));
    b = fma(b, vec4f(step), vec4f(1e-3));
    c = fma(c, vec4f(step), vec4f(1e-3));
    d = fma(d, vec4f(step), vec4f(1e-3));
  }
  let sum = a + b + c + d;
  y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
