import { describe, expect, it } from "vitest";
import { createModel } from "../../src/index";
import { ConfigError } from "../../src/entry/engine";
import { labelCount } from "../../src/model/config";
import { withHead } from "../../src/model/families";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";

interface Published {
  /** The public repository and path of the file, or "documented": put together from documented facts. */
  readonly source: string;
  /** The class that transformers 5.18 makes of it, with its number of parameters (tied ones once); null where it makes none. */
  readonly class: string | null;
  readonly parameters: number | null;
  /** Without names of labels, whose number is `num_labels`, dtypes, versions and other repositories' keys. */
  readonly config: Config;
}

const PUBLISHED = readJson<Readonly<Record<string, Published>>>("test/pure/published-configs.json");

/** Families that are not supported, as their names are refused. */
const REFUSED: Readonly<Record<string, string>> = {
  "DeepSeek-V3": "deepseek_v3",
  "LFM2-VL-450M": "lfm2-vl",
  "Llama-4-Scout-17B-16E": "llama4",
  "Mixtral-8x7B": "mixtral",
  "Qwen2-VL-2B": "qwen2_vl",
  "Qwen3-30B-A3B": "qwen3_moe",
  "clip-vision": "clip_vision_model",
  "gemma-7b": "gemma",
  "gpt-oss-20b": "gpt_oss",
  "llava-1.5-7b-hf": "llava",
  "stablelm-3b": "stablelm",
};

interface Sizes {
  readonly hidden: number;
  readonly vocabulary: number;
  readonly labels: number;
}

const dense = ({ hidden }: Sizes): number => hidden * hidden + hidden;
const labelsOfTokens = ({ hidden, labels }: Sizes): number => hidden * labels + labels;
/** A pooler or a dense layer, and the layer of the labels. */
const classifier = (sizes: Sizes): number => dense(sizes) + labelsOfTokens(sizes);
/** A dense layer, a norm, and a bias for each token; the last weight is the embeddings'. */
const maskedLanguageModel = (sizes: Sizes): number => dense(sizes) + 2 * sizes.hidden + sizes.vocabulary;
const none = (): number => 0;

/** Parameters that a class of transformers has above those that all classes of its family share. */
const HEADS: Readonly<Record<string, (sizes: Sizes) => number>> = {
  BertForMaskedLM: maskedLanguageModel,
  BertForSequenceClassification: classifier,
  DistilBertForMaskedLM: maskedLanguageModel,
  DistilBertForSequenceClassification: classifier,
  RobertaForMaskedLM: maskedLanguageModel,
  RobertaForSequenceClassification: classifier,
  XLMRobertaForMaskedLM: maskedLanguageModel,
  XLMRobertaForSequenceClassification: classifier,
  // Neither the dense layer nor the norm has a bias.
  ModernBertForMaskedLM: ({ hidden, vocabulary }) => hidden * hidden + hidden + vocabulary,
  ModernBertForSequenceClassification: (sizes) => sizes.hidden * sizes.hidden + sizes.hidden + labelsOfTokens(sizes),
  DebertaV2Model: none,
  DebertaV2ForSequenceClassification: classifier,
  ViTModel: dense,
  ViTForImageClassification: labelsOfTokens,
  MistralModel: none,
  MistralForCausalLM: ({ hidden, vocabulary }) => hidden * vocabulary,
};

/** What a class has of its own. */
function headOf(architecture: string, sizes: Sizes): number {
  const head = HEADS[architecture];
  if (!head) throw new Error(`HEADS has no ${architecture}.`);
  return head(sizes);
}

describe("published configurations", () => {
  const supported = Object.entries(PUBLISHED).filter(([name]) => !(name in REFUSED));

  it("are all there", () => {
    expect(Object.keys(PUBLISHED)).toHaveLength(73);
    expect(supported).toHaveLength(62);
  });

  it.each(supported)("%s has as many parameters as in transformers", (_, published) => {
    const { config, class: theirs, parameters } = published;
    const model = createModel(config);
    const count = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const sizes = { hidden: model.hiddenSize, vocabulary: model.vocabularySize, labels: labelCount(config) };
    const { architectures } = withHead(config, { task: model.task });
    const ours = Array.isArray(architectures) ? String(architectures[0]) : "";
    // transformers 5 ties T5's last projection whatever the key says; checkpoints of FLAN-T5 have one of their own.
    const untied = model.family === "t5" && config["tie_word_embeddings"] === false;
    const head = untied ? sizes.hidden * sizes.vocabulary : 0;
    const difference = ours === theirs ? head : headOf(ours, sizes) - headOf(theirs!, sizes);
    expect(count).toBe(parameters! + difference);
  });

  it.each(Object.entries(REFUSED))("%s is refused by its family's name, %s", (name, type) => {
    const build = () => createModel(PUBLISHED[name]!.config);
    expect(build).toThrow(ConfigError);
    expect(build).toThrow(`config.json: model_type "${type}" is not supported.`);
  });
});
