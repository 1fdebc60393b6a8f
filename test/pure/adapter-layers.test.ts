import { describe, expect, it } from "vitest";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { makeAdapter } from "../../src/adapter/make";
import { createModel } from "../../src/index";
import type { Adapter, LayerChoice, Model } from "../../src/index";
import { withoutParts } from "../../src/cli/study/parts";
import { failure } from "../support/failure";
import { SEQ2SEQ_FAMILIES, layerCount, tiny } from "../support/tiny";

const FAMILIES = ["bert", "gpt2", "llama", "vit", ...SEQ2SEQ_FAMILIES] as const;
const KINDS = ["lora", "dora", "aflora", "vera", "adalora", "sora", "loha", "lokr", "oft", "ia3"];
const CHOICES: readonly (readonly [LayerChoice, readonly number[]])[] = [
  ["early", [0, 1]],
  ["later", [2, 3]],
  [
    [1, 3],
    [1, 3],
  ],
];

/** Layers of the tensors that an adapter adds; what several layers share has none. */
const layersOf = (adapter: Adapter, model: Model): unknown[] =>
  [...new Set(adapter.tensors(model).flatMap(({ layer }) => (typeof layer === "number" ? [layer] : [])))].sort();

describe.each(FAMILIES)("a choice of layers on %s", (family) => {
  // T5 and BART have two in either part.
  const model = createModel(family === "t5" || family === "bart" ? tiny[family]() : tiny[family](layerCount(4)));
  const inLayers = model.projections.filter(({ layer }) => layer !== undefined).map(({ name }) => name);
  const [first = ""] = inLayers;
  const TARGETS = {
    "the family's targets": undefined,
    "all-linear": "all-linear",
    "a pattern": ".*",
    "ends of paths": [first.split(".").at(-1)!],
    "complete paths": inLayers,
  };
  const cases = KINDS.flatMap((kind) => Object.entries(TARGETS).map(([name, targets]) => ({ kind, name, targets })));

  it.each(cases)("limits $kind on $name, in its file as well", async ({ kind, targets }) => {
    for (const [layers, numbers] of CHOICES) {
      const adapter = makeAdapter({ kind, ...(targets && { targets }), layers });
      expect(layersOf(adapter, model)).toEqual(numbers);
      const read = await adapterFromConfig(adapter.peftConfig(model, 10), "the file");
      const names = (one: Adapter) => one.tensors(model).map(({ name }) => name);
      expect(names(read).sort()).toEqual(names(adapter).sort());
    }
  });
});

describe("a choice of layers", () => {
  const bert = createModel(tiny.bert(layerCount(4)));

  it("holds where an ablation leaves out parts", () => {
    const early = { kind: "lora", targets: "all-linear", layers: "early" };
    const adapter = makeAdapter(withoutParts(bert, early, ["self_attention"]));
    expect(layersOf(adapter, bert)).toEqual([0, 1]);
    const ends = { kind: "ia3", layers: [3] };
    expect(layersOf(makeAdapter(withoutParts(bert, ends, ["self_attention"])), bert)).toEqual([3]);
  });

  it("without any of the targets is refused", async () => {
    const adapter = makeAdapter({ kind: "lora", targets: ".*layer.0.*query", layers: "later" });
    expect((await failure(() => adapter.tensors(bert))).message).toMatch(/have no module in the layers 2, 3/);
  });

  it("beside a pattern in a file is refused, as PEFT does", async () => {
    const config = { peft_type: "LORA", target_modules: "all-linear", layers_to_transform: [1] };
    const adapter = await adapterFromConfig(config, "the file");
    expect((await failure(() => adapter.tensors(bert))).message).toMatch(/layers_to_transform beside .*"all-linear"/);
  });
});
