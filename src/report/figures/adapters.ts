import * as Plot from "@observablehq/plot";
import { adapterGroups } from "../adapter-map";
import type { AdapterGroup } from "../adapter-map";
import type { RunRecord } from "../record";
import { ramp, SCHEME } from "../ramp";
import type { ColourScale } from "../ramp";
import { COLOURS, figure, FONT, MARGINS, pairs, panel, WIDTH, xAxis } from "../svg";
import type { Figure, Key } from "../svg";
import { significant } from "../units";

/** Names of the kinds of scores. */
const SCORE_LABELS = {
  importance: "importance of the adapter (1 − CKA)",
  sensitivity: "importance of the matrix (sensitivity × uncertainty)",
} as const;

/** Scores that differ by more than this factor are coloured on a logarithmic scale. */
const WIDE_RANGE = 30;

/** The scores of the adapters by layer and epoch as colours, with freezes marked. Undefined without scores and freezes. */
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

  const frozen = groups.reduce((sum, group) => sum + group.frozen.length, 0);
  const all = groups.reduce((sum, group) => sum + group.layers.length, 0);
  return figure(
    {
      name: "adapters",
      title: "Adapters by layer and epoch",
      caption:
        `${frozen} of ${all} ${first.title === "" ? "adapters" : "tensors"} were frozen` +
        (scale
          ? `; colours are the scores that the policy used, from ${significant(scale.domain[0])} to ${significant(scale.domain[1])}.`
          : "; the policy used no scores."),
    },
    keys,
    [...(scale ? [ramp(scale, SCORE_LABELS[kind])] : []), ...rows],
  );
}

function scaleOf(scores: readonly number[]): ColourScale | undefined {
  if (scores.length === 0) return undefined;
  const most = scores.reduce((a, b) => Math.max(a, b));
  const positive = scores.filter((score) => score > 0);
  const least = positive.reduce((a, b) => Math.min(a, b), most);
  if (least > 0 && most > WIDE_RANGE * least) return { type: "log", domain: [Math.max(least, most / 1e4), most] };
  return { type: "linear", domain: [0, most > 0 ? most : 1] };
}

function mapPanel(
  { title, layers, cells, frozen }: AdapterGroup,
  scale: ColourScale | undefined,
  epochs: number,
  width: number,
) {
  const rowHeight = Math.min(26, Math.max(8, 320 / layers.length));
  const domain = [...layers].reverse();
  const every = Math.ceil(layers.length / (rowHeight < 12 ? 8 : 16));
  const clamp = (score: number): number =>
    Math.min(scale?.domain[1] ?? score, Math.max(scale?.domain[0] ?? score, score));
  const live = layers.map((layer) => ({ layer, from: 0, to: epochs }));
  const span = { x1: "from", x2: "to", y: "layer" };
  return panel({
    width,
    height: layers.length * rowHeight + MARGINS.marginTop + MARGINS.marginBottom,
    x: { ...xAxis("epoch"), domain: [0, epochs] },
    y: { label: "layer", labelArrow: "none", domain, padding: 0.08, ticks: layers.filter((_, i) => i % every === 0) },
    ...(scale && { color: { ...scale, domain: [...scale.domain], scheme: SCHEME } }),
    marks: [
      Plot.barX(live, { ...span, fill: "currentColor", fillOpacity: 0.05, ariaDescription: "live" }),
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
