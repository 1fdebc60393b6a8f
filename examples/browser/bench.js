// `safetape bench` in the page: times ops on this browser's GPU, and saves the JSON that the command reads with --compare.
import { createEngine } from "../../dist/index.js";
import { benchOps, benchRatio, caseOfShapes, casesToTime } from "../../dist/testing.js";
import { OPS, parseBenchResult, quickCeiling, readShapes } from "../../dist/testing.js";
import { downloadFile } from "./download.js";

const CLOCKS = {
  device: "timestamps of the device around every dispatch",
  host: "the host's, around a whole run with its submission and uploads",
};

const element = (id) => document.getElementById(id);
const say = (text) => (element("status").textContent = text);
const form = element("options");
const number = (value) => (value === undefined ? "-" : String(Number(value.toPrecision(3))));
const percent = (share) => (share === undefined ? "-" : `${(100 * share).toFixed(0)} %`);

/** Columns of the table: a title, and what it has of a timing. */
const COLUMNS = [
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

/** A new element with a text or other elements in it. */
function make(name, ...children) {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

/** A bar of the larger share of the adapter's two rates. */
function barOf({ ofFmaRate, ofCopyRate = 0 }) {
  const bar = document.createElement("meter");
  bar.value = Math.min(1, Math.max(ofFmaRate, ofCopyRate));
  return bar;
}

/** The result of this page, and the one that it is compared with. */
let result, other;

function showFacts(facts) {
  const pairs = Object.entries(facts).filter(([, value]) => value !== "");
  element("facts").replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
}

function showTable(timings) {
  const columns = other
    ? [...COLUMNS, ["ms / other", (timing) => number(benchRatio(other, timing, form.variants.checked))]]
    : COLUMNS;
  element("head").replaceChildren(...[...columns, ["share of a rate"]].map(([title]) => make("th", title)));
  const rowOf = (timing) =>
    make("tr", ...columns.map(([, text]) => make("td", text(timing))), make("td", barOf(timing)));
  element("rows").replaceChildren(...timings.map(rowOf));
}

/** What the form chooses. Small cases are for tests; of all ops, those that have no other say nothing. */
function subjects() {
  const op = OPS.find(({ name }) => name === form.op.value);
  const lists = form.shapes.value.trim();
  if (lists && !op) throw new Error("The shapes are those of one op: choose it.");
  if (lists) return [{ op, cases: lists.split(";").map((list) => caseOfShapes(op, readShapes(list))) }];
  return op
    ? [{ op }]
    : OPS.filter((each) => casesToTime(each).some(({ bench }) => bench)).map((each) => ({ op: each }));
}

let engine;
let stopping;

async function time() {
  const chosen = subjects();
  const [file] = form.other.files;
  other = file && parseBenchResult(await file.text());
  stopping = new AbortController();
  say("Measuring the adapter's rates ...");
  engine ??= await createEngine();
  const reached = await quickCeiling(engine);
  say("Timing ...");
  const timings = [];
  showTable(timings);
  result = await benchOps(engine, chosen, {
    ceiling: reached,
    variants: form.variants.checked,
    signal: stopping.signal,
    onTimings(measured, done, total) {
      timings.push(...measured);
      showTable(timings);
      say(`${done} of ${total} cases`);
    },
  });
  const { adapter, driver, safetape, ceiling } = result;
  const clock = [...new Set(timings.map((timing) => CLOCKS[timing.clock]))].join("; ");
  const rates = `${ceiling.gflops} GFLOP/s of multiply-adds, ${ceiling.gigabytesPerSecond} GB/s of copies`;
  const compared = other ? `${other.adapter}, ${other.driver}, safetape ${other.safetape}` : "";
  showFacts({ adapter, driver, safetape, clock, rates, compared });
  element("save").disabled = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  element("start").disabled = true;
  element("stop").disabled = false;
  try {
    await time();
  } catch (error) {
    say(error.message);
  }
  element("start").disabled = false;
  element("stop").disabled = true;
  document.body.dataset.done = "true";
});
element("stop").addEventListener("click", () => stopping?.abort());
element("save").addEventListener("click", () => {
  downloadFile(`safetape-bench-${form.op.value || "all"}.json`, JSON.stringify(result, undefined, 1));
});

form.op.append(new Option("all", ""), ...OPS.map(({ name }) => new Option(name)));
form.op.value = "softmax";
// ?op=gelu&shapes=x=512x768 sets the form's fields.
for (const [name, value] of new URLSearchParams(location.search))
  if (form[name] && form[name].type !== "file") form[name].value = value;
showTable([]);
document.body.dataset.ready = "true";
