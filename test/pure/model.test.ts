import { describe, expect, it } from "vitest";
import { createModel, houlsby, lora } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import { labelNamesOf } from "../../src/model/config";
import { withHead } from "../../src/model/families";
import * as atOnce from "../../src/model/further-families";
import * as later from "../../src/model/further-families-later";
import { rotationOf, rotationTable } from "../../src/model/rotation";
import { batchInputs } from "../../src/train/plans/inputs";
import { trace } from "../../src/train/plans/trace";
import { withWeights } from "../../src/model/weights";
import { blocksFamily } from "../support/blocks-family";
import { tiny } from "../support/tiny";

const ENCODER = {
  vocab_size: 20,
  hidden_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 8,
  max_position_embeddings: 10,
};
const BERT = { ...ENCODER, model_type: "bert", architectures: ["BertForMaskedLM"] };
const ROBERTA = { ...ENCODER, model_type: "roberta", architectures: ["RobertaForMaskedLM"] };
const GPT2 = { model_type: "gpt2", vocab_size: 20, n_positions: 10, n_embd: 8, n_layer: 1, n_head: 2 };
const LLAMA = { ...ENCODER, model_type: "llama", architectures: ["LlamaForCausalLM"] };
const LLAMA_CLASSES = { ...LLAMA, architectures: ["LlamaForSequenceClassification"] };
const VIT = { ...ENCODER, model_type: "vit", image_size: 8, patch_size: 4, num_labels: 3 };

describe("families that pages load later", () => {
  it("are the same as elsewhere", async () => {
    expect([...later.FURTHER_TYPES].sort()).toEqual([...atOnce.FURTHER_TYPES].sort());
    expect(later.FURTHER_FAMILIES).toEqual({});
    for (const type of later.FURTHER_TYPES) await later.loadFurther(type);
    expect(later.FURTHER_FAMILIES).toEqual(atOnce.FURTHER_FAMILIES);
  });
});

describe("roles of projections", () => {
  const feedForward = ["feed_forward_in", "feed_forward_out"];
  const separate = ["query", "key", "value", "attention_output"];
  it.each([
    ["bert", BERT, [...separate, ...feedForward]],
    ["roberta", ROBERTA, [...separate, ...feedForward]],
    ["gpt2", GPT2, ["query_key_value", "attention_output", ...feedForward]],
    ["llama", LLAMA, [...separate, "feed_forward_in", ...feedForward]],
    ["vit", VIT, [...separate, ...feedForward]],
  ])("of %s are given for the projections of layers, and for no others", (_, config, roles) => {
    const { projections } = createModel(config);
    const inLayer = projections.filter(({ layer }) => layer === 0);
    expect(inLayer.map(({ role }) => role)).toEqual(roles);
    const others = projections.filter(({ layer }) => layer === undefined);
    expect(new Set(others.map(({ role }) => role))).toEqual(new Set(others.map(() => undefined)));
  });
});

describe("tables of the vocabulary", () => {
  const generators = Object.entries(tiny).filter(([, config]) => createModel(config()).output !== undefined);

  it.each(generators)("of %s are stored in 16 bits where projections of layers are packed", (_, config) => {
    const model = createModel(config({ tie_word_embeddings: false }));
    const [vocabulary, hidden] = [model.vocabularySize, model.hiddenSize];
    const tables = withWeights(model, "nf4").parameters.filter(({ shape: [rows, columns] }) => {
      return rows === vocabulary && columns === hidden;
    });
    expect(tables.map(({ dtype }) => dtype)).toEqual(["f16", "f16"]);
    if (model.encoderDecoder) return;
    // A head may have as many classes.
    const classifier = createModel(config({ architectures: ["ForSequenceClassification"], num_labels: vocabulary }));
    const head = withWeights(classifier, "nf4").parameters.find(({ name }) => name === "score.weight");
    expect(head).toMatchObject({ shape: [vocabulary, hidden] });
    expect(head!.dtype).toBeUndefined();
  });
});

describe("positions", () => {
  it("of RoBERTa count tokens that are not padding, starting after the padding id", () => {
    const inputIds = Int32Array.of(0, 5, 6, 2, 1, 1, 1, 1, 0, 7, 8, 2);
    const batch = {
      size: 2,
      length: 6,
      rows: 2,
      inputIds,
      tokenTypeIds: new Int32Array(12),
      labels: new Int32Array(2),
      attentionMask: inputIds.map((id) => (id === 1 ? 0 : 1)),
    };
    const { padded_positions: positions } = batchInputs(createModel(ROBERTA), batch);
    // Positions are integers.
    expect([...(positions as Int32Array)]).toEqual([2, 3, 4, 5, 1, 1, 1, 1, 2, 3, 4, 5]);
    expect(createModel(ROBERTA).maxLength, "positions after that of the padding id").toBe(8);
  });

  const plain = { rope_theta: 500000, rope_scaling: null, rope_parameters: null };
  const sizes = { headSize: 8, maxLength: 131072 };
  const llama3 = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };

  it("of LLaMA 3.1 are scaled as in transformers", () => {
    // The function _compute_llama3_parameters of transformers in float64, for head size 128 and theta 5e5.
    const expected = {
      0: 1,
      10: 0.12868737343265052,
      28: 0.0032114459947525913,
      29: 0.002166570763503359,
      30: 0.0013718935677611381,
      34: 0.00017850781276799638,
      35: 9.556212353964683e-5,
      63: 3.068925988914511e-7,
    };
    const { frequencies } = rotationOf({ ...plain, rope_scaling: llama3 }, { ...sizes, headSize: 128 });
    for (const [i, value] of Object.entries(expected)) {
      expect(frequencies[Number(i)]! / value, `frequency ${i}`).toBeCloseTo(1, 12);
    }
  });

  it("are read from the keys of transformers 4 and 5", () => {
    const version4 = rotationOf({ ...plain, rope_scaling: { type: "linear", factor: 4 } }, sizes);
    const parameters = { rope_theta: 500000, rope_type: "linear", factor: 4 };
    const version5 = rotationOf({ rope_theta: 10000, rope_scaling: null, rope_parameters: parameters }, sizes);
    expect(version5).toEqual(version4);
    expect(version4.frequencies[0]).toBe(0.25);
    const table = rotationTable(version4, Int32Array.of(0, 1, 2), 3);
    expect([table.length, table[2 * 8], table[2 * 8 + 4]]).toEqual([
      24,
      Math.fround(Math.cos(0.5)),
      Math.fround(Math.sin(0.5)),
    ]);
  });

  it.each([
    [{ rope_type: "dynamic", factor: 2 }, /rope_type dynamic is not supported/],
    [
      { rope_type: "longrope", short_factor: [1], long_factor: [1, 2] },
      /short_factor has 1 numbers, and a head 2 pairs/,
    ],
    [{ rope_type: "linear" }, /^config\.json has no rope_scaling\.factor, .*\nAdd it/],
    [{ ...llama3, low_freq_factor: undefined }, /^config\.json has no rope_scaling\.low_freq_factor/],
  ])("%j is refused before anything is loaded", (rope_scaling, message) => {
    expect(() => createModel({ ...LLAMA, rope_scaling })).toThrow(message);
    expect(() => createModel({ ...LLAMA, rope_scaling })).toThrow(ConfigError);
  });
});

describe("heads", () => {
  it.each([
    [BERT, {}, "BertForMaskedLM", "sequence_classification"],
    [BERT, { labels: 3 }, "BertForSequenceClassification", "sequence_classification"],
    [BERT, { labels: 1 }, "BertForSequenceClassification", "regression"],
    [ROBERTA, { task: "question_answering" }, "RobertaForQuestionAnswering", "question_answering"],
    [BERT, { labelNames: ["O"], task: "token_classification" }, "BertForTokenClassification", "token_classification"],
    [GPT2, { labels: 2 }, "GPT2ForSequenceClassification", "sequence_classification"],
    [GPT2, { task: "causal_lm" }, "GPT2LMHeadModel", "causal_lm"],
    [LLAMA, { task: "regression" }, "LlamaForSequenceClassification", "regression"],
    [LLAMA, { task: "question_answering" }, "LlamaForQuestionAnswering", "question_answering"],
    [VIT, { labels: 7 }, "ViTForImageClassification", "image_classification"],
  ] as const)("$model_type with %j becomes %s for %s", (config, options, architecture, task) => {
    const changed = withHead(config, options);
    if (Object.keys(options).length > 0) expect(changed["architectures"]).toEqual([architecture]);
    expect(createModel(changed).task).toBe(task);
  });

  it.each([
    [BERT, { problem_type: "multi_label_classification" }, /problem_type "multi_label_classification" with 2 labels/],
    [BERT, { problem_type: "regression", num_labels: 3 }, /problem_type "regression" with 3 labels/],
    [LLAMA_CLASSES, { problem_type: "single_label_classification", num_labels: 1 }, /with 1 label is/],
    [BERT, { problem_type: "ranking" }, /problem_type "ranking"/],
    [BERT, { id2label: {} }, /id2label has 0 names/],
    [BERT, { id2label: { 0: "a", 1: "b", 2: "c" }, num_labels: 2 }, /num_labels is 2, but id2label has 3 names/],
    [VIT, { num_labels: 1 }, /problem_type "regression" with 1 label is not supported for image_classification/],
    [VIT, { problem_type: "multi_label_classification" }, /problem_type/],
  ])("of %o with %j are refused", (config, overrides, message) => {
    expect(() => createModel({ ...config, ...overrides })).toThrow(ConfigError);
    expect(() => createModel({ ...config, ...overrides })).toThrow(message);
  });

  it("of one label in place of several are of regression, whatever the problem was", () => {
    const classes = { ...BERT, problem_type: "single_label_classification" };
    expect(createModel(withHead(classes, { labels: 1 })).task).toBe("regression");
  });

  it("of regression or question answering can be replaced by those of other tasks", () => {
    const regression = withHead(BERT, { task: "regression" });
    expect(regression).toMatchObject({ problem_type: "regression", num_labels: 1 });
    const classes = createModel(withHead(regression, { labels: 3 }));
    expect([classes.task, classes.classes]).toEqual(["sequence_classification", 3]);
    const answers = withHead({ ...BERT, id2label: { 0: "a", 1: "b", 2: "c" } }, { task: "question_answering" });
    expect(createModel(answers).classes).toBe(2);
  });

  it("with named labels keep the names and the order of the same head, which must have them", () => {
    const named = (config: Readonly<Record<string, unknown>>, ...labelNames: string[]) =>
      withHead(config, { task: "token_classification", labelNames });
    const tagger = named({ ...BERT, num_labels: 7 }, "O", "B-X", "I-X");
    expect(tagger).toMatchObject({ id2label: { 0: "O", 1: "B-X", 2: "I-X" }, label2id: { O: 0, "B-X": 1, "I-X": 2 } });
    expect([tagger["num_labels"], createModel(tagger).classes]).toEqual([undefined, 3]);
    expect(named(tagger, "B-X", "O")["id2label"]).toEqual(tagger["id2label"]);
    expect(() => named(tagger, "O", "B-Y")).toThrow(
      /id2label does not have the label B-Y of the data; it has O, B-X, I-X/,
    );
    const classifier = { ...tagger, architectures: ["BertForSequenceClassification"] };
    expect(createModel(named(classifier, "O", "B-Y")).classes).toBe(2);
    const unnamed = { ...tagger, id2label: { 0: "LABEL_0", 1: "LABEL_1" } };
    expect(named(unnamed, "O", "B-Y")["id2label"]).toEqual({ 0: "O", 1: "B-Y" });
  });

  it.each<[string, Record<string, unknown>, readonly string[] | undefined]>([
    ["numbers as names, as Trainer leaves them", { 0: 0, 1: 1, 2: 2 }, ["0", "1", "2"]],
    ["truth values as names", { 0: false, 1: true }, ["false", "true"]],
    ["labels from 1", { 1: "a", 2: "b", 3: "c" }, undefined],
    ["labels without names", { 0: null, 1: null, 2: null, 3: null }, undefined],
    ["lists as names", { 0: ["a"], 1: ["b"] }, undefined],
  ])("count %s", (_, id2label, names) => {
    const config = { ...BERT, id2label, label2id: { a: "0", 1: 1 } };
    expect(createModel(config).classes).toBe(Object.keys(id2label).length);
    expect(labelNamesOf(config)).toEqual(names);
  });

  it("of other tasks are refused with a list of those that the family has", () => {
    expect(() => createModel(withHead(VIT, { task: "causal_lm" }))).toThrow(/Supported tasks: image_classification/);
    expect(() => withHead(BERT, { labels: 0 })).toThrow(/number of labels is 0/);
  });

  it("of LLaMA for question answering rename the other tensors as Hugging Face does", () => {
    const names = createModel(withHead(LLAMA, { task: "question_answering" })).parameters.map(({ name }) => name);
    expect(names).toContain("transformer.layers.0.self_attn.q_proj.weight");
    expect(names).toContain("transformer.norm.weight");
    expect(createModel(LLAMA).parameters.map(({ name }) => name)).toContain("model.norm.weight");
  });
});

it.each([
  ["projections", lora({ targets: "all-linear" })],
  ["sub-layers", houlsby()],
])("leaves out the adapters of %s in dropped layers, whatever a family calls its layers", (_, adapter) => {
  const model = blocksFamily();
  const { tape } = trace({ model, adapter, batch: { size: 1, length: 8 }, isTraining: true, dropped: [0, 2] });
  const adapterTensors = new Set(adapter.tensors(model).map(({ name }) => name));
  const layers = tape.values.flatMap(({ origin }) =>
    origin.kind === "parameter" && adapterTensors.has(origin.name) ? origin.name.split(".")[1]! : [],
  );
  expect(new Set(layers)).toEqual(new Set(["1", "3"]));
});

it.each([BERT, ROBERTA, GPT2, LLAMA, VIT])(
  "gives the place of every parameter and projection of $model_type",
  (config) => {
    const model = createModel({ ...config, num_hidden_layers: 3, n_layer: 3 });
    for (const { name, layer } of [...model.parameters, ...model.projections]) {
      const [, number] = /\.(?:layer|layers|h)\.(\d+)\./.exec(name) ?? [];
      const outside = /embed|\.wte\.|\.wpe\./.test(name) ? "below" : undefined;
      expect(layer, name).toBe(number === undefined ? outside : Number(number));
    }
  },
);
