// The patches of images that a kernel sees at each of its positions, and the sum of patches back to images
//
// y[n, c, i, j, p, q] = x[n, c, p stride + i dilation - padding, q stride + j dilation - padding], and `outside` beyond the edges;
//   dx[n, c, h, w] = sum over i, j of dy at the p, q that read it, in order of i, then j
//
// Shapes: x, dx [images, channels, height, width], y, dy [images, channels, rows of the kernel, its columns, out_height,
// out_width]. A launch binds ranges of both: `first` and `count` are the elements of what it writes, `read_first` and `read_count` those of
// what it reads. Threads: one invocation for each element that is written. Range: any; sums in f32. Limits: elements of y below 2^31.

#import lib/group

struct Params {
  first: u32,
  count: u32,
  read_first: u32,
  read_count: u32,
  height: u32,
  width: u32,
  kernel_height: u32,
  kernel_width: u32,
  out_height: u32,
  out_width: u32,
  stride_y: u32,
  stride_x: u32,
  padding_y: u32,
  padding_x: u32,
  dilation_y: u32,
  dilation_x: u32,
  outside: f32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let element = (group.y * groups.x + group.x) * GROUP + local.x;
  if (element >= params.count) {
    return;
  }
  var rest = params.first + element;
  let q = rest % params.out_width;
  rest /= params.out_width;
  let p = rest % params.out_height;
  rest /= params.out_height;
  let j = rest % params.kernel_width;
  rest /= params.kernel_width;
  let i = rest % params.kernel_height;
  let channel = rest / params.kernel_height;
  // Above and left of the edge these wrap around, to more than there are rows and columns.
  let row = p * params.stride_y + i * params.dilation_y - params.padding_y;
  let column = q * params.stride_x + j * params.dilation_x - params.padding_x;
  if (row >= params.height || column >= params.width) {
    y[element] = params.outside;
    return;
  }
  let index = (channel * params.height + row) * params.width + column - params.read_first;
  if (index < params.read_count) {
    y[element] = x[index];
  }
}

@compute @workgroup_size(GROUP)
fn grad_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let element = (group.y * groups.x + group.x) * GROUP + local.x;
  if (element >= params.count) {
    return;
  }
  let index = params.first + element;
  let column = index % params.width + params.padding_x;
  let row = index / params.width % params.height + params.padding_y;
  let channel = index / (params.width * params.height);
  var sum = 0.0;
  for (var i = 0u; i < params.kernel_height; i++) {
    // Where the kernel would have to begin above or left of its first position, this wraps around.
    let below = row - i * params.dilation_y;
    let p = below / params.stride_y;
    if (below % params.stride_y != 0u || p >= params.out_height) {
      continue;
    }
    for (var j = 0u; j < params.kernel_width; j++) {
      let right = column - j * params.dilation_x;
      let q = right / params.stride_x;
      if (right % params.stride_x != 0u || q >= params.out_width) {
        continue;
      }
      let patch_row = ((channel * params.kernel_height + i) * params.kernel_width + j) * params.out_height + p;
      let read = patch_row * params.out_width + q - params.read_first;
      if (read < params.read_count) {
        sum += dy[read];
      }
    }
  }
  if (params.accumulate != 0u) {
    sum += dx[element];
  }
  dx[element] = sum;
}
