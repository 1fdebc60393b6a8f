// As weight_element.wgsl, for weights stored output by output in rows of a multiple of four numbers.

#import lib/element
#import lib/product_weight_vector

fn weight_element(output: u32, i: u32) -> Element {
  return b_vector(output, WIDTH * i, params.b_column);
}
