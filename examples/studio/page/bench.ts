// `safetape bench` in a page: times ops on this browser's GPU, and saves the JSON that the command reads with --compare.
import { SafetapeError } from "../../../src/base/errors";
import { createEngine } from "../../../src/engine";
import type { Engine } from "../../../src/engine";
import { benchOps, benchRatio, caseOfShapes, casesToTime, OPS } from "../../../src/entry/testing";
import { parseBenchResult, quickCeiling, readShapes } from "../../../src/entry/testing";
import type { BenchResult, BenchSubject, BenchTiming } from "../../../src/entry/testing";
import { button, choice, field, fill, h } from "./dom";
import { download } from "./files";

const CLOCKS = {
  device: "timestamps of the device around every dispatch",
  host: "the host's, around a whole run with its submission and uploads",
} as const;

const number = (value: number | undefined): string =>
  value === undefined ? "-" : String(Number(value.toPrecision(3)));
const percent = (share: number | undefined): string => (share === undefined ? "-" : `${(100 * share).toFixed(0)} %`);

type Column = readonly [title: string, text: (timing: BenchTiming) => string];

const COLUMNS: readonly Column[] = [
  ["op", ({ op }) => op],
  ["case", (timing) => timing.case],
  ["pass", ({ pass }) => pass],
  ["kernels", ({ variant }) => variant],
  ["ms", ({ ms }) => number(ms)],
  ["from ... to", ({ fastestMs, slowestMs }) => `${number(fastestMs)} to ${number(slowestMs)}`],
  ["GFLOP/s", ({ gflops }) => number(gflops)],
  ["of rate", ({ ofFmaRate }) => percent(ofFmaRate)],
  ["GB/s", ({ gigabytesPerSecond }) => number(gigabytesPerSecond)],
  ["of rate", ({ ofCopyRate }) => percent(ofCopyRate)],
];

const op = choice([["", "all"], ...OPS.map(({ name }): [string, string] => [name, name])], "softmax", () => undefined);
const shapes = h("input", { type: "text", placeholder: "x=512x768,w=3072x768" });
const variants = h("input", { type: "checkbox" });
const other = h("input", { type: "file", accept: ".json,application/json" });
const start = h("button", { type: "submit", class: "primary", id: "start" }, "Time");
const stop = button("Stop", () => stopping?.abort(), { id: "stop", disabled: true });
const save = button("Save JSON", () => saveResult(), { id: "save", disabled: true });
const status = h("p", { role: "status", class: "status", id: "status" }, "Ready.");
const facts = h("dl", { class: "facts", id: "facts" });
const head = h("tr");
const rows = h("tbody", { id: "rows" });
const form = h(
  "form",
  {},
  h(
    "div",
    { class: "row" },
    field("Op", op),
    field("Shapes", shapes),
    field("Each variant", variants),
    field("Compare with", other),
  ),
  h("p", { class: "buttons" }, start, stop, save),
);

let engine: Engine | undefined;
let stopping: AbortController | undefined;
/** The result of this page. */
let result: BenchResult | undefined;

function showTable(timings: readonly BenchTiming[], compared?: BenchResult): void {
  const columns = compared
    ? [...COLUMNS, ["ms / other", (timing) => number(benchRatio(compared, timing, variants.checked))] satisfies Column]
    : COLUMNS;
  const titles = [...columns.map(([title]) => title), "share of a rate"];
  fill(head, ...titles.map((title) => h("th", { scope: "col" }, title)));
  fill(
    rows,
    ...timings.map((timing) =>
      h("tr", {}, ...columns.map(([, text]) => h("td", {}, text(timing))), h("td", {}, barOf(timing))),
    ),
  );
}

/** A bar of the larger share of the adapter's two rates. */
function barOf({ op: name, ofFmaRate, ofCopyRate = 0 }: BenchTiming): HTMLElement {
  const share = Math.min(1, Math.max(ofFmaRate, ofCopyRate));
  return h("meter", { value: share, "aria-label": `${name}: ${percent(share)} of a rate` });
}

/** What the form chooses. Small cases are for tests; of all ops, those that have no other say nothing. */
function subjects(): readonly BenchSubject[] {
  const chosen = OPS.find(({ name }) => name === op.value);
  const lists = shapes.value.trim();
  if (lists && !chosen) throw new Error("The shapes are those of one op: choose it.");
  if (lists && chosen) {
    return [{ op: chosen, cases: lists.split(";").map((list) => caseOfShapes(chosen, readShapes(list))) }];
  }
  if (chosen) return [{ op: chosen }];
  return OPS.filter((each) => casesToTime(each).some(({ bench }) => bench)).map((each) => ({ op: each }));
}

async function time(): Promise<void> {
  const chosen = subjects();
  const [file] = other.files ?? [];
  const compared = file && parseBenchResult(await file.text());
  stopping = new AbortController();
  status.textContent = "Measuring the adapter's rates ...";
  engine ??= await createEngine();
  const reached = await quickCeiling(engine);
  status.textContent = "Timing ...";
  const timings: BenchTiming[] = [];
  showTable(timings, compared);
  result = await benchOps(engine, chosen, {
    ceiling: reached,
    variants: variants.checked,
    signal: stopping.signal,
    onTimings: (measured, done, total) => {
      timings.push(...measured);
      showTable(timings, compared);
      status.textContent = `${done} of ${total} cases`;
    },
  });
  const { adapter, driver, safetape, ceiling } = result;
  const pairs = {
    adapter,
    driver,
    safetape,
    clock: [...new Set(timings.map((timing) => CLOCKS[timing.clock]))].join("; "),
    rates: `${ceiling.gflops} GFLOP/s of multiply-adds, ${ceiling.gigabytesPerSecond} GB/s of copies`,
    compared: compared ? `${compared.adapter}, ${compared.driver}, safetape ${compared.safetape}` : "",
  };
  const known = Object.entries(pairs).filter(([, value]) => value !== "");
  fill(facts, ...known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  save.disabled = false;
}

function saveResult(): void {
  const text = JSON.stringify(result, undefined, 1);
  download(new File([text], `safetape-bench-${op.value || "all"}.json`, { type: "application/json" }));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start.disabled = true;
  stop.disabled = false;
  time()
    .catch((error: unknown) => {
      if (!(error instanceof Error)) throw error;
      status.textContent = error instanceof SafetapeError ? `${error.fact} ${error.remedy}` : error.message;
    })
    .finally(() => {
      start.disabled = false;
      stop.disabled = true;
      document.body.dataset["done"] = "true";
    });
});

fill(
  document.querySelector("#bench")!,
  form,
  status,
  facts,
  h(
    "div",
    { class: "wide timings", tabindex: 0, role: "region", "aria-label": "Times" },
    h("table", {}, h("thead", {}, head), rows),
  ),
);
// ?op=gelu&shapes=x=512x768 sets the form's fields.
const query = new URLSearchParams(location.search);
op.value = query.get("op") ?? op.value;
shapes.value = query.get("shapes") ?? "";
variants.checked = query.has("variants");
showTable([]);
document.body.dataset["ready"] = "true";
