// What product_tiled.wgsl keeps in workgroup memory and sums in: f32.

alias TileVector = vec4f;
alias Sums = Tile;

// A block as it is kept.
fn fitted(place: Copied, block: mat4x4f) -> mat4x4f {
  return block;
}

// The sums to which a tile of steps is added, and what then becomes of them.
fn begin_sums(tile: ptr<function, Tile>) -> Sums {
  return *tile;
}

fn end_sums(sums: ptr<function, Sums>, tile: ptr<function, Tile>) {
  *tile = *sums;
}
