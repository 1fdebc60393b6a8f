// y[b, j, i] = x[b, i, j];  dx[b, i, j] = dy[b, j, i]
//
// Shapes: x, dx [matrices, m, n], y, dy [matrices, n, m]. Threads: one invocation for each block of WIDTH x WIDTH numbers,
// which it turns in registers. Range: any. Limits: count below 2^31.

#import lib/element

// `rows` and `columns` are those of a matrix of y in `forward`, of dx in `grad_x`.
struct Params {
  count: u32,
  rows: u32,
  columns: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
@group(0) @binding(4) var<uniform> params: Params;

alias Block = array<Element, WIDTH>;

// Elements of a block: the first, and the distance from each to the next, in the tensor that is read and the one that is written.
struct Place {
  source: u32,
  source_step: u32,
  destination: u32,
  destination_step: u32,
}

fn place(i: u32) -> Place {
  let rows = params.rows / WIDTH;
  let columns = params.columns / WIDTH;
  let matrix = i / (rows * columns);
  let row = i / columns % rows;
  let column = i % columns;
  let first = matrix * rows * columns * WIDTH;
  return Place(first + column * WIDTH * rows + row, rows, first + row * WIDTH * columns + column, columns);
}

// Column e of a block.
fn column_of(block: ptr<function, Block>, e: u32) -> Element {
  var column = Element();
  for (var f = 0u; f < WIDTH; f++) {
    set_number(&column, f, number((*block)[f], e));
  }
  return column;
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH * WIDTH >= params.count) {
    return;
  }
  let block_place = place(i);
  var block = Block();
  for (var e = 0u; e < WIDTH; e++) {
    block[e] = x[block_place.source + e * block_place.source_step];
  }
  for (var e = 0u; e < WIDTH; e++) {
    y[block_place.destination + e * block_place.destination_step] = column_of(&block, e);
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = element_index(group, groups, local);
  if (i * WIDTH * WIDTH >= params.count) {
    return;
  }
  let block_place = place(i);
  var block = Block();
  for (var e = 0u; e < WIDTH; e++) {
    block[e] = dy[block_place.source + e * block_place.source_step];
  }
  for (var e = 0u; e < WIDTH; e++) {
    let index = block_place.destination + e * block_place.destination_step;
    var gradient = column_of(&block, e);
    if (params.accumulate != 0u) {
      gradient += dx[index];
    }
    dx[index] = gradient;
  }
}
