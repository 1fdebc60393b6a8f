import { sumBytes } from "../gpu/ledger";
import { figures } from "./figures/index";
import type { RunRecord } from "./record";
import { STYLE } from "./style";
import { inlineSvg } from "./svg";
import type { Figure } from "./svg";
import { compactionTable, evaluationTable, factsTable, freezeTable, triedRatesTable } from "./tables";
import { escapeText } from "./text";
import { showBytes, showCount, showFlops, showSeconds } from "./units";

/** The report of a run: a self-contained HTML page without scripts. */
export function reportHtml(record: RunRecord): string {
  const drawn = figures(record);
  const hasMap = drawn.some(({ name }) => name === "adapters");
  const sections = drawn.map(figureSection);
  const noMap = "<h2>Adapters by layer and epoch</h2>\n<p>Nothing was scored or frozen: there is no map to draw.</p>";
  return page(record.title, [
    header(record),
    ...sections,
    ...(hasMap ? [] : [noMap]),
    `<h2>Freezes</h2>\n${freezeTable(record)}`,
    titled("Compactions", compactionTable(record)),
    titled("Learning rates", triedRatesTable(record)),
    titled("Evaluations", evaluationTable(record)),
    `<h2>How to run it again</h2>\n${reproduction(record)}`,
    `<h2>Where it ran</h2>\n${environment(record)}`,
  ]);
}

/** A table under its title; nothing without a table. */
const titled = (title: string, content: string): string => (content === "" ? "" : `<h2>${title}</h2>\n${content}`);

/** A self-contained HTML page. */
export function page(title: string, sections: readonly string[]): string {
  const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
  return [
    `<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    // Without an icon, browsers request one from the server, which would answer with an error.
    `<link rel="icon" href="data:,">`,
    `<title>${escapeText(title)}</title>\n<style>${STYLE}</style>\n</head>\n<body>\n<main>`,
    ...sections.filter((section) => section !== ""),
    "</main>\n</body>\n</html>\n",
  ].join("\n");
}

/** A section with a figure and its caption. */
export function figureSection(figure: Figure): string {
  return (
    `<section>\n<h2>${escapeText(figure.title)}</h2>\n<figure>\n${inlineSvg(figure)}\n` +
    `<figcaption>${escapeText(figure.caption)}</figcaption>\n</figure>\n</section>`
  );
}

function header(record: RunRecord): string {
  const { title, created, model, gpu, metrics, peakBytes, seconds, flops, steps, freezes, startDeviation } = record;
  const last = steps.at(-1);
  const facts: [string, string][] = [
    ...Object.entries(metrics).map(([name, value]): [string, string] => [name, value.toFixed(4)]),
    ["steps", String(steps.length)],
    ["peak GPU memory", showBytes(peakBytes)],
    ["GPU memory at the end", showBytes(last ? sumBytes(last.bytes) : 0)],
    ["time of steps", showSeconds(seconds)],
    ["work", showFlops(flops)],
    ["freezes", String(freezes.length)],
    ...parameterFacts(record),
  ];
  if (startDeviation !== undefined) {
    facts.push(["deviation of the start from the model", `${(100 * startDeviation).toFixed(1)} %`]);
  }
  const where = gpu.description || gpu.device || gpu.vendor;
  return (
    `<header>\n<h1>${escapeText(title)}</h1>\n` +
    `<p>${escapeText(`${model.source} (${model.family}, ${model.layers} layers) on ${where}, ${created}`)}</p>\n${factList(facts)}\n</header>`
  );
}

/** Trained parameters at the start, and on average over the steps. */
function parameterFacts({ parameters }: RunRecord): [string, string][] {
  if (!parameters) return [];
  const { trained, averageLive } = parameters;
  return [
    ["trained parameters", showCount(trained)],
    ["still learning, on average", showCount(averageLive)],
  ];
}

/** A list of names and values, as tiles. */
export function factList(facts: readonly (readonly [string, string])[]): string {
  const tiles = facts.map(([name, value]) => `<div><dt>${escapeText(name)}</dt><dd>${escapeText(value)}</dd></div>`);
  return `<dl class="facts">\n${tiles.join("\n")}\n</dl>`;
}

function reproduction({ command, options, settings, policy }: RunRecord): string {
  return [
    command === undefined ? "" : `<pre>${escapeText(command)}</pre>`,
    options ? factsTable("Options of the command", options) : "",
    factsTable("Settings of the trainer", settings),
    factsTable("Freeze policy: settings and results", policy),
  ].join("\n");
}

function environment({ gpu, versions, model, initialised, task }: RunRecord): string {
  return factsTable("Adapter, driver, versions", {
    adapter: gpu.device || gpu.vendor,
    vendor: gpu.vendor,
    driver: gpu.description,
    software: gpu.isSoftware,
    ...versions,
    model: model.source,
    family: model.family,
    layers: model.layers,
    task: task ?? model.task,
    ...(initialised?.length ? { "new in this run": initialised.join(", ") } : {}),
  });
}
