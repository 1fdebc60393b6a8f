import { describe, expect, it } from "vitest";
import { createModel } from "safetape";
import { lnTuning } from "safetape/analysis";
import { ConfigError, FileFormatError } from "safetape/engine";
import { adapterFile, adapterOfFile } from "../../src/adapter/file";
import { elements } from "../../src/base/shape";
import type { FloatTensor } from "../../src/io/safetensors";
import { failure } from "../support/failure";
import { tiny } from "../support/tiny";

const bert = createModel(tiny.bert());
const NORMS = (layers: readonly number[]): string[] =>
  layers.flatMap((layer) =>
    ["attention.output.LayerNorm", "output.LayerNorm"].flatMap((norm) =>
      ["weight", "bias"].map((part) => `bert.encoder.layer.${layer}.${norm}.${part}`),
    ),
  );
const EMBEDDINGS = ["bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.bias"];
const HEAD = ["classifier.weight", "classifier.bias"];

/** The tensors that an adapter trains, each element with its own number. */
function tensorsOf(model: typeof bert, adapter: ReturnType<typeof lnTuning>): Map<string, FloatTensor> {
  const trained = new Set(adapter.baseTensors!(model));
  const tensors = model.parameters.filter(({ name }) => trained.has(name));
  return new Map(
    tensors.map(({ name, shape }, i) => [
      name,
      { shape, data: Float32Array.from({ length: elements(shape) }, (_, j) => i + j / 100) },
    ]),
  );
}

describe("LN tuning", () => {
  it.each([
    ["all", {}, [...EMBEDDINGS, ...NORMS([0, 1, 2])]],
    ["those of a layer", { layers: [1] }, NORMS([1])],
    ["those of a pattern", { targets: ".*[.]2[.].*LayerNorm" }, NORMS([2])],
    ["those of a list", { targets: ["embeddings.LayerNorm"] }, EMBEDDINGS],
  ])("trains norms and the head: %s", (_, options, norms) => {
    expect(lnTuning(options).baseTensors!(bert).toSorted()).toEqual([...norms, ...HEAD].sort());
  });

  it.each(["bert", "gpt2", "llama", "vit", "modernbert", "t5"] as const)(
    "has the same tensors after it is written and read: %s",
    async (family) => {
      const model = createModel(tiny[family]());
      for (const adapter of [lnTuning(), lnTuning({ layers: [1] })]) {
        const tensors = tensorsOf(model, adapter);
        for (const transformers of [4, 5] as const) {
          const file = adapterFile(adapter, model, tensors, transformers);
          const loaded = await adapterOfFile(file, model, "the test");
          expect(loaded.tensors).toEqual(tensors);
          expect(loaded.adapter.baseTensors!(model)).toEqual(adapter.baseTensors!(model));
        }
      }
    },
  );

  it("has PEFT's keys and names of targets", () => {
    const adapter = lnTuning({ layers: [1] });
    const { config, tensors } = adapterFile(adapter, bert, tensorsOf(bert, adapter));
    expect(config).toMatchObject({
      peft_type: "LN_TUNING",
      target_modules: ["1.attention.output.LayerNorm", "1.output.LayerNorm"],
      modules_to_save: ["classifier"],
      task_type: "SEQ_CLS",
    });
    expect([...tensors.keys()].filter((key) => key.includes("layer.1.output"))).toEqual(
      ["weight", "bias"].map(
        (part) => `base_model.model.bert.encoder.layer.1.output.LayerNorm.ln_tuning_layers.${part}`,
      ),
    );
    const all = adapterFile(lnTuning(), bert, tensorsOf(bert, lnTuning())).config;
    expect(all["target_modules"]).toEqual(["LayerNorm"]);
    // Its first layer has a module of this name without tensors, at which PEFT would fail.
    const modernBert = createModel(tiny.modernbert());
    const { target_modules: names } = adapterFile(lnTuning(), modernBert, tensorsOf(modernBert, lnTuning())).config;
    expect(names).toEqual(expect.arrayContaining(["1.attn_norm", "2.attn_norm", "mlp_norm"]));
    expect(names).not.toContain("attn_norm");
  });

  it("refuses targets that are no norms, and passes over a file's names that no module has", async () => {
    for (const targets of [["query"], ["LayerNorm", "query"], ["LayerNrom"], ".*query", "all-linear"]) {
      const { message } = await failure(() => lnTuning({ targets }).baseTensors!(bert), ConfigError);
      expect(message).toMatch(/are no norms of this bert model/);
    }
    const adapter = lnTuning();
    const tensors = tensorsOf(bert, adapter);
    const file = adapterFile(adapter, bert, tensors);
    const named = (names: string[]) =>
      adapterOfFile({ ...file, config: { ...file.config, target_modules: names } }, bert, "the test");
    expect((await named(["LayerNorm", "input_layernorm"])).tensors).toEqual(tensors);
    expect((await failure(named(["LayerNorm", "value"]), ConfigError)).message).toMatch(/\["value"\] are no norms/);
    // The file has more norms than its list names.
    expect((await failure(named(["output.LayerNorm"]), FileFormatError)).message).toMatch(/embeddings\.LayerNorm/);
  });
});
