// A research idea: freeze a layer's adapter once its importance has settled, beside SAFE, on the same data from the same start.
//
//   node examples/engine/freezing-rule.mjs [STEPS]
import { createEngine, loadModel, lora, never, safe, Trainer } from "safetape";
import { Batches, encodeExamples, loadTokenizer, readGlue } from "safetape/data";

/** Freezes layers whose importance changed by less than a share of itself since the last look, but never the last live one. */
const settled = ({ every, change }) => ({
  kind: "freezing",
  name: "settled",
  settings: { every, change },
  usesImportance: true,
  start() {
    let last = new Map();
    return {
      isDue: ({ step }) => step > 0 && step % every === 0,
      async decide({ live, importance }) {
        const scores = await importance();
        const moved = (layer) => Math.abs(scores.get(layer) / (last.get(layer) ?? Infinity) - 1);
        const quiet = [...live.keys()].filter((layer) => last.has(layer) && moved(layer) < change);
        last = scores;
        return quiet.slice(0, live.size - 1).flatMap((layer) => live.get(layer));
      },
      save: () => [...last],
      restore: (saved) => void (last = new Map(saved)),
    };
  },
});

const steps = Number(process.argv[2] ?? 60);
const every = Math.max(1, Math.floor(steps / 8));
const engine = await createEngine();
const place = (name) => new URL(`../${name}`, import.meta.url);
const model = await loadModel(engine, place("model"));
const tokenizer = await loadTokenizer(place("model"));
const samplesOf = async (file) =>
  encodeExamples((await readGlue(place("data/sentiment"), file, "sst2")).examples, tokenizer).samples;
const [train, dev] = [await samplesOf("train.tsv"), (await samplesOf("dev.tsv")).slice(0, 32)];

for (const policy of [never(), safe({ every, targetFreezeFraction: 0.5 }), settled({ every, change: 0.2 })]) {
  const data = new Batches(train, { size: 8, seed: 1 });
  const optimizer = { learningRate: 2e-3 };
  const trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps, policy, optimizer, seed: 1 });
  let keptBytes = 0;
  for await (const { bytes } of trainer.steps()) keptBytes += bytes.saved / steps;
  const { predictions, labels } = await trainer.evaluate(new Batches(dev, { size: 16, shuffle: false }).restOfEpoch());
  const right = predictions.filter((prediction, i) => prediction === labels[i]).length / labels.length;
  const freezes = trainer.history.freezes.map(({ step, layers }) => `${layers.join("+")} at ${step}`).join(", ");
  console.log(
    `${policy.name}: accuracy ${(100 * right).toFixed(1)} %, ${(keptBytes / 1e6).toFixed(2)} MB kept a step on average; frozen: ${freezes || "none"}`,
  );
  trainer.dispose();
}
model.dispose();
engine.dispose();
