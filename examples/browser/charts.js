// Small charts in SVG. Colours are classes of style.css: a strict policy allows no inline styles.

const WIDTH = 800;
const LEFT = 64;
const RIGHT = 16;
const BOTTOM = 44;
const SMOOTHED = 10;

/** @typedef {{ name: string, values: readonly number[] }} Series */
/** @typedef {(value: number) => number} Scale */

/**
 * @param {string} name @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Round values from 0 on that cover a range. @param {number} most @param {number} count */
function ticks(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** @param {number} value */
const label = (value) => String(Number(value.toPrecision(6)));

/**
 * Axes with ticks and titles.
 * @param {{ height: number, top: number, xMost: number, yMost: number, xTitle: string, yTitle: string }} options
 * @returns {{ nodes: Node[], x: Scale, y: Scale }}
 */
function axes({ height, top, xMost, yMost, xTitle, yTitle }) {
  /** @type {Scale} */
  const x = (value) => LEFT + (value / xMost) * (WIDTH - LEFT - RIGHT);
  /** @type {Scale} */
  const y = (value) => height - BOTTOM - (value / yMost) * (height - BOTTOM - top);
  const middle = (top + height - BOTTOM) / 2;
  const nodes = [
    ...ticks(yMost, 4).flatMap((value) => [
      shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    ]),
    ...stepTicks(x, xMost, height),
    shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    shape("text", { transform: `translate(16 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yTitle),
  ];
  return { nodes, x, y };
}

/** @param {Scale} x @param {number} most @param {number} height */
function stepTicks(x, most, height) {
  return ticks(most, 8).map((value) =>
    shape("text", { x: x(value), y: height - BOTTOM + 18, "text-anchor": "middle" }, label(value)),
  );
}

/** @param {Scale} x @param {Scale} y @param {readonly number[]} values */
const path = (x, y, values) => values.map((value, i) => `${i === 0 ? "M" : "L"}${x(i + 1)} ${y(value)}`).join("");

/** Each value's mean with those just before it. @param {readonly number[]} values */
const smoothed = (values) =>
  values.map((_, i) => {
    const recent = values.slice(Math.max(0, i + 1 - SMOOTHED), i + 1);
    return recent.reduce((sum, value) => sum + value, 0) / recent.length;
  });

/** @param {Element} svg @param {number} height @param {Node[]} nodes */
function show(svg, height, nodes) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren(...nodes);
}

/** @param {Element} svg @param {readonly number[]} losses @param {number} steps */
export function drawLoss(svg, losses, steps) {
  const yMost = Math.max(0.1, ...losses) * 1.05;
  const options = { height: 220, top: 12, xMost: steps, yMost, xTitle: "step", yTitle: "cross-entropy (nats)" };
  const { nodes, x, y } = axes(options);
  const mean = smoothed(losses);
  const last = mean.at(-1);
  const told = last === undefined ? "" : `${last.toFixed(3)}, mean of ${Math.min(SMOOTHED, losses.length)} steps`;
  show(svg, options.height, [
    ...nodes,
    shape("path", { class: "raw", d: path(x, y, losses) }),
    shape("path", { class: "mean", d: path(x, y, mean) }),
    shape("text", { class: "strong", x: WIDTH - RIGHT, y: 24, "text-anchor": "end" }, told),
  ]);
}

/**
 * Bytes of each lifetime, one on the other.
 * @param {Element} svg @param {readonly Series[]} lifetimes the lowest first @param {number} steps
 */
export function drawMemory(svg, lifetimes, steps) {
  const height = 260;
  const count = lifetimes[0]?.values.length ?? 0;
  /** @type {(upTo: number, i: number) => number} */
  const below = (upTo, i) => lifetimes.slice(0, upTo).reduce((sum, { values }) => sum + (values[i] ?? 0), 0) / 1e6;
  const totals = Array.from({ length: count }, (_, i) => below(lifetimes.length, i));
  const yMost = Math.max(1, ...totals) * 1.05;
  const { nodes, x, y } = axes({ height, top: 36, xMost: steps, yMost, xTitle: "step", yTitle: "MB" });
  const areas = lifetimes.map(({ name }, k) => {
    const edge = (/** @type {number} */ upTo) => Array.from({ length: count }, (_, i) => [x(i + 1), y(below(upTo, i))]);
    const points = [...edge(k + 1), ...edge(k).reverse()].map((point) => point.join(" "));
    return shape("polygon", { class: name, points: points.join(",") });
  });
  const legend = lifetimes.flatMap(({ name, values }, k) => {
    const at = LEFT + k * 178;
    const told = values.length > 0 ? ` ${((values.at(-1) ?? 0) / 1e6).toFixed(2)} MB` : "";
    return [
      shape("rect", { class: name, x: at, y: 8, width: 14, height: 14, rx: 3 }),
      shape("text", { class: "strong", x: at + 20, y: 20 }, `${name}${told}`),
    ];
  });
  show(svg, height, [...nodes, ...areas, ...legend]);
}

/**
 * When each layer's adapter learns and from when on it is frozen.
 * @param {Element} svg @param {number} layers @param {ReadonlyMap<number, number>} frozen step by layer
 * @param {number} done @param {number} steps
 */
export function drawLayers(svg, layers, frozen, done, steps) {
  const row = 26;
  const height = layers * row + BOTTOM + 8;
  const x = (/** @type {number} */ step) => LEFT + (step / steps) * (WIDTH - LEFT - RIGHT);
  const rows = Array.from({ length: layers }, (_, layer) => {
    const top = 4 + (layers - 1 - layer) * row;
    const end = Math.min(done, frozen.get(layer) ?? done);
    const isFrozen = frozen.has(layer);
    return [
      shape("text", { x: LEFT - 8, y: top + 17, "text-anchor": "end" }, `layer ${layer}`),
      shape("rect", { class: "live", x: x(0), y: top, width: x(end) - x(0), height: row - 4 }),
      ...(isFrozen
        ? [shape("rect", { class: "frozen", x: x(end), y: top, width: x(done) - x(end), height: row - 4 })]
        : []),
      ...(isFrozen ? [shape("text", { class: "strong", x: x(end) + 8, y: top + 16 }, `frozen at step ${end}`)] : []),
    ];
  });
  const title = shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, "step");
  show(svg, height, [...rows.flat(), ...stepTicks(x, steps, height), title]);
}
