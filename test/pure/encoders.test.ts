import { describe, expect, it } from "vitest";
import { createModel } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import { withHead } from "../../src/model/families";
import { trace } from "../../src/train/plans/trace";
import { blocksOf } from "../../src/model/blocks";
import { distanceRow } from "../../src/model/deberta";
import { relativeBucket } from "../../src/model/relative-buckets";
import { windowRegions, windowTokens } from "../../src/model/windows";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

const base = { hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, intermediate_size: 3072 };
const large = { hidden_size: 1024, num_hidden_layers: 24, num_attention_heads: 16, intermediate_size: 4096 };
const xlmRoberta = { model_type: "xlm-roberta", vocab_size: 250_002, max_position_embeddings: 514, type_vocab_size: 1 };
const electra = { model_type: "electra", vocab_size: 30_522, max_position_embeddings: 512 };
const albert = { model_type: "albert" };
const modernbert = { model_type: "modernbert", num_attention_heads: 16 };
const deberta = { ...tiny["deberta-v2"](), vocab_size: 128_100, position_buckets: 256 };
const dinov2 = { model_type: "dinov2", image_size: 518 };

const swinBase = { model_type: "swin", embed_dim: 128, depths: [2, 2, 18, 2], num_heads: [4, 8, 16, 32] };
const swinLarge = { ...swinBase, embed_dim: 192, num_heads: [6, 12, 24, 48] };
const swinTiny = { depths: [2, 2, 6, 2], num_heads: [3, 6, 12, 24] };

/** Sizes of published models, and their parameters as transformers 5.18 counts them, without a head but with its pooler. */
const PUBLISHED: readonly (readonly [string, Config, number])[] = [
  ["XLM-RoBERTa-base", { ...xlmRoberta, ...base }, 278_043_648],
  ["XLM-RoBERTa-large", { ...xlmRoberta, ...large }, 559_890_432],
  ["DistilBERT-base", { model_type: "distilbert" }, 66_362_880],
  ["ELECTRA-base", { ...electra, ...base, embedding_size: 768 }, 108_891_648],
  ["ALBERT-base", { ...albert, ...base }, 11_683_584],
  ["ALBERT-large", { ...albert, ...large }, 17_683_968],
  ["ALBERT-xlarge", { ...albert, ...large, hidden_size: 2048, intermediate_size: 8192 }, 58_724_864],
  ["ALBERT-xxlarge", { ...albert, ...base, hidden_size: 4096, intermediate_size: 16_384 }, 222_595_584],
  ["MPNet-base", { model_type: "mpnet", ...base, max_position_embeddings: 514 }, 109_486_464],
  ["ModernBERT-base", { ...modernbert, hidden_size: 768, num_hidden_layers: 22, intermediate_size: 1152 }, 149_014_272],
  [
    "ModernBERT-large",
    { ...modernbert, hidden_size: 1024, num_hidden_layers: 28, intermediate_size: 2624 },
    394_781_696,
  ],
  ["DeBERTaV3-small", { ...deberta, ...base, num_hidden_layers: 6 }, 141_304_320],
  ["DeBERTaV3-base", { ...deberta, ...base }, 183_831_552],
  ["DeBERTaV3-large", { ...deberta, ...large }, 434_012_160],
  ["DeiT-base, distilled", { model_type: "deit", ...base }, 85_800_192],
  // Without the token that stands for masked patches in pre-training.
  ["DINOv2-base", { ...dinov2, ...base }, 86_580_480 - 768],
  ["DINOv2-large", { ...dinov2, ...large }, 304_368_640 - 1024],
  // Less their heads of 1000 labels, and of 6.
  ["Swin-tiny", { model_type: "swin", ...swinTiny }, 28_288_354 - 769_000],
  ["Swin-base", swinBase, 87_768_224 - 1_025_000],
  ["Swin-large", swinLarge, 196_532_476 - 1_537_000],
  ["Swin-large, 384 pixels", { ...swinLarge, image_size: 384, window_size: 12 }, 195_207_738 - 9_222],
  ["Swin v2-tiny", { model_type: "swinv2", ...swinTiny, image_size: 256, window_size: 8 }, 27_578_154],
  ["Swin v2-base", { ...swinBase, model_type: "swinv2", image_size: 256, window_size: 16 }, 86_893_816],
];

/** The dropout before each `*ForTokenClassification`'s classifier in transformers, where all dropouts differ. */
it.each([
  ["bert", 0.31],
  ["roberta", 0.31],
  ["xlm-roberta", 0.31],
  ["electra", 0.31],
  ["albert", 0.32],
  ["distilbert", 0.33],
  ["mpnet", 0.34],
  ["deberta-v2", 0.34],
  ["modernbert", 0.31],
] as const)("%s classifies tokens behind a dropout of %s", (family, probability) => {
  const dropouts = {
    classifier_dropout: 0.31,
    classifier_dropout_prob: 0.32,
    dropout: 0.33,
    hidden_dropout_prob: 0.34,
    seq_classif_dropout: 0.35,
    cls_dropout: 0.36,
    pooler_dropout: 0.37,
    qa_dropout: 0.38,
  };
  const model = createModel(withHead({ ...tiny[family](), ...dropouts }, { task: "token_classification", labels: 3 }));
  const { tape } = trace({ model, batch: { size: 2, length: 4 }, isTraining: true });
  const last = tape.nodes.findLast(({ op }) => op.name === "dropout");
  expect(last?.attributes).toMatchObject({ probability });
  const classifier = model.parameters.filter(({ name }) => /^(?:pre_)?classifier\./.test(name));
  expect(classifier.map(({ name, shape }) => [name, shape])).toEqual([
    ["classifier.weight", [3, model.hiddenSize]],
    ["classifier.bias", [3]],
  ]);
});

it.each(PUBLISHED)("%s has as many parameters as in transformers", (_, config, parameters) => {
  const model = createModel(config);
  const count = (isCounted: (name: string) => boolean): number =>
    model.parameters
      .filter(({ name }) => isCounted(name))
      .map(({ shape }) => shape.reduce((a, b) => a * b, 1))
      .reduce((a, b) => a + b, 0);
  // RoBERTa's and MPNet's models without a head have a pooler, as large as the first projection of the head.
  const isPooler = (name: string): boolean =>
    ["xlm-roberta", "mpnet"].includes(model.family) && name.startsWith("classifier.dense.");
  expect(count((name) => isPooler(name) || !/^(?:head|(?:pre_)?classifier|pooler)\./.test(name))).toBe(parameters);
});

it.each([
  ["xlm-roberta", ["query", "value"]],
  ["electra", ["query", "value"]],
  // PEFT has no default of its own for these.
  ["albert", ["query", "value"]],
  ["mpnet", ["q", "v"]],
  ["modernbert", ["Wqkv"]],
  ["deberta-v2", ["query_proj", "value_proj"]],
  ["deit", ["query", "value"]],
  ["dinov2", ["query", "value"]],
  ["swin", ["query", "value"]],
  ["swinv2", ["query", "value"]],
  ["distilbert", ["q_lin", "v_lin"]],
] as const)("%s is adapted at %j by default", (family, targets) => {
  expect(createModel(tiny[family]()).defaultTargets).toEqual(targets);
});

it("ModernBERT scales both rotations by a scaling at the top level, as transformers does", () => {
  const scaling = { rope_type: "linear", factor: 4 };
  const both = { full_attention: scaling, sliding_attention: scaling };
  const tablesOf = (overrides: Config) =>
    createModel(tiny.modernbert(overrides)).constants!(Int32Array.of(0, 1, 5), { size: 1, length: 3 });
  expect(tablesOf({ rope_scaling: scaling })).toEqual(tablesOf({ rope_parameters: both }));
  expect(tablesOf({ rope_scaling: scaling })).not.toEqual(tablesOf({}));
});

describe("keys that would change the result are refused by name", () => {
  it.each([
    ["bert", { is_decoder: true }, /is_decoder is true/],
    ["bert", { add_cross_attention: true }, /add_cross_attention is true/],
    ["roberta", { position_embedding_type: "relative_key" }, /position_embedding_type is "relative_key"/],
    ["electra", { position_embedding_type: "relative_key_query" }, /position_embedding_type/],
    ["xlm-roberta", { is_decoder: true }, /is_decoder/],
    ["albert", { num_hidden_groups: 2 }, /num_hidden_groups is 2/],
    ["albert", { inner_group_num: 2 }, /inner_group_num is 2/],
    ["distilbert", { activation: "relu2" }, /relu2/],
    ["distilbert", { dim: 0 }, /dim is 0/],
    ["distilbert", { hidden_size: 8 }, /hidden_size is 8, but dim is 16/],
    ["modernbert", { head_dim: 4 }, /head_dim is 4; expected 8/],
    [
      "modernbert",
      { rope_parameters: { sliding_attention: { partial_rotary_factor: 0.5 } } },
      /partial_rotary_factor is 0\.5; expected 1/,
    ],
    ["modernbert", { classifier_activation: "relu" }, /classifier_activation is "relu"/],
    ["modernbert", { layer_types: ["full_attention"] }, /layer_types has 1 entries for 3 layers/],
    ["modernbert", { classifier_pooling: "max" }, /classifier_pooling is "max"/],
    ["deberta-v2", { num_labels: 0 }, /num_labels is 0; expected a whole number from 1/],
    ["deberta-v2", { num_hidden_layers: 1.5 }, /num_hidden_layers is 1\.5; expected integer/],
    ["swin", { depths: [] }, /depths has 0 entries; expected >=1/],
    ["deberta-v2", { relative_attention: false }, /relative_attention is false; expected true/],
    ["deberta-v2", { share_att_key: undefined }, /^config\.json has no share_att_key, .*\nAdd it/],
    ["deberta-v2", { pos_att_type: "c2p" }, /pos_att_type is "c2p"/],
    ["deberta-v2", { norm_rel_ebd: "none" }, /norm_rel_ebd is "none"/],
    ["deberta-v2", { position_buckets: -1 }, /position_buckets is -1/],
    ["deberta-v2", { conv_kernel_size: 3 }, /conv_kernel_size is 3/],
    ["deberta-v2", { embedding_size: 12 }, /embedding_size is 12; expected 16/],
    ["deberta-v2", { pooler_hidden_act: "tanh" }, /pooler_hidden_act is "tanh"/],
    ["deit", { patch_size: 3 }, /not a multiple of patch_size 3/],
    ["dinov2", { use_swiglu_ffn: true }, /use_swiglu_ffn is true/],
    ["dinov2", { drop_path_rate: 0.1 }, /drop_path_rate is 0.1/],
    ["swin", { use_absolute_embeddings: true }, /use_absolute_embeddings is true/],
    ["t5", { decoder_start_token_id: 9999 }, /the decoder starts with token 9999/],
    ["bart", { decoder_start_token_id: 9999 }, /the decoder starts with token 9999/],
    ["swin", { window_size: 5 }, /window_size 5 exceeds the 4 x 4 tokens of stage 2/],
    ["swin", { num_heads: [1] }, /num_heads has 1 entries for 2 stages/],
    ["swin", { num_heads: [1, 3] }, /width 16 of stage 2 cannot be split into 3 heads/],
    ["swin", { depths: [1024, 1] }, /depths is 1025/],
    ["swin", { hidden_act: "relu" }, /relu/],
    ["swin", { patch_size: 3 }, /not a multiple of patch_size 3/],
    ["swinv2", { pretrained_window_sizes: [8] }, /pretrained_window_sizes has 1 entries for 2 stages/],
    ["swinv2", { pretrained_window_sizes: [8, 1] }, /pretrained_window_sizes/],
    ["swinv2", { use_absolute_embeddings: true }, /use_absolute_embeddings is true/],
  ] as const)("%s with %j", (family, overrides, message) => {
    const build = () => createModel(tiny[family](overrides));
    expect(build).toThrow(ConfigError);
    expect(build).toThrow(message);
  });
});

describe("Swin's stochastic depth", () => {
  const factors = (family: "swin" | "swinv2", isTraining: boolean) => {
    const model = createModel(tiny[family]({ hidden_dropout_prob: 0 }));
    const { tape } = trace({ model, batch: { size: 2, length: model.maxLength }, isTraining });
    return tape.nodes.flatMap(({ op, attributes }) => (op.name === "dropout" ? [attributes["probability"]] : []));
  };

  it("drops attention alone, and in Swin v2 both sub-layers, with a probability that grows to drop_path_rate", () => {
    expect(factors("swin", true)).toEqual([0.05, 0.1]);
    expect(factors("swinv2", true)).toEqual([0.05, 0.05, 0.1, 0.1]);
  });

  it("is none outside training", () => expect(factors("swin", false)).toEqual([]));
});

it("windows hold every token once, and shifted ones see no token of another part of the image", () => {
  for (const windows of [8, 9, 5].flatMap((side) => [0, 1, 2].map((shift) => ({ side, window: 4, shift })))) {
    const tokens = windowTokens(windows);
    const sorted = [...tokens].filter((token) => token >= 0).sort((a, b) => a - b);
    expect(sorted).toEqual(Array.from({ length: windows.side ** 2 }, (_, i) => i));
    const regions = windowRegions(windows);
    const span = windows.window * windows.side;
    for (let start = 0; start < tokens.length; start += 16) {
      for (let region = 0; region < 9; region++) {
        const seen = [...tokens.subarray(start, start + 16)].filter((t, i) => t >= 0 && regions[start + i] === region);
        expect(Math.max(0, ...seen) - Math.min(Infinity, ...seen), JSON.stringify(windows)).toBeLessThan(span);
      }
    }
  }
});

it("buckets of relative positions are those of transformers", () => {
  const sizes = { relative_attention_num_buckets: 32, relative_attention_max_distance: 128 };
  const both = [-64, -16, 0, 1, 8, 64, 128].map((distance) => relativeBucket(distance, true, sizes));
  expect(both).toEqual([14, 10, 0, 17, 24, 30, 31]);
  const causal = [5, -16, -32, -64, -91, -128].map((distance) => relativeBucket(distance, false, sizes));
  expect(causal).toEqual([0, 16, 21, 26, 29, 31]);
});

it("DeBERTa's rows of distances are those of transformers", () => {
  const sizes = { position_buckets: 256, max_relative_positions: -1, max_position_embeddings: 512 };
  const distances = [-900, -130, -128, -1, 0, 1, 128, 130, 200, 255, 383, 511, 900];
  const buckets = distances.map((distance) => distanceRow(distance, sizes) - 256);
  expect(buckets).toEqual([-256, -130, -128, -1, 0, 1, 128, 130, 169, 192, 229, 255, 255]);
});

describe("ALBERT's layer", () => {
  const model = createModel(tiny.albert());

  it("is traced as often as there are layers, with one set of tensors that are in no single layer", () => {
    expect(model.layers).toBe(3);
    expect(model.projections.filter(({ role }) => role === "query")).toHaveLength(1);
    const inLayers = [...model.parameters, ...model.projections].filter(({ layer }) => typeof layer === "number");
    expect(inLayers).toEqual([]);
  });

  it("has two sub-layers, which bottleneck adapters change in every use", () => {
    expect(blocksOf(model).map(({ name, layer }) => [name.split(".").at(-1), layer])).toEqual([
      ["attention", undefined],
      ["ffn_output", undefined],
    ]);
  });
});
