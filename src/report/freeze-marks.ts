import * as Plot from "@observablehq/plot";
import type { RunFreeze } from "./record";
import { FONT, MARGINS, textWidth, WIDTH } from "./svg";
import type { Key } from "./svg";
import { showLayers } from "./text";

/** The freezes of one step, and what they froze in words. */
interface FreezeMark {
  readonly step: number;
  readonly label: string;
}

export const FREEZE_KEY: Key = { label: "freeze", colour: "currentColor", as: "rule" };

/** One mark for each step that froze something. */
function freezeMarks(freezes: readonly RunFreeze[]): FreezeMark[] {
  return [...new Set(freezes.map(({ step }) => step))].map((step) => ({
    step,
    label: freezeLabel(freezes.filter((freeze) => freeze.step === step)),
  }));
}

/** What freezes froze, in words. */
export function freezeLabel(freezes: readonly Pick<RunFreeze, "layers" | "tensors">[]): string {
  const layers = freezes.flatMap((freeze) => freeze.layers);
  const tensors = freezes.flatMap((freeze) => freeze.tensors).length;
  if (layers.length === 0) return tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return `${layers.length === 1 ? "layer" : "layers"} ${showLayers(layers)}`;
}

/** A vertical rule for each freeze of a figure over steps, and labels above the panel for those that have room. */
export function freezeRules(freezes: readonly RunFreeze[], totalSteps: number): Plot.Markish[] {
  const marks = freezeMarks(freezes);
  const stroke = { stroke: "currentColor", strokeOpacity: marks.length > 40 ? 0.15 : 0.55, strokeWidth: 1.5 };
  const labelled = withRoom(marks, (WIDTH - MARGINS.marginLeft - MARGINS.marginRight) / Math.max(1, totalSteps));
  return [
    Plot.ruleX(marks, { x: "step", ...stroke, strokeDasharray: "2 3", ariaDescription: "freezes" }),
    Plot.text(labelled, {
      x: "step",
      text: "label",
      frameAnchor: "top",
      dy: -12,
      fontSize: FONT.small,
      fill: "currentColor",
    }),
  ];
}

/** Marks whose labels do not overlap: from the left, each one that the previous label leaves room for. */
function withRoom(marks: readonly FreezeMark[], pixelsPerStep: number): FreezeMark[] {
  let end = -Infinity;
  return [...marks]
    .sort((a, b) => a.step - b.step)
    .filter(({ step, label }) => {
      const half = textWidth(label, FONT.small) / 2 + 5;
      if (step * pixelsPerStep - half < end) return false;
      end = step * pixelsPerStep + half;
      return true;
    });
}
