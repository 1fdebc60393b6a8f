import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { fixed, initialiseModel, lora, loraPrune, plan as planRun, sparseAdapter, Trainer } from "safetape";
import { adafactor, adamW, ConfigError, lion, muon, sgd } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import { makeOptimizer, OPTIMIZER_NAMES } from "safetape/analysis";
import type { Optimizer, TrainerOptions } from "safetape";
import { relativeError } from "../../src/base/relative-error";
import { stateName } from "../../src/optimizer/names";
import { recordUpdate } from "../../src/optimizer/record-update";
import { UpdateCounts } from "../../src/optimizer/update-counts";
import { Executor } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Tensor } from "../../src/tensor";
import type { TensorSpec } from "../../src/op/declaration";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const model = await initialiseModel(engine, tiny.bert());
afterAll(() => model.dispose());

type Values = Readonly<Record<string, readonly number[]>>;

/** Updates of torch.optim in float64, by test/interop/optimizers.py. */
interface TorchCase {
  readonly optimizer: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly start: Values;
  readonly gradients: readonly Values[];
  readonly after: readonly Values[];
}

// The compiler cannot know what a file holds.
const TORCH = JSON.parse(readFileSync("test/interop/optimizers.json", "utf8")) as {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly cases: readonly TorchCase[];
};

/** Parameters after each update of an optimizer, on the device. */
async function updates(
  optimizer: Optimizer,
  shapes: Readonly<Record<string, readonly number[]>>,
  { start, gradients }: Pick<TorchCase, "start" | "gradients">,
): Promise<Record<string, Float32Array>[]> {
  const live = new Map<string, TensorSpec>(
    Object.entries(shapes).map(([name, shape]) => [name, { shape, dtype: "f32" }]),
  );
  const recorder = new Recorder();
  const loss = recorder.input("loss", [1]);
  const { total, groups } = recordUpdate(recorder, live, optimizer, loss);
  const update = plan(recorder, { outputs: { total }, effects: true, limits: engine.device.limits });
  const tensors = new Map<string, Tensor>();
  for (const [name, { shape }] of live) {
    tensors.set(name, engine.tensor(Float32Array.from(start[name]!), shape));
    const companions: Record<string, readonly number[]> = { [gradientName(name)]: shape };
    for (const [slot, size] of Object.entries(optimizer.state(shape, name))) companions[stateName(slot, name)] = size;
    for (const [key, size] of Object.entries(companions)) {
      tensors.set(key, engine.tensor(new Float32Array(size.reduce((a, b) => a * b, 1)), size));
    }
  }
  const executor = new Executor(engine.device);
  await executor.hold([update]);
  const counts = new UpdateCounts();
  const after: Record<string, Float32Array>[] = [];
  for (const gradient of gradients) {
    for (const name of live.keys()) tensors.get(gradientName(name))!.write(Float32Array.from(gradient[name]!));
    const inputs = { loss: Float32Array.of(1), ...counts.inputs(optimizer, groups) };
    await executor.run(update, { lease: (name) => tensors.get(name)!.lease }, inputs);
    counts.count(groups);
    const read = async (name: string) => [name, await tensors.get(name)!.read()] as const;
    after.push(Object.fromEntries(await Promise.all([...live.keys()].map(read))));
  }
  executor.dispose();
  for (const tensor of tensors.values()) tensor.dispose();
  return after;
}

describe("five updates are those of torch.optim in float64", () => {
  const cases = TORCH.cases.map((torch) => [`${torch.optimizer} ${JSON.stringify(torch.options)}`, torch] as const);
  it.each(cases)("%s", async (_, torch) => {
    const after = await updates(makeOptimizer(torch.optimizer, torch.options), TORCH.shapes, torch);
    for (const [step, expected] of torch.after.entries()) {
      for (const [name, values] of Object.entries(expected)) {
        const error = relativeError(after[step]![name]!, Float64Array.from(values));
        expect(error, `${name} after update ${step + 1}`).toBeLessThan(2e-6);
      }
    }
  });
});

/** Start and gradients of five updates. */
const [RUN] = TORCH.cases;

/** Compares five updates of a matrix and a vector with a formula on one tensor, in float64. */
async function expectFormula(
  optimizer: Optimizer,
  formula: (shape: readonly number[]) => (p: Float64Array, g: Float64Array, step: number) => void,
  tolerance: number,
): Promise<void> {
  const after = await updates(optimizer, TORCH.shapes, RUN!);
  for (const [name, shape] of Object.entries(TORCH.shapes)) {
    const p = Float64Array.from(RUN!.start[name]!);
    const update = formula(shape);
    for (const [step, gradients] of RUN!.gradients.entries()) {
      update(p, Float64Array.from(gradients[name]!), step + 1);
      expect(relativeError(after[step]![name]!, p), `${name} after update ${step + 1}`).toBeLessThan(tolerance);
    }
  }
}

it("five updates of Lion are those of its paper", () =>
  expectFormula(
    lion({ learningRate: 0.02, weightDecay: 0.3, betas: [0.8, 0.95] }),
    () => {
      let m = new Float64Array();
      return (p, g, step) => {
        if (step === 1) m = new Float64Array(p.length);
        p.forEach((value, i) => {
          const direction = Math.sign(0.8 * m[i]! + 0.2 * g[i]!);
          p[i] = value - 0.02 * (direction + 0.3 * value);
          m[i] = 0.95 * m[i]! + 0.05 * g[i]!;
        });
      };
    },
    2e-6,
  ));

/** Five Newton-Schulz iterations of a matrix, by its definition: x <- a x + b (x x^T) x + c (x x^T)^2 x. */
function orthogonalised(x: Float64Array, rows: number, columns: number): Float64Array {
  const norm = Math.hypot(...x) + 1e-7;
  let y = x.map((value) => value / norm);
  const gramTimes = (z: Float64Array, own: Float64Array): Float64Array =>
    Float64Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let other = 0; other < rows; other++) {
        let product = 0;
        for (let k = 0; k < columns; k++) product += own[row * columns + k]! * own[other * columns + k]!;
        sum += product * z[other * columns + column]!;
      }
      return sum;
    });
  for (let step = 0; step < 5; step++) {
    const own = y;
    const once = gramTimes(own, own);
    const twice = gramTimes(once, own);
    y = own.map((value, i) => 3.4445 * value - 4.775 * once[i]! + 2.0315 * twice[i]!);
  }
  return y;
}

it("five updates of Muon are those of its authors for matrices, and AdamW's for vectors", () =>
  expectFormula(
    muon({ learningRate: 0.05, weightDecay: 0.1, betas: [0.9, 0.99] }),
    (shape) => {
      const [rows = 0, columns = 0] = shape;
      const size = shape.reduce((a, b) => a * b, 1);
      const [m, v] = [new Float64Array(size), new Float64Array(size)];
      return (p, g, step) => {
        const isMatrix = shape.length === 2;
        for (const [i, gradient] of g.entries()) {
          m[i] = m[i]! + (isMatrix ? 0.05 : 0.1) * (gradient - m[i]!);
          v[i] = 0.99 * v[i]! + 0.01 * gradient ** 2;
        }
        const mixed = g.map((gradient, i) => 0.05 * gradient + 0.95 * m[i]!);
        const direction = isMatrix
          ? orthogonalised(mixed, rows, columns).map((value) => value * 0.2 * Math.sqrt(Math.max(rows, columns)))
          : m.map((mean, i) => mean / (1 - 0.9 ** step) / (Math.sqrt(v[i]! / (1 - 0.99 ** step)) + 1e-8));
        p.forEach((value, i) => (p[i] = value * (1 - 0.05 * 0.1) - 0.05 * direction[i]!));
      };
    },
    1e-5,
  ));

/** Trained parts of a matrix have one row moment a row; LoRA's rank is 2. */
const OPTIMIZERS: Readonly<Record<string, () => Optimizer>> = {
  ...Object.fromEntries(OPTIMIZER_NAMES.map((name) => [name, () => makeOptimizer(name, { learningRate: 0.01 })])),
  "sgd with momentum and groups": () =>
    sgd({
      learningRate: 0.1,
      momentum: 0.9,
      weightDecay: 0.1,
      maxGradNorm: 1,
      groups: [
        { match: /lora_B/, learningRate: 0.2 },
        { match: "head", weightDecay: 0 },
      ],
    }),
  "muon but for the head": () => muon({ adamW: /classifier/, scale: "original" }),
};

const runOptions = (optimizer: TrainerOptions["optimizer"], changes: Partial<TrainerOptions> = {}): TrainerOptions => ({
  model,
  adapter: lora({ rank: 2 }),
  data: tinyData(model),
  steps: 4,
  seed: 1,
  policy: fixed([{ beforeStep: 2, tensors: ["layer.0."] }]),
  ...changes,
  ...(optimizer && { optimizer }),
});

/** Bytes of the state that an optimizer has for tensors, each alone in a buffer. */
const stateBytes = (
  optimizer: Optimizer,
  tensors: Iterable<readonly [string, { readonly shape: readonly number[] }]>,
) =>
  [...tensors]
    .flatMap(([name, { shape }]) => Object.values(optimizer.state(shape, name)))
    .reduce((sum, shape) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);

describe.each(Object.entries(OPTIMIZERS))("a run with %s", (_, make) => {
  it("holds what its plan says, returns state in a freeze, and continues to the bit after it was stopped", async () => {
    const optimizer = make();
    using whole = await Trainer.create(runOptions(optimizer));
    const predicted = planRun({ config: tiny.bert(), adapter: lora({ rank: 2 }), batch: 4, length: 16, optimizer });
    expect(whole.predictedBytes(), "a plan from the configuration").toEqual(predicted.bytes);
    const before = new Map(whole.state.live);
    for await (const { bytes, planned } of whole.steps()) expect(bytes).toEqual(planned);
    const frozen = [...before].filter(([name]) => !whole.state.live.has(name));
    expect(frozen.length).toBeGreaterThan(0);
    const [freeze] = whole.history.freezes;
    const gradients = frozen.reduce((sum, [, { shape }]) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
    const least = gradients + stateBytes(optimizer, frozen);
    expect(freeze!.returned.state).toBeGreaterThanOrEqual(least);
    // Tensors that lie side by side begin at multiples of 256 bytes, and each has a gradient and at most two states.
    expect(freeze!.returned.state).toBeLessThan(least + 3 * 256 * frozen.length);

    const checkpoints = { directory: memoryDirectory("run"), resume: true, every: 0 };
    {
      using first = await Trainer.create(runOptions(make(), { checkpoints }));
      for await (const { step } of first.steps()) if (step === 3) break;
      await first.saveCheckpoint();
    }
    const other = runOptions({ ...optimizer, name: "another" }, { checkpoints });
    expect((await failure(Trainer.create(other), ConfigError)).message).toMatch(
      /optimizer.name is "another" here and "\w+" there/,
    );
    using second = await Trainer.create(runOptions(make(), { checkpoints }));
    await second.train();
    const tensors = async ({ state }: Trainer) =>
      Promise.all([...state.persistent.keys()].map(async (name) => [name, [...(await state.read(name))]]));
    expect(await tensors(second)).toEqual(await tensors(whole));
  });
});

it("Adafactor's state of a matrix is a number for each row and column", () => {
  const shapes = [...planShapes([768, 768], [3072, 768], [768])];
  expect(stateBytes(adafactor(), shapes)).toBe(4 * (768 + 768 + 3072 + 768 + 768));
  expect(stateBytes(adafactor(), shapes) / stateBytes(adamW(), shapes)).toBeLessThan(1 / 900);
});

const planShapes = (...shapes: readonly (readonly number[])[]) => shapes.map((shape) => ["w", { shape }] as const);

it("Muon keeps pruned elements at 0", async () => {
  const policy = sparseAdapter({ keep: 0.5 });
  using trainer = await Trainer.create(runOptions(muon(), { policy, steps: 2 }));
  await trainer.train();
  for (const name of trainer.state.masked) {
    const [values, mask] = [await trainer.state.read(name), await trainer.state.read(`mask of ${name}`)];
    expect(
      values.filter((value, i) => mask[i] === 0 && value !== 0),
      name,
    ).toHaveLength(0);
  }
  expect(trainer.state.masked.size).toBeGreaterThan(0);
});

describe("bad settings are refused", () => {
  it.each<[string, () => unknown, RegExp]>([
    ["a negative rate", () => lion({ learningRate: -1 }), /learningRate -1/],
    ["betas of 1", () => adamW({ betas: [0.9, 1] }), /betas 0.9, 1/],
    ["momentum of 1", () => sgd({ momentum: 1 }), /momentum 1/],
    ["Nesterov's without momentum", () => sgd({ nesterov: true }), /nesterov true/],
    ["a decay rate above 0", () => adafactor({ decayRate: 1 }), /decayRate 1/],
    ["a group without settings", () => adamW({ groups: [{ match: /x/ }] }), /group x has no settings/],
    [
      "a negative rate of a group",
      () => adamW({ groups: [{ match: /x/, learningRate: -2 }] }),
      /group x has learningRate -2/,
    ],
    ["an unknown name", () => makeOptimizer("adagrad"), /no optimizer "adagrad"/],
  ])("%s", async (_, make, message) => {
    expect((await failure(make, ConfigError)).message).toMatch(message);
  });

  it("a name in place of an optimizer", async () => {
    const name = "sgd" as unknown as TrainerOptions["optimizer"]; // A program without types may give anything.
    expect((await failure(Trainer.create(runOptions(name)), ConfigError)).message).toMatch(/optimizer is "sgd"/);
  });

  it("a group that matches nothing", async () => {
    const optimizer = adamW({ groups: [{ match: /nowhere/, weightDecay: 1 }] });
    expect((await failure(Trainer.create(runOptions(optimizer)), ConfigError)).message).toMatch(
      /group nowhere matches none of the \d+ tensors/,
    );
  });

  it("state that cannot be cut with heads and neurons", async () => {
    const pruning = runOptions(adafactor(), { policy: loraPrune({ ratio: 0.5 }) });
    expect((await failure(Trainer.create(pruning), ConfigError)).message).toMatch(
      /moment of adafactor has another shape/,
    );
  });

  it("elementwise state of another shape, and a state with the name of something else", async () => {
    const wrong = { ...adamW(), state: () => ({ "first moment": [1], "second moment": [1] }) };
    expect((await failure(Trainer.create(runOptions(wrong)), ConfigError)).message).toMatch(/is elementwise/);
    const taken = { ...adamW(), state: (shape: readonly number[]) => ({ mask: shape }) };
    expect((await failure(Trainer.create(runOptions(taken)), ConfigError)).message).toMatch(/has a state "mask"/);
  });
});
