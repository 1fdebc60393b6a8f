import { describe, expect, it } from "vitest";
import { initialiseModel, lora, plan, promptTuning, safe, Trainer } from "safetape";
import { Batches, memoryDirectory } from "safetape/data";
import { ConfigError, ShapeError } from "safetape/engine";
import { abs, add, crossEntropy, exp, logSoftmax, mul, neg, oneHot, sub, sum } from "safetape/ops";
import type { LoadedModel, Loss, TrainerOptions } from "safetape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const CONFIGS = {
  classifier: tiny.bert(),
  regression: tiny.bert({ num_labels: 1 }),
  tagger: tiny.bert({ architectures: ["BertForTokenClassification"], num_labels: 50 }),
  answers: tiny.bert({ architectures: ["BertForQuestionAnswering"] }),
  writer: tiny.gpt2(),
  seq2seq: tiny.t5(),
  images: tiny.vit(),
} as const;
const modelOf = (kind: keyof typeof CONFIGS): Promise<LoadedModel> => initialiseModel(engine, CONFIGS[kind]);

const options = (model: LoadedModel, changes: Partial<TrainerOptions> = {}): TrainerOptions => ({
  model,
  adapter: lora({ rank: 2 }),
  data: tinyData(model),
  steps: 3,
  seed: 4,
  optimizer: { learningRate: 0.01 },
  ...changes,
});

/** The losses of a run, in which the ledger holds what is planned. */
async function losses(given: TrainerOptions): Promise<number[]> {
  using trainer = await Trainer.create(given);
  const found: number[] = [];
  for await (const { loss, bytes, planned } of trainer.steps()) {
    expect(bytes).toEqual(planned);
    found.push(loss);
  }
  return found;
}

const perLabel = (logits: Parameters<Loss>[1], labels: Parameters<Loss>[2]["labels"]) =>
  neg(sum(mul(logSoftmax(logits), oneHot(labels, logits.shape.at(-1)!)), { axes: [-1] }));

/** The task's own loss, by the weights of labels. */
const weighted: Loss = (_, logits, { labels, weights }) => sum(mul(perLabel(logits, labels), weights));
/** Focal loss (Lin et al. 2017) with a focus of 2. */
const focal: Loss = (_, logits, { labels, weights }) => {
  const nll = perLabel(logits, labels);
  const missed = sub(1, exp(neg(nll)));
  return sum(mul(mul(mul(missed, missed), nll), weights));
};
const close = (actual: readonly number[], expected: readonly number[]): void => {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
};

describe("a loss of one's own", () => {
  it.each(["classifier", "tagger", "writer", "seq2seq", "images"] as const)(
    "computes that of %s from its labels and their weights, also with policies that plan again",
    async (kind) => {
      const policy = safe({ every: 1, maxWarmup: 1, targetFreezeFraction: 0.5, rampEnd: 2 });
      using model = await modelOf(kind);
      close(await losses(options(model, { loss: weighted, policy })), await losses(options(model, { policy })));
    },
  );

  it("reads the positions of answers", async () => {
    // Of an answer, start and end are classified over the tokens: the mean of one number does not depend on them.
    const constant: Loss = (_, logits, { labels, weights }) => {
      expect(labels.shape).toEqual([4, 2]);
      return add(sum(weights), mul(sum(logits), 0));
    };
    using model = await modelOf("answers");
    const samples = Array.from({ length: 4 }, () => ({ ids: Int32Array.of(2, 7, 8, 3), label: Int32Array.of(1, 2) }));
    const data = new Batches(samples, { size: 4, labels: "span" });
    close(await losses(options(model, { loss: constant, data, steps: 1 })), [1]);
  });

  it("reads the targets of a regression", async () => {
    const absolute: Loss = (_, logits, { labels, weights, size }) => {
      expect(size).toBe(4);
      return sum(mul(abs(sub(sum(logits, { axes: [1] }), labels)), weights));
    };
    using model = await modelOf("regression");
    using trainer = await Trainer.create(options(model, { loss: absolute }));
    const { loss, predictions, labels } = await trainer.evaluate([tinyData(model).next()]);
    const errors = predictions.map((prediction, i) => Math.abs(prediction - labels[i]!));
    expect(loss).toBeCloseTo(errors.reduce((a, b) => a + b) / errors.length, 5);
  });

  it.each([
    ["parts of a batch", { memory: { microBatch: 1 } }],
    ["recomputed layers", { memory: { recompute: "layers" } }],
  ] as const)("is the same in %s", async (_, changes) => {
    using model = await modelOf("classifier");
    const given = { loss: focal, dropout: false } as const;
    close(await losses(options(model, { ...given, ...changes })), await losses(options(model, given)));
  });

  it("counts labels alone where texts begin with virtual tokens", async () => {
    const adapter = promptTuning({ tokens: 2 });
    using model = await modelOf("tagger");
    close(await losses(options(model, { adapter, loss: weighted })), await losses(options(model, { adapter })));
  });

  it("is that of evaluation", async () => {
    using model = await modelOf("classifier");
    using trainer = await Trainer.create(options(model, { loss: focal }));
    let expected = 0;
    const { loss, count } = await trainer.evaluate([tinyData(model).next()], ({ labels, rows }, logits) => {
      for (let row = 0; row < rows; row++) {
        const [a, b] = [logits[2 * row]!, logits[2 * row + 1]!];
        const probability = Math.exp(labels[row] ? b : a) / (Math.exp(a) + Math.exp(b));
        expected -= (1 - probability) ** 2 * Math.log(probability);
      }
    });
    expect(loss).toBeCloseTo(expected / count, 5);
  });

  it("is planned without a device as with one", () => {
    const common = { config: CONFIGS.writer, adapter: lora({ rank: 2 }), batch: 4, length: 16 };
    const whole: Loss = (_, logits, { labels, normalizer }) => crossEntropy(logits, labels, normalizer);
    // The logits of all tokens are there twice, with their gradient.
    expect(plan({ ...common, loss: whole }).peakBytes).toBeGreaterThan(plan(common).peakBytes);
  });

  it("belongs to a run by its name", async () => {
    const directory = memoryDirectory("run");
    using model = await modelOf("classifier");
    const given = (loss: Loss | undefined, resume = false): TrainerOptions =>
      options(model, { loss, checkpoints: { directory, every: 1, resume } });
    using trainer = await Trainer.create(given(focal));
    for await (const { step } of trainer.steps()) if (step === 2) break;
    const other = await failure(() => Trainer.create(given(weighted, true)), ConfigError);
    expect(other.fact).toMatch(/loss is "weighted" here and "focal" there/);
    const none = await failure(() => Trainer.create(given(undefined, true)), ConfigError);
    expect(none.fact).toMatch(/loss is not set here and "focal" there/);
    using again = await Trainer.create(given(focal, true));
    expect(again.progress.step).toBeGreaterThan(0);
  });

  const two: Loss = (_, logits) => sum(logits, { axes: [1] });
  const flags: Loss = (_, __, { labels }) => labels;
  const nothing = (() => undefined) as unknown as Loss; // A program without types may return anything.
  const input: Loss = (_, __, { normalizer }) => normalizer;
  const constant: Loss = (_, __, { weights }) => sum(weights);
  it.each([
    ["several numbers", two, {}, ShapeError, /^The loss two returns f32 \[4\], and not one number\.$/],
    ["integers", flags, {}, ShapeError, /^The loss flags returns i32 \[4\], and not one number\.$/],
    ["nothing", nothing, {}, ConfigError, /^The loss nothing returns undefined\.$/],
    ["what no op computes", input, {}, ConfigError, /^The loss input returns the input normalizer as it is\.$/],
    [
      "what nothing trains",
      constant,
      {},
      ConfigError,
      /^The loss constant depends on none of the \d+ tensors that lora/,
    ],
    ["smoothing beside it", focal, { labelSmoothing: 0.1 }, ConfigError, /^labelSmoothing 0\.1 is of the task's loss/],
  ] as const)("is refused before anything is allocated: %s", async (_, loss, changes, kind, fact) => {
    using model = await modelOf("classifier");
    const { liveBytes } = engine.ledger;
    const error = await failure(() => Trainer.create(options(model, { loss, ...changes })), kind);
    expect(error.fact).toMatch(fact);
    expect(engine.ledger.liveBytes).toBe(liveBytes);
  });
});

describe("a schedule of one's own", () => {
  const falling = (step: number, total: number): number => (total - step) / total;

  it("gives the rates of each step", async () => {
    using model = await modelOf("classifier");
    const rates: number[] = [];
    {
      using trainer = await Trainer.create(options(model, { schedule: falling }));
      for await (const { learningRate } of trainer.steps()) rates.push(learningRate);
    }
    close(rates, [0.01, (0.01 * 2) / 3, 0.01 / 3]);
    expect(await losses(options(model, { schedule: falling }))).toEqual(await losses(options(model)));
  });

  it.each([
    ["a number below 0", (step: number) => 1 - step, /gives -1 at step 2 of 3\.$/],
    ["no number", () => NaN, /gives NaN at step 0 of 3\.$/],
  ])("is refused before the run for %s", async (_, schedule, fact) => {
    using model = await modelOf("classifier");
    expect((await failure(() => Trainer.create(options(model, { schedule })), ConfigError)).fact).toMatch(fact);
  });

  it("belongs to a run by its name", async () => {
    const directory = memoryDirectory("run");
    using model = await modelOf("classifier");
    const given = options(model, { checkpoints: { directory }, schedule: falling });
    using trainer = await Trainer.create(given);
    await trainer.steps().next();
    await trainer.saveCheckpoint();
    const error = await failure(
      () => Trainer.create({ ...given, schedule: () => 1, checkpoints: { directory, resume: true } }),
      ConfigError,
    );
    expect(error.fact).toMatch(/schedule\.type is "schedule" here and "falling" there/);
  });
});
