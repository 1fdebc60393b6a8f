// The table by which attention depends on positions, for kernels that have none. relative_table.wgsl takes the place of this part
// where there is one.

fn relative_at(index: u32) -> f32 {
  return 0.0;
}

fn relative_vector(index: u32) -> vec4f {
  return vec4f();
}
