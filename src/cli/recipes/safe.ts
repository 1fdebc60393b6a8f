import type { Split } from "../tasks/published-split";
import { tableRow } from "./recipe";
import type { Recipe, RecipeOptions } from "./recipe";

const PAPER = "SAFE (Son et al. 2024, arXiv 2412.03587)";
/** AdamW without decay, a linear schedule to 0, and SAFE's policy. With `--freeze never`, the baseline of the same table. */
const COMMON: RecipeOptions = { freeze: "safe", schedule: "linear", warmupRatio: 0, weightDecay: 0 };
const POLICY = "the final threshold and its epoch are unpublished: SAFE's defaults here, half of the adapters frozen";
const MIDDLE = "the width of the bottleneck is unpublished: the adapter's default";
const SHORT = "the longest row is unpublished: 128 tokens";
const LONG = "the longest row is unpublished: 384 tokens, as the paper's FLOPs imply";
const HALF = "the seed of the halves is unpublished: always the same half";

/** Options of an adapter as SAFE's tables name it. */
function adapterOptions(method: string, targets: string): RecipeOptions {
  if (method === "lora") return { adapter: "lora", rank: 4, alpha: 16, dropout: 0.1, targets };
  return { adapter: method };
}

/** Rows of these tables are kept back from training or from the dev set, as the published counts tell. */
const SPLITS: Readonly<Record<string, Split>> = {
  cola: "half-dev",
  rte: "half-dev",
  mrpc: "half-dev",
  stsb: "half-dev",
  squad: "half-dev",
  sst2: "train-1000",
  qqp: "train-1000",
  qnli: "train-1000",
  mnli: "mismatched",
};

const METHODS = ["lora", "bitfit", "houlsby"] as const;

/** A row of a table of GLUE and SQuAD: the task, learning rates in units of 1e-4 by method, batch and epochs. */
function textRecipes(model: string, hub: string, table: string): Recipe[] {
  return table
    .trim()
    .split("\n")
    .flatMap((line) => {
      const [task = "", rates = "", batch, epochs] = line.trim().split(/\s+/);
      return rates.split("/").map((rate, i): Recipe => {
        const method = METHODS[i]!;
        // MRPC is trained in other batches with LoRA than with the rest.
        const sizes = batch!.split("/");
        const isSquad = task === "squad";
        return {
          name: `safe/${model}/${task}/${method}`,
          source: `${PAPER}, appendix C.4`,
          model: hub,
          options: {
            ...COMMON,
            ...adapterOptions(method, "query,value"),
            task,
            split: SPLITS[task]!,
            lr: Number(`${rate}e-4`),
            batch: Number(sizes[i] ?? sizes.at(-1)),
            epochs: Number(epochs),
            maxLength: isSquad ? 384 : 128,
          },
          ours: [
            POLICY,
            isSquad ? LONG : SHORT,
            ...(SPLITS[task] === "half-dev" ? [HALF] : []),
            ...(method === "houlsby" ? [MIDDLE] : []),
          ],
        };
      });
    });
}

const BERT_BASE = `
  cola  6/9/5 32    100
  sst2  7/7/2 32    75
  mnli  9/8/4 32    50
  rte   9/8/4 32    100
  qqp   4/6/4 32    50
  mrpc  5/5/5 16/32 50
  qnli  5/5/4 32    50
  stsb  8/9/5 32    50
  squad 3/9/1 16    50`;

const BERT_LARGE = `
  cola  1     32 80
  sst2  6     32 60
  mnli  1     16 40
  rte   6     32 80
  qqp   3     16 40
  mrpc  3     4  50
  qnli  2     8  50
  stsb  8     32 50
  squad 3/9/1 16 50`;

/** Methods that SAFE compares with on SQuAD and BERT-large; they train without freezing. */
const SQUAD_BASELINES = { full: 0.7e-4, pfeiffer: 3e-4, adalora: 4e-4 } as const;

function squadBaselines(): Recipe[] {
  return Object.entries(SQUAD_BASELINES).map(([adapter, lr]) => ({
    name: `safe/bert-large/squad/${adapter}`,
    source: `${PAPER}, appendix C.4`,
    model: "bert-large-uncased",
    options: {
      ...COMMON,
      freeze: "never",
      adapter,
      task: "squad",
      split: "half-dev",
      lr,
      batch: 16,
      epochs: 50,
      maxLength: 384,
    },
    ours: [
      LONG,
      HALF,
      ...(adapter === "pfeiffer" ? [MIDDLE] : []),
      ...(adapter === "adalora" ? ["ranks and their schedule are unpublished: AdaLoRA's defaults"] : []),
    ],
  }));
}

const DATA_SETS = [
  "cifar10",
  "cifar100",
  "fashion_mnist",
  "flowers",
  "food101",
  "tinyimagenet",
  "country211",
  "cars",
] as const;

/** Tables of images: learning rates in units of 1e-3 in the order of DATA_SETS. */
const IMAGE_TABLES = [
  { model: "vit-base", method: "bitfit", rates: "3 3 4 2 4 1 2 9", flowers: 30 },
  { model: "vit-base", method: "lora", rates: "3 3 3 .8 3 .8 4 7", flowers: 40 },
  { model: "vit-large", method: "bitfit", rates: "4 2 3 - .9 .8 2 1" },
  { model: "vit-large", method: "lora", rates: ".6 .5 .9 - .7 .6 .9 1" },
  { model: "swin-base", method: "lora", rates: "1 1 1 .7 .9 1 .7 1", flowers: 30 },
  { model: "swin-large", method: "lora", rates: ".8 .7 1 - .5 .6 .6 3" },
] as const;

const IMAGE_MODELS: Readonly<Record<string, string>> = {
  "vit-base": "google/vit-base-patch16-224-in21k",
  "vit-large": "google/vit-large-patch16-224-in21k",
  "swin-base": "microsoft/swin-base-patch4-window7-224",
  "swin-large": "microsoft/swin-large-patch4-window7-224",
};

/** Data sets with a reader of their own; the others are folders or lists of images. */
const IMAGE_TASKS: readonly string[] = ["cifar10", "cifar100", "fashion_mnist"];

function imageRecipes(): Recipe[] {
  return IMAGE_TABLES.flatMap((table) => {
    const { model, method, rates } = table;
    const epochs = model.startsWith("vit") ? 100 : 50;
    return Object.entries(tableRow(DATA_SETS, rates)).map(([data, rate]): Recipe => ({
      name: `safe/${model}/${data}/${method}`,
      source: `${PAPER}, appendix C.4`,
      model: IMAGE_MODELS[model]!,
      options: {
        ...COMMON,
        ...adapterOptions(method, "query,value"),
        task: IMAGE_TASKS.includes(data) ? data : "images",
        split: "train-tenth",
        lr: Number(`${rate}e-3`),
        batch: 64,
        epochs: data === "flowers" && "flowers" in table ? table.flowers : epochs,
      },
      ours: [POLICY, "the seed of the tenth for validation is unpublished: always the same tenth"],
    }));
  });
}

const GPT2: RecipeOptions = {
  ...COMMON,
  ...adapterOptions("lora", "c_attn"),
  task: "e2e",
  epochs: 10,
  maxLength: 512,
  labelSmoothing: 0.1,
  generate: true,
  beams: 10,
  lengthPenalty: 0.8,
  uniqueNgram: 4,
  maxNewTokens: 64,
};
const E2E_OURS = [POLICY, "the longest text is unpublished: 64 new tokens, as in Microsoft's LoRA"];

/** The settings that SAFE's appendix prints. */
export const SAFE_RECIPES: readonly Recipe[] = [
  ...textRecipes("bert-base", "bert-base-uncased", BERT_BASE),
  ...textRecipes("bert-large", "bert-large-uncased", BERT_LARGE),
  ...squadBaselines(),
  ...textRecipes("roberta-base", "roberta-base", "squad 5/8/4 32 50"),
  ...textRecipes("roberta-large", "roberta-large", "squad 6/7/4 16 50"),
  {
    name: "safe/gpt2-medium/e2e/lora",
    source: `${PAPER}, section 4`,
    model: "gpt2-medium",
    options: { ...GPT2, lr: 1e-4, batch: 8 },
    ours: E2E_OURS,
  },
  {
    name: "safe/gpt2-large/e2e/lora",
    source: `${PAPER}, section 4`,
    model: "gpt2-large",
    options: { ...GPT2, lr: 5e-5, batch: 4 },
    ours: E2E_OURS,
  },
  {
    name: "safe/llama-2-7b/lamini/lora",
    source: `${PAPER}, section 4`,
    model: "meta-llama/Llama-2-7b-hf",
    options: {
      ...COMMON,
      ...adapterOptions("lora", "q_proj,v_proj"),
      task: "chat",
      lr: 1e-4,
      batch: 128,
      microBatch: 2,
      epochs: 3,
      maxLength: 512,
    },
    ours: [POLICY, "WikiText-2's perplexity needs --eval-task lm --eval-data PATH"],
  },
  ...imageRecipes(),
];
