// Small charts in SVG. Colours come from the classes of style.css, since a strict policy allows no inline styles.

const WIDTH = 800;
const LEFT = 64;
const RIGHT = 16;
const BOTTOM = 44;
/** Number of steps whose mean loss is drawn. */
const WINDOW = 10;

/** @typedef {{ name: string, values: readonly number[] }} Series */
/** @typedef {(value: number) => number} Scale */

/**
 * An SVG element.
 * @param {string} name @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
function shape(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

/** About `count` round values from 0 to `max`. @param {number} max @param {number} count */
function ticks(max, count) {
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough;
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** @param {number} value */
const label = (value) => String(Number(value.toPrecision(6)));

/**
 * Axes with ticks and titles.
 * @param {{ height: number, top: number, xMax: number, yMax: number, xTitle: string, yTitle: string }} options
 * @returns {{ nodes: Node[], x: Scale, y: Scale }}
 */
function axes({ height, top, xMax, yMax, xTitle, yTitle }) {
  /** @type {Scale} */
  const x = (value) => LEFT + (value / xMax) * (WIDTH - LEFT - RIGHT);
  /** @type {Scale} */
  const y = (value) => height - BOTTOM - (value / yMax) * (height - BOTTOM - top);
  const middle = (top + height - BOTTOM) / 2;
  const nodes = [
    ...ticks(yMax, 4).flatMap((value) => [
      shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    ]),
    ...stepTicks(x, xMax, height),
    shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    shape("text", { transform: `translate(16 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yTitle),
  ];
  return { nodes, x, y };
}

/** @param {Scale} x @param {number} max @param {number} height */
function stepTicks(x, max, height) {
  return ticks(max, 8).map((value) =>
    shape("text", { x: x(value), y: height - BOTTOM + 18, "text-anchor": "middle" }, label(value)),
  );
}

/** @param {Scale} x @param {Scale} y @param {readonly number[]} values */
const path = (x, y, values) => values.map((value, i) => `${i === 0 ? "M" : "L"}${x(i + 1)} ${y(value)}`).join("");

/** Moving average over the last WINDOW values. @param {readonly number[]} values */
const movingAverage = (values) =>
  values.map((_, i) => {
    const recent = values.slice(Math.max(0, i + 1 - WINDOW), i + 1);
    return recent.reduce((sum, value) => sum + value, 0) / recent.length;
  });

/** @param {Element} svg @param {number} height @param {Node[]} nodes */
function show(svg, height, nodes) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren(...nodes);
}

/** Draws the loss of each step and its moving average. @param {Element} svg @param {readonly number[]} losses @param {number} steps */
export function drawLoss(svg, losses, steps) {
  const yMax = Math.max(0.1, ...losses) * 1.05;
  const options = { height: 220, top: 12, xMax: steps, yMax, xTitle: "step", yTitle: "cross-entropy (nats)" };
  const { nodes, x, y } = axes(options);
  const mean = movingAverage(losses);
  const last = mean.at(-1);
  const summary = last === undefined ? "" : `${last.toFixed(3)}, mean of ${Math.min(WINDOW, losses.length)} steps`;
  show(svg, options.height, [
    ...nodes,
    shape("path", { class: "raw", d: path(x, y, losses) }),
    shape("path", { class: "mean", d: path(x, y, mean) }),
    shape("text", { class: "strong", x: WIDTH - RIGHT, y: 24, "text-anchor": "end" }, summary),
  ]);
}

/**
 * Draws the bytes of each lifetime as stacked areas.
 * @param {Element} svg @param {readonly Series[]} lifetimes from bottom to top @param {number} steps
 */
export function drawMemory(svg, lifetimes, steps) {
  const height = 260;
  const count = lifetimes[0]?.values.length ?? 0;
  /** @type {(upTo: number, i: number) => number} */
  const below = (upTo, i) => lifetimes.slice(0, upTo).reduce((sum, { values }) => sum + (values[i] ?? 0), 0) / 1e6;
  const totals = Array.from({ length: count }, (_, i) => below(lifetimes.length, i));
  const yMax = Math.max(1, ...totals) * 1.05;
  const { nodes, x, y } = axes({ height, top: 36, xMax: steps, yMax, xTitle: "step", yTitle: "MB" });
  const areas = lifetimes.map(({ name }, k) => {
    const edge = (/** @type {number} */ upTo) => Array.from({ length: count }, (_, i) => [x(i + 1), y(below(upTo, i))]);
    const points = [...edge(k + 1), ...edge(k).reverse()].map((point) => point.join(" "));
    return shape("polygon", { class: name, points: points.join(",") });
  });
  const legend = lifetimes.flatMap(({ name, values }, k) => {
    const left = LEFT + k * 178;
    const megabytes = values.length > 0 ? ` ${((values.at(-1) ?? 0) / 1e6).toFixed(2)} MB` : "";
    return [
      shape("rect", { class: name, x: left, y: 8, width: 14, height: 14, rx: 3 }),
      shape("text", { class: "strong", x: left + 20, y: 20 }, `${name}${megabytes}`),
    ];
  });
  show(svg, height, [...nodes, ...areas, ...legend]);
}

/**
 * Draws for each layer when its adapter is trained and when it is frozen.
 * @param {Element} svg @param {number} layers @param {ReadonlyMap<number, number>} frozen the step of the freeze by layer
 * @param {number} done @param {number} steps
 */
export function drawLayers(svg, layers, frozen, done, steps) {
  const rowHeight = 26;
  const height = layers * rowHeight + BOTTOM + 8;
  const x = (/** @type {number} */ step) => LEFT + (step / steps) * (WIDTH - LEFT - RIGHT);
  const rows = Array.from({ length: layers }, (_, layer) => {
    const top = 4 + (layers - 1 - layer) * rowHeight;
    const end = Math.min(done, frozen.get(layer) ?? done);
    const isFrozen = frozen.has(layer);
    return [
      shape("text", { x: LEFT - 8, y: top + 17, "text-anchor": "end" }, `layer ${layer}`),
      shape("rect", { class: "live", x: x(0), y: top, width: x(end) - x(0), height: rowHeight - 4 }),
      ...(isFrozen
        ? [shape("rect", { class: "frozen", x: x(end), y: top, width: x(done) - x(end), height: rowHeight - 4 })]
        : []),
      ...(isFrozen ? [shape("text", { class: "strong", x: x(end) + 8, y: top + 16 }, `frozen at step ${end}`)] : []),
    ];
  });
  const title = shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, "step");
  show(svg, height, [...rows.flat(), ...stepTicks(x, steps, height), title]);
}
