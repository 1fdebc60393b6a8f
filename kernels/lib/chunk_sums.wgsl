// The first of two stages of a sum over rows: an invocation sums one element of a row over a chunk of CHUNK_ROWS rows, of
// `params.columns` numbers each. column_sum.wgsl adds the chunks. Both stages have a fixed order.

#import lib/element

const CHUNK_ROWS: u32 = 32u;

struct ChunkColumn {
  chunk: u32,
  column: u32,
}

fn chunk_column(group: vec3u, groups: vec3u, local: vec3u) -> ChunkColumn {
  let per_row = (params.columns / WIDTH + GROUP - 1u) / GROUP;
  let index = group.y * groups.x + group.x;
  return ChunkColumn(index / per_row, (index % per_row) * GROUP + local.x);
}
