import { describe, expect, it } from "vitest";
import { dora, fixed, initialiseModel, loadAdapter, lora, loraPrune, saveAdapter, Trainer } from "safetape";
import type { Directory, LoraInit, TrainerOptions } from "safetape";
import { ConfigError } from "safetape/engine";
import { Batches, memoryDirectory } from "safetape/data";
import { relativeError } from "../../src/base/relative-error";
import { withUpdate } from "../../src/adapter/low-rank";
import { adapterLogits } from "../../scripts/interop-case";
import { useEngine } from "../support/engine";
import { parseJson } from "../support/json";
import { failure } from "../support/failure";
import { tiny, tinySamples } from "../support/tiny";

const engine = await useEngine();
const CONFIG = tiny.bert({ initializer_range: 0.2, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 });
const SAMPLES = tinySamples(4, { seed: 4, longest: 10 });
const dataOf = () => new Batches(SAMPLES, { size: 4, shuffle: false, padId: 0 });
const optionsOf = (
  model: TrainerOptions["model"],
  adapter: TrainerOptions["adapter"],
  more: Partial<TrainerOptions> = {},
): TrainerOptions => ({ model, adapter, data: dataOf(), steps: 6, optimizer: { learningRate: 2e-2 }, ...more });

const configOf = async (files: Directory): Promise<object> =>
  parseJson<object>(new TextDecoder().decode(await files.read("adapter_config.json")));

/** Relative change of the logits of a model by an adapter before its first step. */
async function startDeviation(init: LoraInit, form = lora): Promise<number> {
  using model = await initialiseModel(engine, CONFIG);
  const plain = lora();
  const adapter = form({ rank: 4, alpha: 2, targets: "all-linear", init });
  using before = await Trainer.create(optionsOf(model, plain));
  using trainer = await Trainer.create(optionsOf(model, adapter));
  const batch = dataOf().next();
  const [expected, actual] = await Promise.all([
    adapterLogits(model, plain, await before.snapshot(), batch),
    adapterLogits(model, adapter, await trainer.snapshot(), batch),
  ]);
  return relativeError(actual.data, expected.data);
}

describe("first values of a LoRA", () => {
  it.each(["gaussian", "orthogonal", "pissa", "pissa_niter_2", "olora"] as const)(
    "%s: the model begins as it was loaded",
    async (init) => {
      expect(await startDeviation(init)).toBeLessThan(1e-5);
    },
  );

  it("pissa with DoRA: so it does", async () => {
    expect(await startDeviation("pissa", dora)).toBeLessThan(1e-5);
  });

  it("false: it does not", async () => {
    expect(await startDeviation(false)).toBeGreaterThan(1e-2);
  });

  it("gaussian and orthogonal have the deviations and products of PEFT's", async () => {
    using model = await initialiseModel(engine, CONFIG);
    const query = "bert.encoder.layer.0.attention.self.query";
    const tensorsOf = async (init: LoraInit) => {
      using trainer = await Trainer.create(optionsOf(model, lora({ rank: 8, init })));
      const tensors = await trainer.snapshot();
      return { a: tensors.get(`${query}.lora_A.weight`)!, b: tensors.get(`${query}.lora_B.weight`)! };
    };
    const deviation = (data: Float32Array): number =>
      Math.sqrt(data.reduce((sum, value) => sum + value ** 2, 0) / data.length);
    const gaussian = await tensorsOf("gaussian");
    expect(deviation(gaussian.a.data)).toBeCloseTo(1 / 8, 1);
    expect(deviation(gaussian.b.data)).toBe(0);
    const { a, b } = await tensorsOf("orthogonal");
    // Half of the squares of a random row of an orthogonal matrix, over 100.
    expect(deviation(a.data)).toBeCloseTo(Math.sqrt(0.5) / 10, 1);
    const [out, inSize] = [b.shape[0]!, a.shape[1]!];
    const zero = { shape: [out, inSize], data: new Float32Array(out * inSize) };
    expect(Math.max(...withUpdate(zero, { a, b, scale: 1 }, false).data.map(Math.abs))).toBeLessThan(1e-6);
  });
});

describe("a LoRA that trains a part of the weights", () => {
  it("continues from a checkpoint to the bit, and from its files", async () => {
    using model = await initialiseModel(engine, CONFIG);
    const adapter = lora({ rank: 3, init: "pissa_niter_1" });
    const checkpoints = { directory: memoryDirectory("checkpoints"), every: 3 };
    const whole = optionsOf(model, adapter);
    using trainer = await Trainer.create(whole);
    const { losses } = await trainer.train();
    const interrupted = await Trainer.create({ ...whole, data: dataOf(), checkpoints });
    for await (const { step } of interrupted.steps()) if (step === 4) break;
    interrupted.dispose();
    using resumed = await Trainer.create({ ...whole, data: dataOf(), checkpoints: { ...checkpoints, resume: true } });
    const rest = await resumed.train();
    expect(rest.losses).toEqual(losses);
    const files = memoryDirectory("adapter");
    await saveAdapter(files, resumed);
    const config = await configOf(files);
    // What random numbers decide cannot be taken out of a base again: the file is a LoRA of twice the rank.
    expect(config).toMatchObject({ init_lora_weights: true, r: 6, lora_alpha: 16 });
    const loaded = await loadAdapter(files, model);
    const batch = dataOf().next();
    const actual = await adapterLogits(model, loaded.adapter, loaded.tensors, batch);
    const expected = await adapterLogits(model, adapter, await resumed.snapshot(), batch);
    expect(relativeError(actual.data, expected.data)).toBeLessThan(1e-5);
  });

  it("is merged when it is frozen, and leaves the loaded weights as they were", async () => {
    using model = await initialiseModel(engine, CONFIG);
    const name = "bert.encoder.layer.0.attention.self.query.weight";
    const before = await model.weights.get(name)!.read();
    const policy = () => fixed([{ beforeStep: 3, tensors: ["layer.0."] }]);
    const lossesOf = async (mergeOnFreeze: boolean): Promise<readonly number[]> => {
      const adapter = lora({ rank: 3, init: "pissa" });
      using trainer = await Trainer.create(optionsOf(model, adapter, { policy: policy(), mergeOnFreeze }));
      const losses: number[] = [];
      for await (const { loss, bytes } of trainer.steps()) {
        expect(bytes).toEqual(trainer.predictedBytes());
        losses.push(loss);
      }
      return losses;
    };
    const [merged, apart] = [await lossesOf(true), await lossesOf(false)];
    expect(relativeError(merged, apart)).toBeLessThan(1e-5);
    expect(await model.weights.get(name)!.read()).toEqual(before);
  });

  it("is saved as a LoRA where PEFT would take something else out of quantised weights", async () => {
    using model = await initialiseModel(engine, CONFIG, { weights: "int8" });
    using trainer = await Trainer.create(optionsOf(model, lora({ init: "pissa" })));
    const files = memoryDirectory("adapter");
    await saveAdapter(files, trainer);
    const config = await configOf(files);
    expect(config).toMatchObject({ init_lora_weights: true, r: 16 });
  });

  it.each<[object, RegExp]>([
    [{ init: "eva" }, /"eva", which takes singular vectors of each projection's inputs/],
    [{ init: "lora_ga" }, /"lora_ga", which takes gradients/],
    [{ init: "pissa_niter_x" }, /init_lora_weights "pissa_niter_x"\./],
    [{ init: "orthogonal", rank: 3 }, /rank 3; an orthogonal LoRA takes an even one/],
    [{ init: "pissa", rank: 99 }, /rank 99 .*; pissa takes apart a weight \[16, 16\]/],
    [{ init: "olora", alpha: 0 }, /scale 0; olora takes apart/],
  ])("%o is refused", async (options, message) => {
    using model = await initialiseModel(engine, CONFIG);
    const make = async () => Trainer.create(optionsOf(model, lora(options)));
    expect((await failure(make(), ConfigError)).message).toMatch(message);
  });

  it("is not combined with DoRA's dropout, nor with LoRAPrune", async () => {
    using model = await initialiseModel(engine, CONFIG);
    const dropping = dora({ init: "pissa", dropout: 0.1 });
    const error = await failure(Trainer.create(optionsOf(model, dropping)), ConfigError);
    expect(error.message).toMatch(/dora with dropout 0.1 is not combined with PiSSA and OLoRA/);
    const pruned = Trainer.create(optionsOf(model, lora({ init: "pissa" }), { policy: loraPrune() }));
    expect((await failure(pruned, ConfigError)).message).toMatch(/this adapter is lora with PiSSA or OLoRA/);
  });

  it("is refused where a file's base follows from random numbers, or from data", async () => {
    using model = await initialiseModel(engine, CONFIG);
    using trainer = await Trainer.create(optionsOf(model, lora({ init: "pissa" })));
    const files = memoryDirectory("adapter");
    await saveAdapter(files, trainer);
    for (const init of ["pissa_niter_4", "corda"]) {
      const config = await configOf(files);
      await files.write(
        "adapter_config.json",
        new TextEncoder().encode(JSON.stringify({ ...config, init_lora_weights: init })),
      );
      const { message } = await failure(loadAdapter(files, model), ConfigError);
      expect(message).toMatch(new RegExp(`init_lora_weights "${init}".*path_initial_model_for_weight_conversion`, "s"));
    }
  });
});
