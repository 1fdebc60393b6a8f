// A research idea: freeze the lowest layer's adapter once its importance has settled, beside SAFE, on the same data from the same start.
//
//   node examples/engine/freezing-rule.mjs [STEPS]
import { createEngine, loadModel, lora, never, safe, Trainer } from "safetape";
import { Batches, encodeExamples, loadTokenizer, readGlue } from "safetape/data";
import { accuracy } from "safetape/metrics";

/** Freezes the lowest live layer if its importance changed by less than a share of itself since the last look. */
const settled = ({ every, change }) => ({
  kind: "freezing",
  name: "settled",
  settings: { every, change },
  usesImportance: true,
  start: (run, last = new Map()) => ({
    isDue: ({ step }) => step > 0 && step % every === 0,
    async decide({ live, importance }) {
      const lowest = Math.min(...live.keys());
      const scores = await importance();
      const moved = Math.abs(scores.get(lowest) / last.get(lowest) - 1);
      last = scores;
      return moved < change ? live.get(lowest) : [];
    },
    save: () => [...last],
    restore: (saved) => void (last = new Map(saved)),
  }),
});

const steps = Number(process.argv[2] ?? 60);
const every = Math.ceil(steps / 8);
const engine = await createEngine();
const place = (name) => new URL(`../${name}`, import.meta.url);
const model = await loadModel(engine, place("model"));
const { examples } = await readGlue(place("data/sentiment"), "train.tsv", "sst2");
const { samples } = encodeExamples(examples, await loadTokenizer(place("model")));
const test = samples.splice(0, 64);

for (const policy of [never(), safe({ every, targetFreezeFraction: 0.5 }), settled({ every, change: 0.2 })]) {
  const data = new Batches(samples, { size: 8, seed: 1 });
  const trainer = await Trainer.create({ model, adapter: lora(), data, steps, policy });
  let kept = 0;
  for await (const { bytes } of trainer.steps()) kept += bytes.saved / steps / 1e6;
  const { predictions, labels } = await trainer.evaluate(new Batches(test, { size: 16 }).restOfEpoch());
  const frozen = trainer.history.freezes.map(({ step, layers }) => `${layers.join("+")} at ${step}`);
  console.log(`${policy.name}: ${accuracy(predictions, labels)} right, ${kept.toFixed(2)} MB kept; frozen: ${frozen}`);
  trainer.dispose();
}
engine.dispose();
