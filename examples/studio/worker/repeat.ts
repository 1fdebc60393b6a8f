// Programs that repeat a run elsewhere, with the rows that it was trained on.
import type { Sample } from "../../../src/data/sample";
import type { BlobDirectory } from "./directories";
import { trainerSettings } from "./plan";
import type { PlanForm } from "../protocol";
import type { StudioData } from "./data";

/** The programs, their data, and the adapter's configuration, which Python reads. */
export async function repeatFiles(
  adapter: BlobDirectory,
  data: StudioData,
  form: PlanForm,
): Promise<(readonly [string, Blob])[]> {
  const { train, dev } = await data.rows(form.length);
  const lines = (rows: readonly Sample[]): Blob => new Blob(rows.map((row) => `${JSON.stringify(lineOf(row))}\n`));
  return [
    ["train.jsonl", lines(train)],
    ["dev.jsonl", lines(dev)],
    ["adapter_config.json", adapter.files.get("adapter_config.json")!],
    ["repeat.mjs", new Blob([nodeProgram(data, form)])],
    ["repeat.py", new Blob([pythonProgram(data, form)])],
  ];
}

/** A row as JSON: what the tokenizer made of it. */
const lineOf = ({ ids, typeIds, label, weights }: Sample): Record<string, unknown> => ({
  ids: [...ids],
  ...(typeIds && { typeIds: [...typeIds] }),
  label: typeof label === "number" ? label : [...label],
  ...(weights && { weights: [...weights] }),
});

const KINDS: Readonly<Record<string, string>> = { classify: "class", answer: "token", text: "token" };

function nodeProgram({ head, model, mapping }: StudioData, form: PlanForm): string {
  const kind = model.encoderDecoder ? "target" : KINDS[mapping.task];
  const settings = trainerSettings(form);
  // By their number: a model's own names of its classes would be compared with the data's.
  const headOptions = head.labelNames ? { task: head.task, labels: head.labelNames.length } : head;
  const adapter = {
    rank: form.rank,
    alpha: 4 * form.rank,
    dropout: 0.05,
    ...(form.targets === "all-linear" && { targets: form.targets }),
  };
  return `// Repeats the run in Node:  npm install safetape webgpu && node repeat.mjs MODEL_DIRECTORY
import { readFileSync } from "node:fs";
import { ${form.adapter}, createEngine, loadModel, never, safe, saveAdapter, Trainer } from "safetape";
import { Batches, weightedTokens } from "safetape/data";

const [model = "model"] = process.argv.slice(2);
const read = (file) =>
  readFileSync(new URL(file, import.meta.url), "utf8")
    .split("\\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
    .map(({ ids, typeIds, label, weights }) => ({
      ids: Int32Array.from(ids),
      ...(typeIds && { typeIds: Int32Array.from(typeIds) }),
      label: Array.isArray(label) ? Int32Array.from(label) : label,
      ...(weights && { weights: Float32Array.from(weights) }),
    }));
const [train, dev] = [read("train.jsonl"), read("dev.jsonl")];
const ofModel = { size: ${form.batch}, padId: ${model.padId}, labels: ${JSON.stringify(kind)} };

const engine = await createEngine();
const loaded = await loadModel(engine, model, ${JSON.stringify({ ...headOptions, weights: form.weights })});
const trainer = await Trainer.create({
  model: loaded,
  adapter: ${form.adapter}(${JSON.stringify(adapter)}),
  policy: ${form.freeze}(),
  data: new Batches(train, { ...ofModel, seed: ${form.seed} }),
  ...${JSON.stringify(settings)},
  onNotFinite: "skip",
  ...(train.some(({ weights }) => weights) && { loss: weightedTokens() }),
});
for await (const { step, totalSteps, loss } of trainer.steps()) console.log(\`\${step}/\${totalSteps}  loss \${loss}\`);
if (dev.length > 0) {
  const { loss, predictions, labels } = await trainer.evaluate(new Batches(dev, { ...ofModel, shuffle: false }).restOfEpoch());
  const right = predictions.filter((prediction, i) => prediction === labels[i]).length;
  console.log(\`dev loss \${loss}\${predictions.length > 0 ? \`, accuracy \${right / predictions.length}\` : ""}\`);
}
await saveAdapter("repeated", trainer);
engine.dispose();
`;
}

function pythonProgram({ model, labelNames, mapping }: StudioData, form: PlanForm): string {
  const auto =
    mapping.task === "classify"
      ? "AutoModelForSequenceClassification"
      : model.encoderDecoder
        ? "AutoModelForSeq2SeqLM"
        : "AutoModelForCausalLM";
  const labels = mapping.task === "classify" ? `, num_labels=${labelNames.length}` : "";
  return `# The same run with Hugging Face's PEFT:  pip install torch transformers peft && python repeat.py MODEL_DIRECTORY
# Rows, settings and adapter are the same. The order of rows, dropout and first values are PyTorch's own, and nothing freezes.
import json
import sys

import torch
from peft import PeftConfig, get_peft_model
from transformers import ${auto}, get_linear_schedule_with_warmup

BATCH, EPOCHS, RATE, PAD = ${form.batch}, ${form.epochs}, ${form.learningRate}, ${model.padId}
IS_CLASS = ${mapping.task === "classify" ? "True" : "False"}
IS_TARGET = ${model.encoderDecoder ? "True" : "False"}


def rows(name):
    with open(name, encoding="utf8") as file:
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
    if IS_CLASS:
        batch["labels"] = torch.tensor([row["label"] for row in part])
    else:
        longest = max(len(row["label"]) for row in part) if IS_TARGET else length
        batch["labels"] = torch.tensor([row["label"] + [-100] * (longest - len(row["label"])) for row in part])
    return batch


torch.manual_seed(${form.seed})
train, dev = rows("train.jsonl"), rows("dev.jsonl")
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
        losses.append(output.loss.item() * len(batch["input_ids"]))
        if IS_CLASS:
            right += (output.logits.argmax(-1) == batch["labels"]).sum().item()
    if dev:
        print(f"dev loss {sum(losses) / len(dev):.4f}" + (f", accuracy {right / len(dev):.4f}" if IS_CLASS else ""))
model.save_pretrained("repeated")
`;
}
