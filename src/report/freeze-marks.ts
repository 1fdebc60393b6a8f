import * as Plot from "@observablehq/plot";
import type { RunFreeze } from "./record";
import { FONT, MARGINS, textWidth, WIDTH } from "./svg";
import type { Key } from "./svg";
import { showLayers } from "./text";

/** Freezes of one step. */
export interface FreezeMark {
  readonly step: number;
  readonly label: string;
}

export const FREEZE_KEY: Key = { label: "freeze", colour: "currentColor", as: "rule" };

/** One mark for each step that froze something, with what it froze. */
export function freezeMarks(freezes: readonly RunFreeze[]): FreezeMark[] {
  return [...new Set(freezes.map(({ step }) => step))].map((step) => {
    const own = freezes.filter((freeze) => freeze.step === step);
    return { step, label: frozenIn(own) };
  });
}

/** What some freezes froze, in words. */
export function frozenIn(freezes: readonly Pick<RunFreeze, "layers" | "tensors">[]): string {
  const layers = freezes.flatMap((freeze) => freeze.layers);
  const tensors = freezes.flatMap((freeze) => freeze.tensors).length;
  if (layers.length === 0) return tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return `${layers.length === 1 ? "layer" : "layers"} ${showLayers(layers)}`;
}

/** Rules for all freezes, and labels for as many as have room above the panel. */
export function freezeRules(freezes: readonly RunFreeze[], totalSteps: number): Plot.Markish[] {
  const marks = freezeMarks(freezes);
  const many = marks.length > 40;
  const stroke = { stroke: "currentColor", strokeOpacity: many ? 0.15 : 0.55, strokeWidth: 1.5 };
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

/** Labels from the left, each one that the last left room for. */
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
