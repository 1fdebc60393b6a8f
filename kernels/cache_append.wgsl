// cache[owners[b, p], p % ring, :] = x[b, i, offset .. offset + width],  p = starts[b] + i
//
// Only `width` columns of x from `offset` on are copied, so x may be a fused q|k|v projection. Shapes: x [batch, time,
// row]; cache [rows, ring, width]; owners [batch, capacity], the cache row that holds each position of each text, -1 for none;
// starts [batch], the position of the first token of x in each text. A launch binds the count / width rows of x from
// `row0` on, of batch * time. Threads: one invocation for each element. Range: any; tokens at positions from `capacity`
// on are dropped. Limits: count below 2^31.

#import lib/element

// `count`, `row`, `offset` and `width` are numbers of elements.
struct Params {
  count: u32,
  row0: u32,
  row: u32,
  offset: u32,
  width: u32,
  time: u32,
  capacity: u32,
  ring: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> cache: array<Element>;
@group(0) @binding(2) var<storage, read> owners: array<i32>;
@group(0) @binding(3) var<storage, read> starts: array<i32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i >= params.count) {
    return;
  }
  let row = params.row0 + i / params.width;
  let batch = row / params.time;
  let position = u32(starts[batch]) + row % params.time;
  if (position >= params.capacity) {
    return;
  }
  let owner = owners[batch * params.capacity + position];
  if (owner >= 0) {
    let target_row = u32(owner) * params.ring + position % params.ring;
    cache[target_row * params.width + i % params.width] = x[(i / params.width) * params.row + params.offset + i % params.width];
  }
}
