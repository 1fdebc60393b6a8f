// Random bits of a dropout mask, which follow from the seed of a text, a salt and the index of an element within the
// text: the first component of pcg3d (Jarzynski and Olano 2020).

fn random_bits(text_seed: vec2u, salt: u32, index: u32) -> u32 {
  var v = vec3u(index, salt ^ text_seed.y, text_seed.x) * 1664525u + 1013904223u;
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v ^= v >> vec3u(16u);
  v.x += v.y * v.z;
  return v.x;
}
