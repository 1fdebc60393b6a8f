// 1 / (1 + exp(-v)). exp(-|v|) cannot overflow, so that neither tail loses digits.

#import lib/element

fn logistic(v: Element) -> Element {
  let small = exp(-abs(v));
  return select(Element(1.0), small, v < Element()) / (1.0 + small);
}
