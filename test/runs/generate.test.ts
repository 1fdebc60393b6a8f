import { describe, expect, it } from "vitest";
import {
  generate,
  initialiseModel,
  loadAdapter,
  loadModel,
  lora,
  openDirectory,
  promptTuning,
  Trainer,
} from "safetape";
import { prefixTuning } from "safetape/analysis";
import { ConfigError, DataError, MemoryBudgetError } from "safetape/engine";
import { loadTokenizer, makeBatch, memoryDirectory, openTextSession, streamText } from "safetape/data";
import type { Adapter, GenerateOptions, LoadedModel, SafetapeError } from "safetape";
import { elements } from "../../src/base/shape";
import { jsonBytes } from "../../src/io/json";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { tiny } from "../support/tiny";
import { some } from "../support/long";

interface Case {
  readonly family: string;
  readonly adapter: string;
  readonly search: string;
  readonly endIds: readonly number[];
  readonly texts: readonly { readonly ids: number[]; readonly hasEnded: boolean; readonly score?: number }[];
}

interface Search {
  readonly max_new_tokens: number;
  readonly num_beams?: number;
  readonly length_penalty?: number;
  readonly no_repeat_ngram_size?: number;
  readonly early_stopping?: boolean;
  readonly repetition_penalty?: number;
}

const DATA = "test/interop-data";
/** Texts that transformers generates; test/interop/generate.py writes them. */
const { prompts, searches, cases } = readJson<{
  readonly prompts: number[][];
  readonly searches: Readonly<Record<string, Search>>;
  readonly cases: readonly Case[];
}>("test/interop/generate.json");

const engine = await useEngine();

const open = (family: string): Promise<LoadedModel> => loadModel(engine, `${DATA}/${family}/base`);

function optionsOf(search: Search, endIds: readonly number[]): GenerateOptions {
  return {
    maxNewTokens: search.max_new_tokens,
    beams: search.num_beams ?? 1,
    endIds,
    lengthPenalty: search.length_penalty ?? 1,
    noRepeatNgram: search.no_repeat_ngram_size ?? 0,
    earlyStopping: search.early_stopping ?? false,
    repetitionPenalty: search.repetition_penalty ?? 1,
  };
}

async function generateCase(loaded: LoadedModel, { family, adapter, search, endIds }: Case, batchSize?: number) {
  const weights =
    adapter === "base" ? undefined : await loadAdapter(await openDirectory(`${DATA}/${family}/${adapter}`), loaded);
  const options = optionsOf(searches[search]!, endIds);
  return generate(loaded, prompts, { ...options, ...(weights && { weights }), ...(batchSize && { batchSize }) });
}

it("texts end with the tokens of generation_config.json, before those of config.json", async () => {
  const files = await openDirectory(`${DATA}/llama/base`);
  const [config, weights] = await Promise.all(["config.json", "model.safetensors"].map((file) => files.read(file)));
  const stored = { "config.json": config!, "model.safetensors": weights! };
  const continued = async (more: Readonly<Record<string, Uint8Array>>) => {
    using loaded = await loadModel(engine, memoryDirectory("m", { ...stored, ...more }));
    const [continuation] = await generate(loaded, prompts.slice(0, 1), { maxNewTokens: 4 });
    return continuation!;
  };
  const { ids } = await continued({});
  const ended = await continued({ "generation_config.json": jsonBytes({ eos_token_id: [999, ids[2]] }) });
  expect(ended.ids).toEqual(ids.slice(0, ids.indexOf(ids[2]!)));
  expect(ended.hasEnded).toBe(true);
});

describe("prompts are continued as transformers continues them", () => {
  it.each(some(cases, 3))("$family, $adapter: $search", async (example) => {
    using loaded = await open(example.family);
    const texts = await generateCase(loaded, example);
    example.texts.forEach(({ ids, hasEnded, score }, i) => {
      expect(texts[i]?.ids, `prompt ${i + 1}`).toEqual(ids);
      expect(texts[i]?.hasEnded, `whether prompt ${i + 1} ended`).toBe(hasEnded);
      if (score !== undefined) expect(texts[i]?.score, `score of prompt ${i + 1}`).toBeCloseTo(score, 4);
    });
  });
});

it("prompts are continued together as they are one by one", async () => {
  using loaded = await open("llama");
  const example = cases.find(({ family, search }) => family === "llama" && search.startsWith("10 beams"))!;
  expect(await generateCase(loaded, example, 1)).toEqual(await generateCase(loaded, example, 4));
});

describe("tokens are drawn", () => {
  const draw = async (loaded: LoadedModel, options: GenerateOptions) =>
    (await generate(loaded, prompts, { maxNewTokens: 8, endIds: [], ...options })).map(({ ids }) => ids);

  it("by seeds, whatever the batches", async () => {
    using loaded = await open("llama");
    const [once, again, others] = [
      await draw(loaded, { temperature: 2, batchSize: 1 }),
      await draw(loaded, { temperature: 2, batchSize: 3 }),
      await draw(loaded, { temperature: 2, seed: 1 }),
    ];
    expect(again).toEqual(once);
    expect(others).not.toEqual(once);
  });

  it("as the likeliest ones where no others are kept, with the model's own probabilities", async () => {
    using loaded = await open("gpt2");
    const options = { maxNewTokens: 8, endIds: [] };
    const greedy = await generate(loaded, prompts, options);
    for (const alone of [{ topK: 1 }, { topP: 0 }, { minP: 1 }]) {
      expect(await generate(loaded, prompts, { ...options, ...alone }), JSON.stringify(alone)).toEqual(greedy);
    }
  });

  it("as generation_config.json says, where it is asked to", async () => {
    const files = await openDirectory(`${DATA}/llama/base`);
    const [config, weights] = await Promise.all(["config.json", "model.safetensors"].map((file) => files.read(file)));
    const openWith = (generation: object) => {
      const stored = { "config.json": config!, "model.safetensors": weights! };
      return loadModel(engine, memoryDirectory("m", { ...stored, "generation_config.json": jsonBytes(generation) }));
    };
    using plain = await openWith({});
    const settings = { temperature: 3, top_k: 9, top_p: 0.9, min_p: 0.01, repetition_penalty: 1.4 };
    using configured = await openWith({ do_sample: true, ...settings });
    expect(await draw(configured, {}), "not asked to").toEqual(await draw(plain, {}));
    const given = { temperature: 3, topK: 9, topP: 0.9, minP: 0.01, repetitionPenalty: 1.4 };
    expect(await draw(configured, { sample: true })).toEqual(await draw(plain, given));
    expect(await draw(configured, { sample: true })).not.toEqual(await draw(plain, { sample: true }));
    using typical = await openWith({ typical_p: 0.5 });
    const error = await failure(draw(typical, { sample: true }), ConfigError);
    expect(error.message).toMatch(/generation_config.json has typical_p 0.5/);
  });
});

describe("texts", () => {
  /** A word for each id. */
  const tokenizer = { decode: (ids: Iterable<number>): string => [...ids].map((id) => `<${id}>`).join("") };
  const options = { tokenizer, maxNewTokens: 12, endIds: [] };
  const textOf = tokenizer.decode;

  it("end with the token that completes a stop text, each by itself", async () => {
    using loaded = await open("llama");
    const whole = await generate(loaded, prompts, options);
    // A text that ends within a token, and that only the first two prompts' continuations have.
    const [first, second] = [whole[0]!.ids.slice(2, 5), whole[1]!.ids.slice(6, 8)];
    const stop = [textOf(first).slice(1, -1), textOf(second).slice(1, -1)];
    const stopped = await generate(loaded, prompts, { ...options, stop });
    for (const [i, { ids, hasEnded }] of stopped.entries()) {
      const expected = whole[i]!.ids;
      const length =
        expected.findIndex((_, at) => stop.some((text) => textOf(expected.slice(0, at + 1)).includes(text))) + 1;
      expect(ids, `prompt ${i + 1}`).toEqual(length === 0 ? expected : expected.slice(0, length));
      expect(hasEnded).toBe(length > 0);
    }
    expect(stopped[0]!.ids.length).toBeLessThan(12);
    const beams = await generate(loaded, prompts, { ...options, stop, beams: 3 });
    for (const { ids, hasEnded } of beams) expect(hasEnded).toBe(stop.some((text) => textOf(ids).includes(text)));
    expect((await failure(generate(loaded, prompts, { stop }), ConfigError)).message).toMatch(/need a tokenizer/);
  });

  it("end with stop_strings of generation_config.json, unless other stop texts are given", async () => {
    const files = await openDirectory(`${DATA}/llama/base`);
    const [config, weights] = await Promise.all(["config.json", "model.safetensors"].map((file) => files.read(file)));
    const openWith = (stop_strings: unknown) => {
      const generation = { "generation_config.json": jsonBytes({ stop_strings }) };
      return loadModel(
        engine,
        memoryDirectory("m", { "config.json": config!, "model.safetensors": weights!, ...generation }),
      );
    };
    const [prompt] = prompts;
    using plain = await openWith(null);
    const [whole] = await generate(plain, [prompt!], options);
    const stop = textOf(whole!.ids.slice(2, 4));
    for (const written of [stop, ["never", stop]]) {
      using loaded = await openWith(written);
      expect(await generate(loaded, [prompt!], options)).toEqual(
        await generate(plain, [prompt!], { ...options, stop: [stop] }),
      );
      const pieces: string[] = [];
      for await (const piece of streamText(loaded, prompt!, options)) pieces.push(piece);
      expect(pieces.join("")).toBe(textOf(whole!.ids.slice(0, 2)));
      expect(await generate(loaded, [prompt!], { ...options, stop: [] })).toEqual([whole]);
      const { message } = await failure(generate(loaded, [prompt!], { maxNewTokens: 2 }), ConfigError);
      expect(message).toMatch(/The stop texts .* need a tokenizer/);
    }
    using wrong = await openWith(5);
    expect((await failure(generate(wrong, [prompt!], options), ConfigError)).message).toMatch(/stop_strings .* is 5/);
  });

  it("come in pieces, and leaving the loop ends them and frees their memory", async () => {
    using loaded = await open("gpt2");
    const before = engine.ledger.liveBytes;
    const [expected] = await generate(loaded, prompts.slice(0, 1), options);
    const pieces: string[] = [];
    for await (const piece of streamText(loaded, prompts[0]!, options)) pieces.push(piece);
    expect(pieces).toEqual(expected!.ids.map((id) => textOf([id])));
    let tokens = 0;
    const onToken = (): void => {
      tokens++;
    };
    for await (const piece of streamText(loaded, prompts[0]!, { ...options, maxNewTokens: 40, onToken })) {
      expect(piece).toBe(pieces[0]);
      break;
    }
    expect(tokens).toBeLessThan(20);
    expect(engine.ledger.liveBytes).toBe(before);
    const stop = [textOf(expected!.ids.slice(3, 5))];
    const stopped: string[] = [];
    for await (const piece of streamText(loaded, prompts[0]!, { ...options, stop })) stopped.push(piece);
    const text = textOf(expected!.ids);
    expect(stopped.join("")).toBe(text.slice(0, text.indexOf(stop[0]!)));
  });

  it("end as they are when a signal says so", async () => {
    using loaded = await open("gpt2");
    const whole = await generate(loaded, prompts, options);
    const controller = new AbortController();
    const onIds = (_: number, ids: readonly number[]): void => {
      if (ids.length === 3) controller.abort();
    };
    const ended = await generate(loaded, prompts, { ...options, batchSize: 2, signal: controller.signal, onIds });
    expect(ended.map(({ ids }) => ids)).toEqual([...whole.slice(0, 2).map(({ ids }) => ids.slice(0, 3)), [], []]);
    expect(ended.every(({ hasEnded }) => !hasEnded)).toBe(true);
  });

  it("of a tokenizer are what it decodes", async () => {
    using loaded = await open("gpt2");
    const bytes = await loadTokenizer("test/interop-data/tokenizers/gpt2");
    let text = "";
    for await (const piece of streamText(loaded, prompts[2]!, { ...options, tokenizer: bytes })) text += piece;
    const [expected] = await generate(loaded, [prompts[2]!], options);
    expect(text).toBe(bytes.decode(expected!.ids));
  });

  it("are refused where their prompt is", async () => {
    using loaded = await open("gpt2");
    expect((await failure(streamText(loaded, [83], options).next(), DataError)).message).toMatch(/token id 83/);
  });
});

describe("a session of texts", () => {
  const bytes = { decode: (ids: Iterable<number>) => String.fromCharCode(...Array.from(ids, (id) => 97 + (id % 26))) };
  const kinds: readonly [string, object, () => Adapter | undefined][] = [
    ["llama", tiny.llama({ max_position_embeddings: 96 }), () => undefined],
    ["gpt2 with virtual tokens", tiny.gpt2({ n_positions: 96 }), () => promptTuning({ tokens: 3 })],
    ["llama with a prefix", tiny.llama({ max_position_embeddings: 96 }), () => prefixTuning({ tokens: 5 })],
    ["gemma3 with a window", tiny.gemma3_text({ max_position_embeddings: 96 }), () => undefined],
  ];

  it.each(some(kinds, 3))(
    "of %s gives what each prompt gives by itself, and reads what is new",
    async (_, config, make) => {
      using model = await initialiseModel(engine, { ...config, initializer_range: 0.5 });
      const adapter = make();
      const tensors = new Map(
        adapter?.tensors(model.model).map(({ name, shape }) => {
          const data = Float32Array.from({ length: elements(shape) }, (_, i) => Math.sin(i));
          return [name, { shape, data }] as const;
        }),
      );
      const weights = adapter && { adapter, tensors };
      const before = engine.ledger.liveBytes;
      const session = await openTextSession(model, { ...(weights && { weights }) });
      const read = async (prompt: readonly number[], more: object = {}) => {
        const options = { tokenizer: bytes, maxNewTokens: 6, endIds: [], ...more };
        const pieces = session.stream(prompt, options);
        let next = await pieces.next();
        while (!next.done) next = await pieces.next();
        const { tokenizer: _tokenizer, ...alone } = options;
        const [expected] = await generate(model, [prompt], { ...alone, ...(weights && { weights }) });
        expect(next.value.ids).toEqual(expected!.ids);
        expect(next.value.score).toBeCloseTo(expected!.score, 4);
        return [session.reusedTokens, next.value.ids] as const;
      };
      const first = [5, 6, 7, 8, 9, 10, 11];
      const [none, answer] = await read(first);
      expect(none).toBe(0);
      // The last token of an answer has not been read.
      const second = [...first, ...answer, 12, 13];
      const [reused, more] = await read(second, { temperature: 0.7, seed: 4 });
      expect(reused).toBe(first.length + answer.length - 1);
      const third = [...first.slice(0, 4), 20, 21, 22];
      expect((await read(third))[0], "as far as it is the same").toBe(4);
      expect((await read(third))[0], "all but the last token").toBe(third.length - 1);
      const long = [...third, ...second, ...more, ...second];
      expect((await read(long))[0], "the caches have grown").toBe(0);
      expect((await read([...long, 3]))[0]).toBe(long.length);
      session.dispose();
      expect(engine.ledger.liveBytes).toBe(before);
    },
  );

  it("goes on after a text that was stopped, and writes one at a time", async () => {
    using model = await initialiseModel(engine, tiny.llama());
    using session = await openTextSession(model);
    const options = { tokenizer: bytes, maxNewTokens: 8, endIds: [] };
    const prompt = [5, 6, 7, 8];
    const stopped = session.stream(prompt, options);
    await stopped.next();
    await stopped.return({ ids: [], score: 0, hasEnded: false });
    const pieces = session.stream([...prompt, 9], options);
    await pieces.next();
    expect(session.reusedTokens).toBe(4);
    expect((await failure(session.stream(prompt, options).next(), ConfigError)).message).toMatch(
      /writing another text/,
    );
    let next = await pieces.next();
    while (!next.done) next = await pieces.next();
    expect(next.value.ids).toEqual((await generate(model, [[...prompt, 9]], { maxNewTokens: 8, endIds: [] }))[0]!.ids);
  });
});

it("generation ends at the last position of the model", async () => {
  using loaded = await open("gpt2");
  const { maxLength } = loaded.model;
  const progress: number[] = [];
  const onToken = (done: number, most: number): void => void progress.push(done / most);
  const [text] = await generate(loaded, [prompts[0]!], { maxNewTokens: 500, endIds: [], onToken });
  expect(text!.ids).toHaveLength(maxLength - prompts[0]!.length + 1);
  const expected = Array.from({ length: text!.ids.length - 1 }, (_, i) => (i + 1) / 500);
  expect(progress, "one report for each token but the last, which ends the text").toEqual(expected);
});

it("a trainer generates with its adapter, and its memory stays as it was", async () => {
  using loaded = await open("gpt2");
  const { adapter, tensors } = await loadAdapter(await openDirectory(`${DATA}/gpt2/lora`), loaded);
  const ids = Int32Array.from(prompts[2]!);
  const batch = makeBatch([{ ids, label: ids }], { size: 1, length: ids.length, labels: "token", padId: 0 });
  const data = { perEpoch: 1, next: () => batch };
  using trainer = await Trainer.create({ model: loaded, adapter, initial: tensors, data, steps: 2 });
  const example = cases.find(({ family, adapter: kind }) => family === "gpt2" && kind === "lora")!;
  const before = engine.ledger.liveBytes;
  const texts = await trainer.generate(prompts, optionsOf(searches[example.search]!, example.endIds));
  expect(texts.map((text) => text.ids)).toEqual(example.texts.map((text) => text.ids));
  expect(engine.ledger.liveBytes, "bytes after generating").toBe(before);
  const result = await trainer.train();
  expect(Number.isFinite(result.lossLast)).toBe(true);
});

it("generation within a run keeps to the run's budget, caches included, or is refused", async () => {
  using loaded = await open("gpt2");
  const ids = Int32Array.from(prompts[2]!);
  const batch = makeBatch([{ ids, label: ids }], { size: 1, length: ids.length, labels: "token", padId: 0 });
  const options = { model: loaded, adapter: lora(), data: { perEpoch: 1, next: () => batch }, steps: 1 };
  const { neededBytes } = await failure(Trainer.create({ ...options, memory: { budget: 1 } }), MemoryBudgetError);
  using trainer = await Trainer.create({ ...options, memory: { budget: neededBytes } });
  const before = engine.ledger.liveBytes;
  engine.ledger.resetPeak();
  await trainer.generate([[3, 4]], { maxNewTokens: 2, endIds: [] });
  expect(engine.ledger.peakBytes).toBeLessThanOrEqual(neededBytes);
  engine.ledger.resetPeak();
  const many = Array.from({ length: 64 }, () => [3, 4]);
  await failure(trainer.generate(many, { maxNewTokens: 40, batchSize: 64, endIds: [] }), MemoryBudgetError);
  expect(engine.ledger.peakBytes, "peak of what is refused").toBe(before);
  expect(engine.ledger.liveBytes, "bytes afterwards").toBe(before);
});

describe("generation refuses", () => {
  it.each([
    ["an empty prompt", [[]], {}, DataError, /prompt 1 is empty/],
    ["an id that the model does not know", [[3], [83]], {}, DataError, /prompt 2 has the token id 83.*below 83/s],
    [
      "a prompt longer than the model",
      [Array.from({ length: 49 }, () => 1)],
      {},
      DataError,
      /49 tokens; the model takes at most 48/,
    ],
    ["no beams", [[1]], { beams: 0 }, ConfigError, /beams is 0/],
    ["a temperature of 0", [[1]], { temperature: 0 }, ConfigError, /temperature is 0.*likeliest/s],
    ["a probability above 1", [[1]], { topP: 1.5 }, ConfigError, /topP is 1.5/],
    ["half a token", [[1]], { topK: 0.5 }, ConfigError, /topK is 0.5/],
    ["a penalty of 0", [[1]], { repetitionPenalty: 0 }, ConfigError, /repetitionPenalty is 0/],
    ["a seed that is not whole", [[1]], { seed: 0.5 }, ConfigError, /seed is 0.5/],
    ["drawn beams", [[1]], { minP: 0.1, beams: 2 }, ConfigError, /Sampling with 2 beams/],
    ["to draw and not to draw", [[1]], { minP: 0.1, sample: false }, ConfigError, /minP is for sampling/],
    [
      "a length penalty that is not a number",
      [[1]],
      { lengthPenalty: Number.NaN },
      ConfigError,
      /lengthPenalty is NaN/,
    ],
  ] as const)("%s", async (_name, given, options, kind, message) => {
    using loaded = await open("gpt2");
    const before = engine.ledger.liveBytes;
    const error = await failure<SafetapeError>(generate(loaded, given, options), kind);
    expect(error.message).toMatch(message);
    expect(engine.ledger.liveBytes).toBe(before);
  });

  it("a model without a language head", async () => {
    using loaded = await loadModel(engine, `${DATA}/gpt2/base`, { task: "sequence_classification", labels: 2 });
    expect((await failure(generate(loaded, [[1]]))).message).toMatch(/head for sequence_classification/);
  });

  it("logits that are not finite", async () => {
    using loaded = await open("gpt2");
    const table = loaded.weights.get("transformer.wte.weight");
    table?.write(new Float32Array(83 * 32).fill(Number.NaN));
    expect((await failure(generate(loaded, [[1]]))).message).toMatch(/logit of new token 1 is not finite/);
  });
});
