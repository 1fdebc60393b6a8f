// Programs that repeat a run elsewhere, with the rows that it was trained on.
import type { Normalisation } from "../../../src/data/images";
import type { Sample } from "../../../src/data/sample";
import type { BlobDirectory } from "./directories";
import { adapterOptions, trainerSettings } from "./plan";
import type { PlanForm } from "../protocol";
import type { StudioData } from "./data";
import type { StudioImage } from "./read";
import { EVALUATIONS } from "./run";

/** The programs, their data, and the adapter's configuration, which Python reads. */
export function repeatFiles(adapter: BlobDirectory, data: StudioData, form: PlanForm): (readonly [string, Blob])[] {
  const { images } = data;
  const { train, dev } = images ?? data.rows(form.length);
  return [
    ["train.jsonl", linesOf(train)],
    ["dev.jsonl", linesOf(dev)],
    ...(images
      ? ([
          ["train.bin", pixelsOf(images.train)],
          ["dev.bin", pixelsOf(images.dev)],
        ] as const)
      : []),
    ["adapter_config.json", adapter.files.get("adapter_config.json")!],
    ["repeat.mjs", new Blob([nodeProgram(data, form)])],
    ["repeat.py", new Blob([pythonProgram(data, form)])],
  ];
}

const linesOf = (rows: readonly (Sample | StudioImage)[]): Blob =>
  new Blob(rows.map((row) => `${JSON.stringify("ids" in row ? lineOf(row) : { label: row.label })}\n`));

/** A row as JSON: what the tokenizer made of it. */
const lineOf = ({ ids, typeIds, label, weights }: Sample): Record<string, unknown> => ({
  ids: [...ids],
  ...(typeIds && { typeIds: [...typeIds] }),
  label: typeof label === "number" ? label : [...label],
  ...(weights && { weights: [...weights] }),
});

/** Images one after the other, as they are resized for the model: bytes [channels, rows, columns] each. */
// A SharedArrayBuffer is nowhere in this program, which the compiler cannot know.
const pixelsOf = (images: readonly StudioImage[]): Blob =>
  new Blob(images.map(({ bytes }) => bytes as Uint8Array<ArrayBuffer>));

const KINDS: Readonly<Record<string, string>> = { classify: "class", answer: "token", text: "token" };

/** What reads a line of the rows, and what makes batches of them, in the Node program. */
function nodeParts({ images, model, mapping }: StudioData): { readonly imports: string; readonly code: string } {
  if (images) {
    const { channels, size } = model.image!;
    return {
      imports: "ImageBatches, normalisePixels",
      code: `const normalisation = ${JSON.stringify(images.normalisation)};
const read = (name) => {
  const bytes = readFileSync(new URL(\`\${name}.bin\`, import.meta.url));
  return lines(name).map(({ label }, i) => {
    const pixels = bytes.subarray(i * ${channels * size * size}, (i + 1) * ${channels * size * size});
    return { label, pixels: normalisePixels(pixels, ${channels}, normalisation) };
  });
};
const batches = (rows, options) => new ImageBatches(rows, loaded.model, options);`,
    };
  }
  const labels = model.encoderDecoder ? "target" : KINDS[mapping.task];
  return {
    imports: "Batches, weightedTokens",
    code: `const read = (name) =>
  lines(name).map(({ ids, typeIds, label, weights }) => ({
    ids: Int32Array.from(ids),
    ...(typeIds && { typeIds: Int32Array.from(typeIds) }),
    label: Array.isArray(label) ? Int32Array.from(label) : label,
    ...(weights && { weights: Float32Array.from(weights) }),
  }));
const batches = (rows, options) => new Batches(rows, { ...options, padId: ${model.padId}, labels: ${JSON.stringify(labels)} });`,
  };
}

function nodeProgram(data: StudioData, form: PlanForm): string {
  const { head, images } = data;
  const { imports, code } = nodeParts(data);
  // By their number: a model's own names of its classes would be compared with the data's.
  const headOptions = head.labelNames ? { task: head.task, labels: head.labelNames.length } : head;
  return `// Repeats the run in Node:  npm install safetape webgpu && node repeat.mjs MODEL_DIRECTORY
// As one of several devices:  npm install @nats-io/transport-node @nats-io/jetstream @nats-io/obj
//                             SAFETAPE_RANK_TOKEN=TOKEN node repeat.mjs MODEL_DIRECTORY nats://HOST NAME
import { readFileSync } from "node:fs";
import { ${form.adapter}, createEngine, EarlyStopping, loadModel, never, safe, saveAdapter, Trainer } from "safetape";
import { ${imports} } from "safetape/data";
import { join } from "safetape/distributed";

const [directory = "model", servers, run] = process.argv.slice(2);
const token = process.env.SAFETAPE_RANK_TOKEN;
const lines = (name) =>
  readFileSync(new URL(\`\${name}.jsonl\`, import.meta.url), "utf8")
    .split("\\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
${code}

const engine = await createEngine();
const loaded = await loadModel(engine, directory, ${JSON.stringify({ ...headOptions, weights: form.weights })});
const [train, dev] = [read("train"), read("dev")];
const trainer = await Trainer.create({
  model: loaded,
  adapter: ${form.adapter}(${JSON.stringify(adapterOptions(form))}),
  policy: ${form.freeze}(),
  data: batches(train, { size: ${form.batch}, seed: ${form.seed} }),
  ...${JSON.stringify(trainerSettings(form))},
  onNotFinite: "skip",
  ...(servers && { distributed: join({ servers, run, devices: 2, ...(token && { token }) }) }),${images ? "" : "\n  ...(train.some(({ weights }) => weights) && { loss: weightedTokens() }),"}
});
// The studio keeps the adapter of the best of its evaluations: the fewest wrong classes, else the lowest loss.
const best = new EarlyStopping(trainer, { patience: Infinity });
// Other devices would wait meanwhile.
const every = servers ? Infinity : Math.max(1, Math.ceil(trainer.progress.totalSteps / ${EVALUATIONS}));
for await (const { step, totalSteps, loss } of trainer.steps()) {
  console.log(\`\${step}/\${totalSteps}  loss \${loss}\`);
  if (dev.length === 0 || (step % every !== 0 && step !== totalSteps)) continue;
  const evaluated = await trainer.evaluate(batches(dev, { size: ${form.batch}, shuffle: false }).restOfEpoch());
  const { predictions, labels } = evaluated;
  const wrong = predictions.filter((prediction, i) => prediction !== labels[i]).length;
  const accuracy = predictions.length > 0 ? \`, accuracy \${1 - wrong / predictions.length}\` : "";
  console.log(\`dev loss \${evaluated.loss}\${accuracy}\`);
  await best.add(wrong + evaluated.loss / (1 + evaluated.loss));
}
if (dev.length > 0) {
  await best.restoreBest();
  console.log(\`kept the adapter of step \${best.best.step}\`);
}
await saveAdapter("repeated", trainer);
trainer.dispose();
engine.dispose();
`;
}

/** How the Python program makes a batch of rows. */
function pythonBatch({ images, model, mapping }: StudioData): string {
  if (images) {
    const { channels, size } = model.image!;
    const { rescale = 1 / 255, mean = [], deviation = [] }: Normalisation = images.normalisation;
    return `MEAN = torch.tensor(${JSON.stringify(mean)}).view(-1, 1, 1)
DEVIATION = torch.tensor(${JSON.stringify(deviation)}).view(-1, 1, 1)


def rows(name):
    with open(name + ".jsonl", encoding="utf8") as file:
        labels = [json.loads(line)["label"] for line in file]
    with open(name + ".bin", "rb") as file:
        data = bytearray(file.read())
    pixels = torch.frombuffer(data, dtype=torch.uint8).view(-1, ${channels}, ${size}, ${size}) if data else []
    return list(zip(pixels, labels))


def batch_of(part):
    pixels = torch.stack([image for image, _ in part]).float()
    return {
        "pixel_values": (pixels * ${rescale} - MEAN) / DEVIATION,
        "labels": torch.tensor([label for _, label in part]),
    }`;
  }
  return `PAD = ${model.padId}
IS_TARGET = ${model.encoderDecoder ? "True" : "False"}


def rows(name):
    with open(name + ".jsonl", encoding="utf8") as file:
        return [json.loads(line) for line in file]


def batch_of(part):
    length = max(len(row["ids"]) for row in part)
    pad = lambda values, filler: values + [filler] * (length - len(values))
    batch = {
        "input_ids": torch.tensor([pad(row["ids"], PAD) for row in part]),
        "attention_mask": torch.tensor([pad([1] * len(row["ids"]), 0) for row in part]),
    }
    if all("typeIds" in row for row in part):
        batch["token_type_ids"] = torch.tensor([pad(row["typeIds"], 0) for row in part])
${
  mapping.task === "classify"
    ? `    batch["labels"] = torch.tensor([row["label"] for row in part])`
    : `    longest = max(len(row["label"]) for row in part) if IS_TARGET else length
    batch["labels"] = torch.tensor([row["label"] + [-100] * (longest - len(row["label"])) for row in part])`
}
    return batch`;
}

/** The class of transformers that has a task's head. */
function autoModel({ images, model, mapping }: StudioData): string {
  if (images) return "AutoModelForImageClassification";
  if (mapping.task === "classify") return "AutoModelForSequenceClassification";
  return model.encoderDecoder ? "AutoModelForSeq2SeqLM" : "AutoModelForCausalLM";
}

function pythonProgram(data: StudioData, form: PlanForm): string {
  const { labelNames } = data;
  const auto = autoModel(data);
  const isClass = labelNames.length > 0;
  // A head that has another number of classes begins with random numbers, as it did in the studio.
  const labels = isClass ? `, num_labels=${labelNames.length}, ignore_mismatched_sizes=True` : "";
  return `# The same run with Hugging Face's PEFT:  pip install torch transformers peft && python repeat.py MODEL_DIRECTORY
# Rows, settings and adapter are the same. The order of rows, dropout and first values are PyTorch's own, nothing freezes, and the
# adapter is that of the last step.
import json
import sys

import torch
from peft import PeftConfig, get_peft_model
from transformers import ${auto}, get_linear_schedule_with_warmup

BATCH, EPOCHS, RATE = ${form.batch}, ${form.epochs}, ${form.learningRate}
IS_CLASS = ${isClass ? "True" : "False"}
${pythonBatch(data)}


torch.manual_seed(${form.seed})
train, dev = rows("train"), rows("dev")
config = PeftConfig.from_pretrained(".")
config.inference_mode = False
base = ${auto}.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "model"${labels})
model = get_peft_model(base, config)
steps = EPOCHS * -(-len(train) // BATCH)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
schedule = get_linear_schedule_with_warmup(optimizer, -(-6 * steps // 100), steps)
model.train()
step = 0
for epoch in range(EPOCHS):
    order = torch.randperm(len(train)).tolist()
    for start in range(0, len(train), BATCH):
        loss = model(**batch_of([train[i] for i in order[start : start + BATCH]])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        step += 1
        print(f"{step}/{steps}  loss {loss.item():.4f}")
model.eval()
with torch.no_grad():
    losses, right = [], 0
    for start in range(0, len(dev), BATCH):
        batch = batch_of(dev[start : start + BATCH])
        output = model(**batch)
        losses.append(output.loss.item() * len(batch["labels"]))
        if IS_CLASS:
            right += (output.logits.argmax(-1) == batch["labels"]).sum().item()
    if dev:
        print(f"dev loss {sum(losses) / len(dev):.4f}" + (f", accuracy {right / len(dev):.4f}" if IS_CLASS else ""))
model.save_pretrained("repeated")
`;
}
