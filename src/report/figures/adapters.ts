import * as Plot from "@observablehq/plot";
import { adapterGroups } from "../adapter-map";
import type { AdapterGroup } from "../adapter-map";
import type { RunRecord } from "../record";
import { COLOURS, figure, FONT, MARGINS, panel, WIDTH, xAxis } from "../svg";
import type { Figure, Key, Panel } from "../svg";
import { significant } from "../units";

/** What a score is called. */
const SCORE_LABELS = {
  importance: "importance of the adapter (1 − CKA)",
  sensitivity: "importance of the matrix (sensitivity × uncertainty)",
} as const;

const SCHEME = "viridis";
/** Scores that differ by more than this factor are coloured by their logarithm. */
const WIDE_RANGE = 30;

interface Scale {
  readonly type: "linear" | "log";
  readonly domain: readonly [number, number];
}

/** Adapters over epochs: layers up, importance as colour, the moment of freezing marked. Undefined where nothing freezes. */
export function adapterFigure(record: RunRecord): Figure | undefined {
  const groups = adapterGroups(record);
  const [first] = groups;
  if (!first) return undefined;
  const scale = scaleOf(groups.flatMap(({ cells }) => cells.map(({ score }) => score)));
  const epochs = (record.steps.at(-1)?.step ?? 0) / record.stepsPerEpoch;
  const kind = record.scores[0]?.kind ?? "importance";
  const keys: Key[] = [
    { label: "frozen from here on", colour: COLOURS.vermilion, as: "rule" },
    { label: "frozen", colour: "currentColor", as: "cell" },
  ];
  const isSingle = groups.length === 1;
  const panels = groups.map((group) => mapPanel(group, scale, epochs, isSingle ? WIDTH : WIDTH / 2));
  const rows = isSingle ? panels : pairs(panels);
  const ramp = scale ? [rampPanel(scale, SCORE_LABELS[kind])] : [];
  const frozen = groups.reduce((sum, group) => sum + group.frozen.length, 0);
  const all = groups.reduce((sum, group) => sum + group.layers.length, 0);
  return figure(
    {
      name: "adapters",
      title: "Adapters by layer and epoch",
      caption:
        `${frozen} of ${all} ${first.title === "" ? "adapters" : "tensors"} were frozen` +
        (scale
          ? `; colours are the scores that the policy saw, from ${significant(scale.domain[0])} to ${significant(scale.domain[1])}.`
          : "; the policy looked at no scores."),
    },
    keys,
    [...ramp, ...rows],
  );
}

function pairs(panels: readonly Panel[]): Panel[][] {
  return Array.from({ length: Math.ceil(panels.length / 2) }, (_, i) => panels.slice(2 * i, 2 * i + 2));
}

function scaleOf(scores: readonly number[]): Scale | undefined {
  if (scores.length === 0) return undefined;
  const most = scores.reduce((a, b) => Math.max(a, b));
  const positive = scores.filter((score) => score > 0);
  const least = positive.reduce((a, b) => Math.min(a, b), most);
  if (least > 0 && most > WIDE_RANGE * least) return { type: "log", domain: [Math.max(least, most / 1e4), most] };
  return { type: "linear", domain: [0, most > 0 ? most : 1] };
}

function mapPanel(
  { title, layers, cells, frozen }: AdapterGroup,
  scale: Scale | undefined,
  epochs: number,
  width: number,
) {
  const rowHeight = Math.min(26, Math.max(8, 320 / layers.length));
  const domain = [...layers].reverse();
  const every = Math.ceil(layers.length / (rowHeight < 12 ? 8 : 16));
  const clamp = (score: number): number =>
    Math.min(scale?.domain[1] ?? score, Math.max(scale?.domain[0] ?? score, score));
  const whole = layers.map((layer) => ({ layer, from: 0, to: epochs }));
  const span = { x1: "from", x2: "to", y: "layer" };
  return panel({
    width,
    height: layers.length * rowHeight + MARGINS.marginTop + MARGINS.marginBottom,
    x: { ...xAxis("epoch"), domain: [0, epochs] },
    y: { label: "layer", labelArrow: "none", domain, padding: 0.08, ticks: layers.filter((_, i) => i % every === 0) },
    ...(scale && { color: { ...scale, domain: [...scale.domain], scheme: SCHEME } }),
    marks: [
      Plot.barX(whole, { ...span, fill: "currentColor", fillOpacity: 0.05, ariaDescription: "live" }),
      Plot.barX(cells, {
        ...span,
        fill: ({ score }: { score: number }) => clamp(score),
        ariaDescription: "scores",
        insetLeft: 0.25,
        insetRight: 0.25,
      }),
      Plot.barX(frozen, { ...span, fill: "currentColor", fillOpacity: 0.25, ariaDescription: "frozen" }),
      Plot.tickX(frozen, { x: "from", y: "layer", stroke: "white", strokeWidth: 6 }),
      Plot.tickX(frozen, {
        x: "from",
        y: "layer",
        stroke: COLOURS.vermilion,
        strokeWidth: 3,
        ariaDescription: "freezing",
      }),
      Plot.text([title], { frameAnchor: "top-left", dx: 40, dy: -18, fontSize: FONT.size, fontWeight: "bold" }),
    ],
  });
}

/** The colours of scores, as a small plot of their own. */
function rampPanel({ type, domain: [least, most] }: Scale, label: string): Panel {
  const slices = 64;
  const at = (share: number): number =>
    type === "log" ? least * (most / least) ** share : least + (most - least) * share;
  const data = Array.from({ length: slices }, (_, i) => ({
    from: at(i / slices),
    to: at((i + 1) / slices),
    score: at((i + 0.5) / slices),
  }));
  return panel({
    width: WIDTH / 2,
    height: 64,
    marginTop: 6,
    marginBottom: 44,
    x: { ...xAxis(label), type, domain: [least, most], ticks: 4, tickFormat: significant },
    y: { axis: null },
    color: { type, domain: [least, most], scheme: SCHEME },
    marks: [
      Plot.rect(data, {
        // They overlap by a hair, so that no seams are seen.
        x1: "from",
        x2: "to",
        y1: 0,
        y2: 1,
        fill: "score",
        insetRight: -0.5,
        ariaDescription: "scale of scores",
      }),
    ],
  });
}
