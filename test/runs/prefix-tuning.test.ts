import * as v from "valibot";
import { describe, expect, it } from "vitest";
import {
  initialiseModel,
  loadAdapter,
  loadModel,
  openDirectory,
  plan,
  promptTuning,
  saveAdapter,
  safe,
  Trainer,
} from "safetape";
import { makeAdapter, prefixTuning, pTuning } from "safetape/analysis";
import { makeBatch, memoryDirectory } from "safetape/data";
import { ConfigError, ShapeError } from "safetape/engine";
import type { Adapter, TrainerOptions } from "safetape";
import { adapterFile } from "../../src/adapter/file";
import { elements } from "../../src/base/shape";
import { LABEL_KINDS } from "../../src/data/batch";
import { IGNORED_LABEL } from "../../src/data/sample";
import { readJson } from "../../src/io/json";
import { readSafetensors } from "../../src/io/safetensors";
import { createModel } from "../../src/model/families";
import { gradientName } from "../../src/train/tensors/names";
import expected from "../interop/prefix.json";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { layerCount, tiny, tinyData } from "../support/tiny";

const engine = await useEngine();

const ADAPTERS: Readonly<Record<string, () => Adapter>> = {
  "prefix tuning": () => prefixTuning({ tokens: expected.tokens }),
  "prefix tuning with a projection": () =>
    prefixTuning({ tokens: expected.tokens, projection: true, encoderSize: expected.size }),
  "prompt tuning": () => promptTuning({ tokens: expected.tokens }),
  "P-tuning": () => pTuning({ tokens: expected.tokens, encoderSize: expected.size }),
};

/** Values as test/interop/prefix.py makes them. */
function sines(name: string, count: number): Float32Array {
  const phase = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  return Float32Array.from({ length: count }, (_, i) => 0.5 * Math.sin(0.7 * i + phase));
}

/** A folder of test/interop-data, with other values in its configuration. */
async function changed(path: string, changes: object, names: readonly [config: string, tensors: string]) {
  const folder = await openDirectory(`test/interop-data/${path}`);
  const files = memoryDirectory(path);
  const config = await readJson(folder, names[0], v.looseObject({}));
  await files.write(names[0], new TextEncoder().encode(JSON.stringify({ ...config, ...changes })));
  await files.write(names[1], await folder.read(names[1]));
  return files;
}

describe("PEFT's losses, gradients, steps and written texts in float64", () => {
  it.each(expected.cases)(
    "$kind of $family $changes",
    async ({ family, kind, changes, losses, gradients, written }) => {
      const folder = await changed(`${family}/base`, changes, ["config.json", "model.safetensors"]);
      using loaded = await loadModel(engine, folder);
      const { model } = loaded;
      const adapter = ADAPTERS[kind]!();
      const initial = new Map(
        adapter.tensors(model).map(({ name, shape }) => [name, { data: sines(name, elements(shape)) }]),
      );
      const labels = LABEL_KINDS[model.task];
      const samples = expected.rows.map((row, i) => {
        const ids = Int32Array.from(row);
        const target = Int32Array.from(expected.targets[i]!);
        return { ids, label: labels === "target" ? target : labels === "token" ? ids : 1 - i };
      });
      const sizes = { size: 2, length: 7, ...(labels === "target" && { targetLength: 5 }) };
      const batch = makeBatch(samples, { ...sizes, padId: model.padId, labels });
      const padding = labels === "target" ? 2 : labels === "token" ? 3 : 0;
      expect(batch.labels.filter((label) => label === IGNORED_LABEL)).toHaveLength(padding);
      const data = { perEpoch: 1, next: () => batch };
      using trainer = await Trainer.create({
        model: loaded,
        adapter,
        data,
        initial,
        steps: losses.length,
        dropout: false,
        optimizer: { learningRate: expected.rate },
        schedule: { type: "constant" },
      });
      for (const [beams, texts] of Object.entries(written ?? {})) {
        const options = { maxNewTokens: expected.newTokens, beams: Number(beams), endIds: [] };
        const continuations = await trainer.generate(expected.rows, options);
        expect(
          continuations.map(({ ids }) => ids),
          `${beams} beams`,
        ).toEqual(texts);
      }
      expect((await trainer.evaluate([batch])).loss / losses[0]! - 1, "loss of an evaluation").toBeCloseTo(0, 6);
      expect([...initial.keys()].sort()).toEqual(Object.keys(gradients).sort());
      for await (const { step, loss, bytes, planned } of trainer.steps()) {
        const limit = step === 1 ? 1e-6 : 1e-5;
        expect(Math.abs(loss / losses[step - 1]! - 1), `relative error of loss ${step}`).toBeLessThan(limit);
        expect(bytes, "ledger against plan").toEqual(planned);
        if (step > 1) continue;
        for (const [name, [length, product]] of Object.entries(gradients)) {
          const gradient = await trainer.state.tensor(gradientName(name)).read();
          const pattern = sines(`${name}.pattern`, gradient.length);
          const norm = Math.hypot(...gradient);
          expect(Math.abs(norm / length! - 1), `length of d${name}`).toBeLessThan(1e-4);
          const along = gradient.reduce((sum, value, i) => sum + value * pattern[i]!, 0);
          expect(Math.abs(along - product!) / (length! * Math.hypot(...pattern)), `d${name}`).toBeLessThan(1e-5);
        }
      }
    },
  );
});

it("an encoder-decoder's file has rows that nothing reads, where PEFT wrote it, and none where it is written here", async () => {
  using model = await loadModel(engine, "test/interop-data/t5/base");
  const folder = await openDirectory("test/interop-data/t5/prompt");
  expect((await readSafetensors(folder, "adapter_model.safetensors")).get("prompt_embeddings")!.shape).toEqual([6, 32]);
  const { adapter, tensors } = await loadAdapter(folder, model);
  const { config, tensors: written } = adapterFile(adapter, model.model, tensors);
  expect(config).toMatchObject({ num_transformer_submodules: 1, num_layers: 2, num_attention_heads: 4 });
  expect(written.get("prompt_embeddings")!.shape).toEqual([3, 32]);
  for (const changes of [{ num_transformer_submodules: 1 }, { num_virtual_tokens: 6 }]) {
    const files = await changed("t5/prompt", changes, ["adapter_config.json", "adapter_model.safetensors"]);
    expect((await failure(loadAdapter(files, model), ShapeError)).message).toMatch(
      /prompt_embeddings is \[6, 32\][^]*tells of (?:3|12) rows/,
    );
  }
  using decoder = await initialiseModel(engine, tiny.gpt2());
  const refused = failure(loadAdapter(folder, decoder), ConfigError);
  expect((await refused).message).toMatch(/num_transformer_submodules is 2 [^]*gpt2 is one transformer/);
});

it.each(["electra", "albert"] as const)("prompts of %s are as wide as its embeddings, not as its layers", (family) => {
  const model = createModel(tiny[family]());
  for (const adapter of [promptTuning({ tokens: 3 }), pTuning({ tokens: 3 })]) {
    expect(adapter.tensors(model)[0]!.shape).toEqual([3, 12]);
    expect(adapter.peftConfig(model)["token_dim"]).toBe(12);
    expect(plan({ config: tiny[family](), adapter, batch: 2, length: 8 }).peakBytes).toBeGreaterThan(0);
  }
});

it("a prefix keeps keys and values of its own tokens alone, for each row", () => {
  const batch = { batch: 4, length: 16 };
  const saved = (tokens: number): number =>
    plan({ config: tiny.bert(), adapter: prefixTuning({ tokens }), ...batch }).bytes.saved;
  const width = 16;
  // Keys and values of three layers; of the log-sum-exp and statistics of queries nothing depends on keys.
  expect(saved(5) - saved(4)).toBe(3 * 2 * batch.batch * width * 4);
});

it("SAFE compares its layers with the model without a prefix, and returns what frozen layers kept", async () => {
  using model = await initialiseModel(engine, { ...tiny.gpt2(layerCount(4)), initializer_range: 0.2 });
  const options: TrainerOptions = {
    model,
    adapter: prefixTuning({ tokens: 3, projection: true }),
    data: tinyData(model),
    steps: 12,
    policy: safe({ every: 1, maxWarmup: 3, targetFreezeFraction: 0.6 }),
    optimizer: { learningRate: 1e-2 },
    memory: { recompute: "layers", microBatch: 2 },
    accumulate: 2,
  };
  using trainer = await Trainer.create(options);
  for await (const { bytes } of trainer.steps()) {
    expect(bytes, "ledger against plan").toEqual(trainer.predictedBytes());
  }
  const frozen = trainer.history.freezes.flatMap(({ layers }) => layers);
  expect(frozen.length).toBeGreaterThan(0);
  // The shared network belongs to the lowest layer.
  expect(trainer.state.frozen.includes("prefix.hidden.weight")).toBe(frozen.includes(0));
});

describe("is refused", () => {
  it.each<[keyof typeof tiny, RegExp]>([
    ...(["albert", "deberta-v2", "distilbert", "modernbert", "mpnet"] as const).map(
      (family): [keyof typeof tiny, RegExp] => [family, /takes no keys and values before those of a text/],
    ),
    ["vit", /reads images/],
    ["t5", /gives the layers of an encoder-decoder \(t5\) the prefixes of other layers/],
    ["bart", /gives the layers of an encoder-decoder \(bart\) the prefixes of other layers/],
  ])("for %s", async (family, reason) => {
    const error = await failure(() => prefixTuning().tensors(createModel(tiny[family]())), ConfigError);
    expect(error.message).toMatch(reason);
  });

  it.each<[() => Adapter, RegExp]>([
    // JavaScript and JSON can contain any value.
    [() => makeAdapter({ kind: "prefix_tuning", initial: "ones" }), /initial is ones/],
    [() => prefixTuning({ encoderSize: 4 }), /encoderSize belongs to a projection/],
    [() => prefixTuning({ tokens: 0 }), /num_virtual_tokens/],
    [() => makeAdapter({ kind: "p_tuning", encoder: "lstm" }), /encoder lstm is not implemented.\nGive "mlp"/],
  ])("with %s", async (make, message) => {
    expect((await failure(make)).message).toMatch(message);
  });

  it("where a window would end before the last of its keys, and texts would be too long", async () => {
    const windowed = tiny.mistral({ sliding_window: 4 });
    const planned = (tokens: number) => () =>
      plan({ config: windowed, adapter: prefixTuning({ tokens }), batch: 1, length: 8 });
    expect(planned(3)().peakBytes).toBeGreaterThan(0);
    expect((await failure(planned(4), ConfigError)).message).toMatch(
      /A prefix of 4 keys does not go with this model's window of 3 keys/i,
    );
    const long = () => plan({ config: tiny.bert(), adapter: prefixTuning({ tokens: 9 }), batch: 1, length: 30 });
    expect((await failure(long)).message).toMatch(/Rows of 30 tokens with 9 virtual tokens do not fit/);
  });

  it("for a file of a model with other layers", async () => {
    const three = memoryDirectory("three layers");
    {
      using model = await initialiseModel(engine, tiny.bert());
      using trainer = await Trainer.create({
        model,
        adapter: prefixTuning({ tokens: 2 }),
        data: tinyData(model),
        steps: 1,
      });
      await saveAdapter(three, trainer);
    }
    using model = await initialiseModel(engine, tiny.bert(layerCount(2)));
    const error = await failure(loadAdapter(three, model), ShapeError);
    expect(error.message).toMatch(/prompt_embeddings is \[2, 96\] in .*, but \[2, 64\] for this model/);
  });
});
