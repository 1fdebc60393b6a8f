// Trains all weights of the demo's base model from scratch on the source domain, and writes it to examples/model.
//
//   npm run build && node examples/make-base.mjs [OUT]
import { createEngine, full, initialiseModel, saveModel, Trainer } from "safetape";
import { Batches, encodeExamples, loadTokenizer, readGlue } from "safetape/data";
import { accuracy } from "safetape/metrics";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = process.argv[2] ?? here("model");
const tokenizer = await loadTokenizer(here("model"));
const source = here("data/source");

const config = {
  architectures: ["BertForSequenceClassification"],
  model_type: "bert",
  vocab_size: tokenizer.vocabularySize,
  hidden_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 512,
  hidden_act: "gelu",
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  max_position_embeddings: 40,
  type_vocab_size: 2,
  initializer_range: 0.02,
  layer_norm_eps: 1e-12,
  pad_token_id: 0,
  id2label: { 0: "negative", 1: "positive" },
  label2id: { negative: 0, positive: 1 },
};

const read = async (file) => {
  const { examples } = await readGlue(source, file, "sst2");
  return encodeExamples(examples, tokenizer, { maxLength: 40, classes: 2, vocabularySize: tokenizer.vocabularySize })
    .samples;
};
const epochs = Number(process.env.EPOCHS ?? 5);

const engine = await createEngine();
const model = await initialiseModel(engine, config, { seed: 1 });
const trainer = await Trainer.create({
  model,
  adapter: full(),
  data: new Batches(await read("train.tsv"), { size: 64, maxLength: 40, seed: 1 }),
  epochs,
  optimizer: { learningRate: 7e-4, weightDecay: 0.01, maxGradNorm: 1 },
  schedule: { type: "linear", warmupRatio: 0.1 },
  seed: 1,
});
const dev = () => new Batches(devSamples, { size: 64, maxLength: 40, shuffle: false }).restOfEpoch();
const devSamples = await read("dev.tsv");
let lossSum = 0;
for await (const { step, totalSteps, loss, examplesPerSecond } of trainer.steps()) {
  lossSum += loss;
  if (step % 50 !== 0 && step !== totalSteps) continue;
  const { predictions, labels } = await trainer.evaluate(dev());
  const score = accuracy(predictions, labels);
  console.log(
    `step ${step}/${totalSteps}  loss ${(lossSum / 50).toFixed(4)}  dev accuracy ${score.toFixed(3)}  ${examplesPerSecond.toFixed(0)} examples/s`,
  );
  lossSum = 0;
}
await saveModel(out, model);
trainer.dispose();
model.dispose();
engine.dispose();
