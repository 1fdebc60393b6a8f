import { lora } from "../src/adapter/lora";
import { Batches } from "../src/data/batches";
import { readGlue } from "../src/data/glue";
import { encodeExamples } from "../src/data/sample";
import type { Engine } from "../src/engine";
import { safe } from "../src/freeze/safe";
import { loadModel, openDirectory } from "../src/node/index";
import { loadTokenizer } from "../src/node/entry/data";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { median, report, round } from "./support/results";

const EVERY = 6;
const PROBES = 9;

/**
 * Compares the time of SAFE's probe on the shipped task with that of an epoch, which is SAFE's default interval between
 * probes. Here probes are more frequent, so that noise affects probes and steps equally, and nothing freezes.
 */
export async function probe(engine: Engine): Promise<void> {
  using model = await loadModel(engine, "examples/model");
  const tokenizer = await loadTokenizer(await openDirectory("examples/model"));
  const { examples } = await readGlue(await openDirectory("examples/data/sentiment"), "train.tsv", "sst2");
  const { samples } = encodeExamples(examples, tokenizer, { maxLength: 40 });
  const data = new Batches(samples, { size: 32, maxLength: 40, seed: 1 });
  const policy = safe({ every: EVERY, tauT: 0 });
  const probes: number[] = [];
  const timed: typeof policy = {
    ...policy,
    start(run) {
      const state = policy.start(run);
      return {
        ...state,
        async decide(context) {
          const start = performance.now();
          const names = await state.decide(context);
          probes.push((performance.now() - start) / 1000);
          return names;
        },
      };
    },
  };
  const steps = EVERY * PROBES;
  using trainer = await Trainer.create({ model, adapter: lora({ rank: 4 }), data, steps, policy: timed });
  const times: number[] = [];
  for await (const { step, seconds } of trainer.steps()) {
    times.push(seconds - (step % EVERY === 0 ? probes.at(-1)! : 0));
  }
  const [probeSeconds, stepSeconds] = [median(probes), median(times)];
  const row = {
    "steps an epoch": data.perEpoch,
    batch: "32 x 40",
    "step s": round(stepSeconds),
    "probe s": round(probeSeconds),
  };
  const first = { probes: probes.length, "first probe s": round(probes[0]!) };
  const share = round(probeSeconds / (stepSeconds * data.perEpoch));
  await report(engine, "safe-probe", [{ ...row, ...first, "share of an epoch": share }]);
}

await main("probe", probe);
