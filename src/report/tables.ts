import { LIFETIMES } from "../gpu/ledger";
import { frozenIn } from "./freeze-marks";
import type { RunRecord } from "./record";
import { escapeText } from "./text";
import { showBytes, showFlops, significant } from "./units";

/** A table of texts; all columns but the first hold numbers unless it is told otherwise. */
export function table(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  words: readonly number[] = [0],
): string {
  const cell = (tag: "td" | "th", value: string, column: number): string => {
    const scope = tag === "th" ? ' scope="col"' : "";
    return `<${tag}${scope}${words.includes(column) ? "" : ' class="number"'}>${escapeText(value)}</${tag}>`;
  };
  const line = (tag: "td" | "th", values: readonly string[]): string =>
    `<tr>${values.map((value, column) => cell(tag, value, column)).join("")}</tr>`;
  const body = rows.map((row) => line("td", row)).join("\n");
  return (
    `<div class="wide"><table><caption>${escapeText(caption)}</caption>\n<thead>${line("th", head)}</thead>\n` +
    `<tbody>\n${body}\n</tbody></table></div>`
  );
}

/** What each freeze returned. */
export function freezeTable({ freezes }: RunRecord): string {
  if (freezes.length === 0) return "<p>Nothing was frozen in this run.</p>";
  const returning = LIFETIMES.filter((lifetime) => freezes.some(({ returned }) => returned[lifetime] !== 0));
  const head = ["step", "what froze", "returned", ...returning];
  const rows = freezes.map(({ step, tensors, layers, returnedBytes, returned, flops }) => [
    ...[String(step), frozenIn([{ tensors, layers }]), showBytes(returnedBytes)],
    ...returning.map((lifetime) => showBytes(returned[lifetime])),
    ...[showFlops(flops.before), showFlops(flops.after), percent(1 - flops.after / flops.before)],
  ]);
  const caption = "What each freeze returned to the driver, and FLOPs of a step with the largest batch";
  return table(caption, [...head, "FLOPs before", "after", "saved"], rows, [1]);
}

/** Metrics at each evaluation and at the end. */
export function evaluationTable({ evaluations, metrics, steps }: RunRecord): string {
  const names = [...new Set([metrics, ...evaluations.map((one) => one.metrics)].flatMap((one) => Object.keys(one)))];
  if (names.length === 0) return "";
  const last = { step: `end (${steps.at(-1)?.step ?? 0})`, metrics };
  const rows = [...evaluations.map((one) => ({ ...one, step: String(one.step) })), last].map((one) => [
    one.step,
    ...names.map((name) => (one.metrics[name] === undefined ? "" : one.metrics[name].toFixed(4))),
  ]);
  return table("Evaluations on the dev set", ["step", ...names], rows);
}

/** Settings, as names and JSON. */
export function factsTable(caption: string, facts: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, typeof value === "string" ? value : shortJson(value)]);
  return table(caption, ["name", "value"], rows, [0, 1]);
}

/** JSON that fits into a cell; all of it stands in run.json. */
function shortJson(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 400 ? `${text.slice(0, 400)} …` : text;
}

const percent = (share: number): string => `${significant(100 * share)} %`;
