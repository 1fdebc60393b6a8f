// Sums of product_tiled.wgsl in f16 over the steps in workgroup memory, which are then added to f32.
//
// A power of two moves the largest magnitude of each matrix in workgroup memory to [16, 32), so that DEPTH = 16 products of two
// elements stay below 2^14 (f16 ends at 65504), and small gradients above its subnormal numbers. Infinity and NaN pass.
// Limits: DEPTH is at most 16, and every invocation copies one block for each DEPTH.

enable f16;

alias TileVector = vec4h;
alias Sums = array<array<TileVector, TILE_N>, TILE_M>;

// Bits of the largest magnitudes of a and b among the copied steps. Positive floats have the order of their bits.
var<workgroup> largest: array<atomic<u32>, 2>;

// The inverse of both powers of two.
var<private> unscale: f32;

fn fitted(place: Copied, block: mat4x4f) -> mat4x4f {
  let most = max(max(abs(block[0]), abs(block[1])), max(abs(block[2]), abs(block[3])));
  let magnitude = max(max(most.x, most.y), max(most.z, most.w));
  atomicMax(&largest[select(1u, 0u, place.is_a)], bitcast<u32>(magnitude));
  workgroupBarrier();
  // Biased exponents, kept where the powers of two and their inverses are normal numbers.
  let exponents = clamp(vec2u(atomicLoad(&largest[0]), atomicLoad(&largest[1])) >> vec2u(23u), vec2u(8u), vec2u(250u));
  let inverses = bitcast<vec2f>((exponents - 4u) << vec2u(23u));
  unscale = inverses.x * inverses.y;
  return block * bitcast<f32>((258u - select(exponents.y, exponents.x, place.is_a)) << 23u);
}

fn begin_sums(tile: ptr<function, Tile>) -> Sums {
  // All invocations have read them, and write again after the next barrier.
  atomicStore(&largest[0], 0u);
  atomicStore(&largest[1], 0u);
  return Sums();
}

fn end_sums(sums: ptr<function, Sums>, tile: ptr<function, Tile>) {
  for (var i = 0u; i < TILE_M; i++) {
    for (var j = 0u; j < TILE_N; j++) {
      (*tile)[i][j] = fma(vec4f((*sums)[i][j]), vec4f(unscale), (*tile)[i][j]);
    }
  }
}
