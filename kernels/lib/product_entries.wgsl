// The entry points of product.wgsl. The kernel declares origin, which places an invocation, the functions that compute its
// tile of c, and the sizes of a workgroup.

#import lib/product_multiply

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn low_rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn low_rank_with_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  product(at, &tile);
  add_bias(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn low_rank_dropped(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  low_rank_term(at, &tile);
  drop_tile(at, &tile);
  product(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn dropped_a(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product_with_dropped_a(at, &tile);
  store(at, &tile);
}

@compute @workgroup_size(GROUP_X, GROUP_Y, SLICES)
fn dropped_b(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = origin(group, groups, local);
  var tile: Tile;
  product_with_dropped_b(at, &tile);
  multiply(params.factor, &tile);
  store(at, &tile);
}
