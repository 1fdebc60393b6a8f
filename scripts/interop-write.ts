// Trains adapters and writes them for Python to load:  npm run interop:write -- DIR --out OUT [--kinds lora,dora]
// DIR/FAMILY/base are checkpoints, with --all at least one of every family, and DIR/FAMILY-HEAD/base those with a further
// head, which get LoRA alone. OUT/FAMILY/KIND gets PEFT's two files, and the inputs and the logits of this library.
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import * as v from "valibot";
import { makeAdapter } from "../src/adapter/make";
import type { AdapterChoice } from "../src/adapter/make";
import { Random } from "../src/base/random";
import { LABEL_KINDS } from "../src/data/batch";
import type { Batch } from "../src/data/batch";
import { IGNORED_LABEL } from "../src/data/sample";
import { readJson } from "../src/io/json";
import type { LoadedModel } from "../src/io/load-model";
import { MODEL_TYPES } from "../src/model/families";
import type { Model } from "../src/model/model";
import { writeSafetensors } from "../src/io/safetensors-write";
import type { TensorToWrite } from "../src/io/safetensors-write";
import { createEngine, loadModel, openDirectory } from "../src/node/index";
import { saveAdapter } from "../src/train/files";
import { batchInputs } from "../src/train/plans/inputs";
import { Trainer } from "../src/train/trainer";
import { adapterLogits, familiesOf } from "./interop-case";

/** A rank or an alpha of the first layer's modules. */
const FIRST_LAYER = { ".*[.]0[.].*": 2 };
/** The kinds that PEFT has, too. */
const KINDS: Readonly<Record<string, AdapterChoice>> = {
  lora: { kind: "lora", rank: 3, alpha: 6 },
  "lora-biases": { kind: "lora", rank: 2, alpha: 5, bias: "lora_only", layers: [1], rankStabilised: true },
  dora: { kind: "dora", rank: 3, alpha: 6 },
  adalora: { kind: "adalora", initialRank: 4, targetRank: 2, finalSteps: 1 },
  vera: { kind: "vera", rank: 6 },
  ia3: { kind: "ia3" },
  "ia3-all-linear": { kind: "ia3", targets: "all-linear" },
  "ln-tuning": { kind: "ln_tuning" },
  prompt: { kind: "prompt", tokens: 3 },
  loha: { kind: "loha", rank: 3, alpha: 5, rankPattern: FIRST_LAYER, alphaPattern: FIRST_LAYER },
  lokr: { kind: "lokr", rank: 1, alpha: 5, rankPattern: FIRST_LAYER, alphaPattern: FIRST_LAYER },
  "lokr-both": { kind: "lokr", rank: 1, alpha: 5, decomposeBoth: true, decomposeFactor: 4 },
  "lokr-full": { kind: "lokr", rank: 32, alpha: 40 },
  oft: { kind: "oft", blockSize: 8 },
  "oft-inverse": { kind: "oft", blocks: 3, blockShare: true, neumannTerms: 0 },
  "oft-blocks": { kind: "oft", blocks: 3 },
  "oft-near": { kind: "oft", blockSize: 8, eps: 0.05 },
  "prefix-tuning": { kind: "prefix_tuning", tokens: 3 },
  "prefix-projection": { kind: "prefix_tuning", tokens: 3, projection: true, encoderSize: 6 },
  "p-tuning": { kind: "p_tuning", tokens: 3, encoderSize: 6 },
};

/** Kinds that PEFT has for torch.nn.Linear alone. */
const OF_LINEAR: readonly string[] = Object.keys(KINDS).filter((kind) => /^(?:loha|lokr|oft)/.test(kind));

/** The kinds that name modules of a model, where it has them: those of `test/interop/options.py`. */
const OPTIONS: Readonly<Record<string, (model: Model) => ({ readonly as?: "lora" } & object) | undefined>> = {
  "saved-table": (model) => saved(model, "table"),
  "saved-head": (model) => saved(model, "head"),
  "saved-both": (model) => saved(model, "table", "head"),
  "tied-table": (model) => tied(model, "table"),
  "tied-head": (model) => tied(model, "head"),
  "lora-head": (model) =>
    isDecoder(model) && !model.tiedOutput ? { targets: [...model.defaultTargets, headOf(model)] } : undefined,
  "bias-all": (model) => (isClassifier(model) ? { bias: "all" } : undefined),
  // Written by Python alone.
  "kept-tables": () => undefined,
  "p-tuning-lstm": () => undefined,
  excluded: () => undefined,
  pissa: () => ({ init: "pissa" }),
  "pissa-patterns": (model) => ({ init: "pissa", rankStabilised: true, ...patterns(model) }),
  "pissa-dora": () => ({ init: "pissa", kind: "dora" }),
  // A LoRA of twice the rank, as is all that PEFT could not take out of the base again.
  "pissa-as-lora": (model) => ({ init: "pissa_niter_4", ...patterns(model) }),
  olora: () => ({ init: "olora" }),
  "olora-as-lora": (model) => ({ init: "olora", rankStabilised: true, as: "lora", ...patterns(model) }),
  // Ends of paths that the head's modules have as well.
  overlap: (model) => (isClassifier(model) ? { targets: ends(model) } : undefined),
};

const isDecoder = ({ task }: Model): boolean => task === "causal_lm";
const isClassifier = ({ task, heads }: Model): boolean =>
  task === "sequence_classification" && heads.includes("classifier");
const headOf = ({ tiedOutput, projections }: Model): string => tiedOutput?.module ?? projections.at(-1)!.name;
const saved = (model: Model, ...which: ("table" | "head")[]): object | undefined => {
  const names = { table: model.wordEmbeddings?.split(".").at(-2) ?? "", head: headOf(model) };
  return isDecoder(model) ? { modulesToSave: which.map((each) => names[each]) } : undefined;
};
const tied = (model: Model, which: "table" | "head"): object | undefined =>
  model.tiedOutput ? { ...saved(model, which), ensureWeightTying: true } : undefined;
const patterns = ({ defaultTargets }: Model): object => ({
  rankPattern: { [defaultTargets.at(-1)!]: 1 },
  alphaPattern: { [defaultTargets[0]!]: 5 },
});
const ends = ({ projections }: Model): string[] => {
  const names = projections.map(({ name }) => name.slice(name.lastIndexOf(".") + 1));
  return [...new Set(names)].filter((name) => !/classifier$/.test(name));
};

const FURTHER_HEADS = /-(?:tokens|answers|classes)$/;

/** Texts are longer than the checkpoints' windows, and than the lengths from which they stretch rotations. */
const [SIZE, LENGTH, TARGET_LENGTH, STEPS] = [3, 18, 7, 6];

const { values, positionals } = parseArgs({
  options: { out: { type: "string" }, all: { type: "boolean", default: false }, kinds: { type: "string" } },
  allowPositionals: true,
});
const [directory] = positionals;
const all = [...Object.keys(KINDS), ...Object.keys(OPTIONS)];
const kinds = values.kinds?.split(",") ?? all;
const unknown = kinds.filter((kind) => !all.includes(kind));
if (directory === undefined || values.out === undefined || unknown.length > 0) {
  process.stderr.write(
    "Usage: npm run interop:write -- DIR --out OUT [--all] [--kinds KIND,KIND]   (DIR/FAMILY/base are checkpoints)\n" +
      `Kinds: ${all.join(", ")}\n`,
  );
  process.exitCode = 2;
} else {
  const missing = values.all ? await missingFamilies(directory) : [];
  if (missing.length > 0) {
    process.stderr.write(`${directory} has no checkpoint of ${missing.join(", ")}. Add FAMILY/base for each.\n`);
    process.exit(1);
  }
  using engine = await createEngine();
  for (const family of familiesOf(directory)) {
    for (const kind of all) {
      if (!kinds.includes(kind)) continue;
      using loaded = await loadModel(engine, `${directory}/${family}/base`);
      if (!isPossible(loaded.model, kind) || (kind !== "lora" && FURTHER_HEADS.test(family))) continue;
      const options = OPTIONS[kind]?.(loaded.model);
      const { as, ...named } = options ?? {};
      const choice = options ? { kind: "lora", rank: 2, alpha: 3, ...named } : KINDS[kind];
      if (!choice) continue;
      await write(loaded, choice, `${values.out}/${family}/${kind}`, as);
      process.stdout.write(`wrote ${family}/${kind}\n`);
    }
  }
}

/** Families of the library that no checkpoint below a directory is of. */
async function missingFamilies(below: string): Promise<string[]> {
  const present = familiesOf(below).map(async (family) => {
    const { model_type: type } = await readJson(
      await openDirectory(`${below}/${family}/base`),
      "config.json",
      v.looseObject({ model_type: v.string() }),
    );
    return type;
  });
  const types = await Promise.all(present);
  return MODEL_TYPES.filter((type) => !types.includes(type));
}

/** Whether PEFT has a kind for a model: neither prompts nor biases for images. */
function isPossible(model: Model, kind: string): boolean {
  if (kind.startsWith("prefix-")) return model.prefixHeads !== undefined;
  if (kind === "prompt" || kind === "p-tuning") return !model.image;
  if (OF_LINEAR.includes(kind)) return model.projections.every(({ layout }) => layout === "out_in");
  // ALBERT's layers have no numbers.
  return kind !== "lora-biases" || (!model.image && model.projections.some(({ layer }) => layer === 1));
}

async function write(
  loaded: LoadedModel,
  choice: AdapterChoice,
  folder: string,
  as: "own" | "lora" = "own",
): Promise<void> {
  const adapter = makeAdapter(choice);
  const batch = batchOf(loaded);
  using trainer = await Trainer.create({
    model: loaded,
    adapter,
    steps: STEPS,
    dropout: false,
    optimizer: { learningRate: 2e-2 },
    data: { perEpoch: 1, next: () => batch },
  });
  await trainer.train();
  await mkdir(folder, { recursive: true });
  const out = await openDirectory(folder);
  await saveAdapter(out, trainer, { as });
  const logits = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), batch);
  const inputs = batch.pixels
    ? [{ name: "pixel_values", shape: imageShape(loaded), data: batch.pixels }]
    : [
        { name: "input_ids", shape: [SIZE, LENGTH], data: batch.inputIds },
        { name: "attention_mask", shape: [SIZE, LENGTH], data: batch.attentionMask },
        ...decoderIds(loaded.model, batch),
      ];
  await writeSafetensors(out, "expected.safetensors", [...inputs, { name: "logits", ...logits }]);
}

/** What the decoder of an encoder-decoder reads. */
function decoderIds(model: Model, batch: Batch): TensorToWrite[] {
  const ids = batchInputs(model, batch)["decoder_input_ids"];
  return ids instanceof Int32Array ? [{ name: "decoder_input_ids", shape: [SIZE, TARGET_LENGTH], data: ids }] : [];
}

function imageShape({ model }: LoadedModel): number[] {
  const { size = 0, channels = 0 } = model.image ?? {};
  return [SIZE, channels, size, size];
}

/** A batch of random texts of different lengths, or of random images. */
function batchOf({ model }: LoadedModel): Batch {
  const random = new Random(8);
  const { image } = model;
  const length = image ? model.maxLength : LENGTH;
  const mask = Int32Array.from({ length: SIZE * length }, (_, i) =>
    image || i % length < LENGTH - (Math.floor(i / length) % 3) ? 1 : 0,
  );
  const id = (): number => 3 + random.below(Math.max(1, model.vocabularySize - 3));
  const ids = mask.map((isToken) => (isToken ? id() : model.padId));
  const pixels = image && Float32Array.from({ length: SIZE * image.channels * image.size ** 2 }, () => random.normal());
  return {
    size: SIZE,
    length,
    rows: SIZE,
    inputIds: ids,
    attentionMask: mask,
    tokenTypeIds: new Int32Array(SIZE * length),
    labels: labelsOf(model, ids, mask, id),
    ...(model.encoderDecoder && { targetLength: TARGET_LENGTH }),
    ...(pixels && { pixels }),
  };
}

/** Labels of random texts [SIZE, LENGTH], or of images. `id` draws a token. */
function labelsOf(model: Model, ids: Int32Array, mask: Int32Array, id: () => number): Int32Array {
  switch (LABEL_KINDS[model.task]) {
    case "token":
      return ids.map((token, i) => (!mask[i] ? IGNORED_LABEL : model.task === "causal_lm" ? token : i % model.classes));
    case "span":
      return Int32Array.from({ length: SIZE * 2 }, (_, i) => 1 + i);
    case "target":
      return Int32Array.from({ length: SIZE * TARGET_LENGTH }, id);
    default:
      return Int32Array.from({ length: SIZE }, (_, i) => i % model.classes);
  }
}
