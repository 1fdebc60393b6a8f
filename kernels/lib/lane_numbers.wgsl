// Keeps the order of a sum, and with it its bits, whether numbers are read one by one or four at a time.

#import lib/element

var<workgroup> spread: array<Element, GROUP>;

// Lane l gets the numbers l, l + GROUP, ... of a workgroup's elements. Every lane has to call it.
fn lane_numbers(element: Element, lane: u32) -> Element {
  if (WIDTH == 1u) {
    return element;
  }
  spread[lane] = element;
  workgroupBarrier();
  var numbers = Element();
  for (var e = 0u; e < WIDTH; e++) {
    let i = e * GROUP + lane;
    set_number(&numbers, e, number(spread[i / WIDTH], i % WIDTH));
  }
  workgroupBarrier();
  return numbers;
}
