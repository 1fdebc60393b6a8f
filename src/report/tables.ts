import { LIFETIMES, sumBytes } from "../gpu/ledger";
import { freezeLabel } from "./freeze-marks";
import type { RunRecord } from "./record";
import { escapeText } from "./text";
import { showBytes, showFlops, significant } from "./units";

/** An HTML table. Columns contain numbers, except those in `textColumns`: by default the first one. */
export function table(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns: readonly number[] = [0],
): string {
  const cell = (tag: "td" | "th", value: string, column: number): string => {
    const scope = tag === "th" ? ' scope="col"' : "";
    return `<${tag}${scope}${textColumns.includes(column) ? "" : ' class="number"'}>${escapeText(value)}</${tag}>`;
  };
  const line = (tag: "td" | "th", values: readonly string[]): string =>
    `<tr>${values.map((value, column) => cell(tag, value, column)).join("")}</tr>`;
  const body = rows.map((row) => line("td", row)).join("\n");
  return (
    `<div class="wide"><table><caption>${escapeText(caption)}</caption>\n<thead>${line("th", head)}</thead>\n` +
    `<tbody>\n${body}\n</tbody></table></div>`
  );
}

/** A table of the freezes: what froze, and what that returned and saved. */
export function freezeTable({ freezes }: RunRecord): string {
  if (freezes.length === 0) return "<p>Nothing was frozen in this run.</p>";
  const returning = LIFETIMES.filter((lifetime) => freezes.some(({ returned }) => returned[lifetime] !== 0));
  const head = ["step", "what froze", "returned", ...returning];
  const rows = freezes.map(({ step, tensors, layers, returnedBytes, returned, flops }) => [
    ...[String(step), freezeLabel([{ tensors, layers }]), showBytes(returnedBytes)],
    ...returning.map((lifetime) => showBytes(returned[lifetime])),
    ...[showFlops(flops.before), showFlops(flops.after), percent(1 - flops.after / flops.before)],
  ]);
  const caption = "What each freeze returned to the driver, and FLOPs of a step with the largest batch";
  return table(caption, [...head, "FLOPs before", "after", "saved"], rows, [1]);
}

/** A table of the compactions: what is cut out of the tensors, and what that returned; empty without any. */
export function compactionTable({ compactions = [] }: RunRecord): string {
  if (compactions.length === 0) return "";
  const head = ["step", "groups of heads", "neurons", "returned", ...LIFETIMES, "live", "FLOPs of a step"];
  const rows = compactions.map(({ step, heads, neurons, returnedBytes, returned, bytes, flops }) => [
    ...[step, heads, neurons].map(String),
    ...[returnedBytes, ...LIFETIMES.map((lifetime) => returned[lifetime]), sumBytes(bytes)].map(showBytes),
    showFlops(flops.after),
  ]);
  return table("Heads and neurons that the tensors lack after each compaction, and what it returned", head, rows);
}

/** A table of the metrics at each evaluation and at the end; empty without metrics. */
export function evaluationTable({ evaluations, metrics, steps }: RunRecord): string {
  const last = { first: `end (${steps.at(-1)?.step ?? 0})`, metrics };
  const all = [...evaluations.map(({ step, ...evaluation }) => ({ first: String(step), ...evaluation })), last];
  return metricsTable("Evaluations on the dev set", "step", all);
}

/** A table of the learning rates that were tried in short runs before this one; empty without any. */
export function triedRatesTable({ triedRates = [] }: RunRecord): string {
  const rows = triedRates.map(({ learningRate, metrics }) => ({ first: String(learningRate), metrics }));
  return metricsTable("Learning rates that were tried, on the dev set", "learning rate", rows);
}

function metricsTable(
  caption: string,
  firstColumn: string,
  all: readonly { readonly first: string; readonly metrics: RunRecord["metrics"] }[],
): string {
  const names = [...new Set(all.toReversed().flatMap(({ metrics }) => Object.keys(metrics)))];
  if (names.length === 0) return "";
  const rows = all.map(({ first, metrics }) => [first, ...names.map((name) => metrics[name]?.toFixed(4) ?? "")]);
  return table(caption, [firstColumn, ...names], rows);
}

/** A table of names and values; values that are not texts are shown as JSON. */
export function factsTable(caption: string, facts: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, typeof value === "string" ? value : shortJson(value)]);
  return table(caption, ["name", "value"], rows, [0, 1]);
}

/** JSON, cut to fit into a cell. The complete value is in run.json. */
function shortJson(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 400 ? `${text.slice(0, 400)} …` : text;
}

const percent = (share: number): string => `${significant(100 * share)} %`;
