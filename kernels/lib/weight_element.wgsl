// An element of an output's weights, which a product reads as a column of b: numbers of neighbouring inputs. weight_element_vec4.wgsl
// takes the place of this part together with element_vec4.wgsl. The kernel declares b and what product_weight.wgsl needs.

#import lib/element
#import lib/product_weight

fn b_word(index: u32) -> u32 {
  return b[index];
}

fn weight_element(output: u32, i: u32) -> Element {
  return b_at(i, output);
}
