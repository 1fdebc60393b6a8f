import { afterAll, expect, it } from "vitest";
import { adapterDrop, aflora, initialiseModel, lora, plan, Trainer } from "safetape";
import { loraPlusGroups, resting } from "safetape/analysis";
import { ConfigError } from "safetape/engine";
import type { TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const model = await initialiseModel(engine, tiny.bert());
afterAll(() => model.dispose());

const RATES = { learningRate: 0.01, headLearningRate: 0.04 };
const DECAY = 0.5;
/** Without moving averages, AdamW moves every weight that has a gradient by exactly the learning rate. */
const OPTIMIZER = { ...RATES, betas: [0, 0], eps: 1e-30, weightDecay: DECAY, noDecay: /classifier/g } as const;

const options = (changes: Partial<TrainerOptions> = {}): TrainerOptions => ({
  model,
  adapter: lora({ rank: 2 }),
  data: tinyData(model),
  steps: 4,
  schedule: { type: "linear", warmupSteps: 1 },
  optimizer: OPTIMIZER,
  ...changes,
});

it("the head learns at its own rate, over the same schedule, and the rest at the other", async () => {
  using trainer = await Trainer.create(options());
  let before = await trainer.snapshot();
  // Linear over four steps after one of warm-up: 0 / 1, 3 / 3, 2 / 3, 1 / 3.
  const factors = [0, 1, 2 / 3, 1 / 3];
  for await (const { step, learningRate } of trainer.steps()) {
    const factor = factors[step - 1]!;
    expect(learningRate, "the rate outside the head is reported").toBeCloseTo(0.01 * factor, 12);
    const after = await trainer.snapshot();
    for (const isHead of [true, false]) {
      const rate = factor * (isHead ? 0.04 : 0.01);
      // p' = p (1 - rate decay) - rate g / |g|, and the head has no decay.
      const kept = isHead ? 1 : 1 - rate * DECAY;
      const moves = [...after]
        .filter(([name]) => name.startsWith("classifier.") === isHead)
        .flatMap(([name, { data }]) => [...data].map((value, i) => value - kept * before.get(name)!.data[i]!));
      const largest = Math.max(...moves.map(Math.abs));
      expect(largest, `moves in step ${step}, head: ${isHead}`).toBeCloseTo(rate, 6);
      const between = moves.filter((move) => Math.abs(move) > 1e-6 && Math.abs(Math.abs(move) - rate) > 1e-6);
      expect(between, `weights in step ${step} that moved by another amount, head: ${isHead}`).toEqual([]);
    }
    before = after;
  }
});

it("LoRA+ moves B and biases by its ratio of the rate, and A and the head's weights by the rate", async () => {
  const [adapter, learningRate, ratio] = [lora({ rank: 2 }), 0.01, 4];
  const groups = loraPlusGroups(adapter, model.model, { learningRate, ratio });
  const optimizer = { learningRate, betas: [0, 0], eps: 1e-30, groups } as const;
  using trainer = await Trainer.create(options({ adapter, optimizer, steps: 2, schedule: { type: "constant" } }));
  // A has a gradient from the second step on, when B is no longer 0.
  const steps = trainer.steps();
  await steps.next();
  const before = await trainer.snapshot();
  await steps.next();
  for (const [name, { data }] of await trainer.snapshot()) {
    const largest = Math.max(...data.map((value, i) => Math.abs(value - before.get(name)!.data[i]!)));
    const isFast = name.endsWith(".lora_B.weight") || name.endsWith(".bias");
    expect(largest, name).toBeCloseTo(isFast ? ratio * learningRate : learningRate, 6);
  }
});

it.each([
  ["AdapterDrop", { policy: adapterDrop({ seed: 1 }) }],
  ["resting", { policy: resting({ every: 2 }) }],
  ["AFLoRA, in parts of a batch", { adapter: aflora({ rank: 2 }), memory: { microBatch: 2 } }],
] as const)("the plan holds what the second rate needs: %s", async (_, changes) => {
  using trainer = await Trainer.create(options({ ...changes, optimizer: RATES, steps: 2 }));
  for await (const { bytes, planned } of trainer.steps()) expect(bytes).toEqual(planned);
});

it("a plan from the configuration alone has the bytes of the run, with a second rate too", async () => {
  for (const optimizer of [{}, RATES]) {
    using trainer = await Trainer.create(options({ optimizer }));
    const { bytes } = plan({ config: tiny.bert(), adapter: lora({ rank: 2 }), batch: 4, length: 16, optimizer });
    expect(bytes).toEqual(trainer.predictedBytes());
  }
});

it("a rate of the head is refused where no head learns", async () => {
  const withoutHead = options({ adapter: lora({ rank: 2, modulesToSave: [] }) });
  expect((await failure(Trainer.create(withoutHead), ConfigError)).message).toMatch(/headLearningRate 0.04, and this/);
  const negative = options({ optimizer: { headLearningRate: -1 } });
  expect((await failure(Trainer.create(negative), ConfigError)).message).toMatch(/headLearningRate -1/);
});
