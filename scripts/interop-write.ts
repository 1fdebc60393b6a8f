// Trains adapters and writes them for Python to load:  npm run interop:write -- DIR --out OUT
// DIR/FAMILY/base are checkpoints. OUT/FAMILY/KIND gets PEFT's two files, and the inputs and the logits of this library.
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { makeAdapter } from "../src/adapter/make";
import type { AdapterChoice } from "../src/adapter/make";
import { Random } from "../src/base/random";
import type { Batch } from "../src/data/batch";
import type { LoadedModel } from "../src/io/load-model";
import type { Model } from "../src/model/model";
import { writeSafetensors } from "../src/io/safetensors-write";
import { createEngine, loadModel, openDirectory } from "../src/node/index";
import { saveAdapter } from "../src/train/files";
import { batchInputs } from "../src/train/plans/inputs";
import { Trainer } from "../src/train/trainer";
import { adapterLogits, familiesOf } from "./interop-case";

/** The kinds that PEFT has, too. */
const KINDS: Readonly<Record<string, AdapterChoice>> = {
  lora: { kind: "lora", rank: 3, alpha: 6 },
  "lora-biases": { kind: "lora", rank: 2, alpha: 5, bias: "lora_only", layers: [1], rankStabilised: true },
  dora: { kind: "dora", rank: 3, alpha: 6 },
  adalora: { kind: "adalora", initialRank: 4, targetRank: 2, finalSteps: 1 },
  vera: { kind: "vera", rank: 6 },
  ia3: { kind: "ia3" },
  "ia3-all-linear": { kind: "ia3", targets: "all-linear" },
  prompt: { kind: "prompt", tokens: 3 },
};

const [SIZE, LENGTH, STEPS] = [3, 9, 6];

const { values, positionals } = parseArgs({ options: { out: { type: "string" } }, allowPositionals: true });
const [directory] = positionals;
if (directory === undefined || values.out === undefined) {
  process.stderr.write("Usage: npm run interop:write -- DIR --out OUT   (DIR/FAMILY/base are checkpoints)\n");
  process.exitCode = 2;
} else {
  using engine = await createEngine();
  for (const family of familiesOf(directory)) {
    for (const [kind, choice] of Object.entries(KINDS)) {
      using loaded = await loadModel(engine, `${directory}/${family}/base`);
      if (!isPossible(loaded.model, kind)) continue;
      await write(loaded, choice, `${values.out}/${family}/${kind}`);
      process.stdout.write(`wrote ${family}/${kind}\n`);
    }
  }
}

/** Whether PEFT has a kind for a model: neither prompts nor biases for images, and other prompts for encoder-decoders. */
function isPossible(model: Model, kind: string): boolean {
  if (model.encoderDecoder) return kind !== "prompt" && kind !== "lora-biases";
  const embeddings = model.parameters.find(({ name }) => name === model.wordEmbeddings);
  // Prompts are as wide as the layers, unlike ELECTRA's and ALBERT's embeddings; ALBERT's layers have no numbers.
  if (kind === "prompt") return embeddings?.shape[1] === model.hiddenSize;
  return kind !== "lora-biases" || (!model.image && model.projections.some(({ layer }) => layer === 1));
}

async function write(loaded: LoadedModel, choice: AdapterChoice, folder: string): Promise<void> {
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
  await saveAdapter(out, trainer);
  const logits = await adapterLogits(loaded, adapter, await trainer.state.snapshot(), batch);
  const inputs = batch.pixels
    ? [{ name: "pixel_values", shape: imageShape(loaded), data: batch.pixels }]
    : [
        { name: "input_ids", shape: [SIZE, LENGTH], data: batch.inputIds },
        { name: "attention_mask", shape: [SIZE, LENGTH], data: batch.attentionMask },
        ...decoderInputs(loaded.model, batch),
      ];
  await writeSafetensors(out, "expected.safetensors", [...inputs, { name: "logits", ...logits }]);
}

/** What the decoder of an encoder-decoder reads. */
function decoderInputs(model: Model, batch: Batch): { name: string; shape: number[]; data: Int32Array }[] {
  const { decoder_input_ids: data } = batchInputs(model, batch);
  return data instanceof Int32Array ? [{ name: "decoder_input_ids", shape: [SIZE, LENGTH], data }] : [];
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
  const ids = mask.map((isToken) => (isToken ? 3 + random.below(Math.max(1, model.vocabularySize - 3)) : model.padId));
  const labels =
    model.task === "causal_lm" || model.encoderDecoder
      ? ids.map((id, i) => (mask[i] ? id : model.encoderDecoder ? 3 : -100))
      : Int32Array.from({ length: SIZE }, (_, i) => i % model.classes);
  const pixels = image && Float32Array.from({ length: SIZE * image.channels * image.size ** 2 }, () => random.normal());
  return {
    size: SIZE,
    length,
    rows: SIZE,
    inputIds: ids,
    attentionMask: mask,
    tokenTypeIds: new Int32Array(SIZE * length),
    labels,
    ...(model.encoderDecoder && { targetLength: LENGTH }),
    ...(pixels && { pixels }),
  };
}
