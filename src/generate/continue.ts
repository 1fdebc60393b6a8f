import { ConfigError, DataError } from "../base/errors";
import { generateSettings } from "./options";
import type { Continuation, GenerateOptions, GenerateSettings } from "./options";
import { Places } from "./places";
import type { Prompt } from "./generate";
import { Search } from "./search";
import { GenerationSession } from "./session";
import type { GenerationParts } from "./session";

/** Prompts are padded to a multiple of this many tokens, so that few plans are made. */
const LENGTH_STEP = 16;

/** `generate` with an executor and tensors that are there already. */
export async function continueTexts(
  parts: GenerationParts,
  prompts: readonly Prompt[],
  options: GenerateOptions,
): Promise<Continuation[]> {
  const { model } = parts.loaded;
  if (model.task !== "causal_lm") {
    throw new ConfigError(
      `This ${model.family} model has a head for ${model.task}.`,
      'Load it with { task: "causal_lm" }.',
    );
  }
  const settings = generateSettings(options, model.config);
  const room = model.maxLength - (parts.adapter?.virtualTokens ?? 0);
  prompts.forEach((prompt, i) => checkPrompt(prompt, i, room, model.vocabularySize));
  const results: Continuation[] = [];
  for (let first = 0; first < prompts.length; first += settings.batchSize) {
    const group = prompts.slice(first, first + settings.batchSize);
    results.push(...(await continueGroup(parts, group, settings, options.onToken)));
    options.onDone?.(results.length, prompts.length);
  }
  return results;
}

function checkPrompt(prompt: Prompt, index: number, room: number, vocabulary: number): void {
  if (prompt.length === 0) throw new DataError(`prompt ${index + 1} is empty`, "give at least one token");
  if (prompt.length > room) {
    throw new DataError(
      `prompt ${index + 1} has ${prompt.length} tokens; the model has room for ${room}`,
      "shorten it from its start",
    );
  }
  const bad = Array.from(prompt).find((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary);
  if (bad === undefined) return;
  throw new DataError(
    `prompt ${index + 1} has the token id ${bad}; the model knows ids below ${vocabulary}`,
    "use the tokenizer that belongs to the model",
  );
}

async function continueGroup(
  parts: GenerationParts,
  prompts: readonly Prompt[],
  settings: GenerateSettings,
  onToken: GenerateOptions["onToken"],
): Promise<Continuation[]> {
  const { model } = parts.loaded;
  const virtual = parts.adapter?.virtualTokens ?? 0;
  const { beams } = settings;
  const longest = Math.max(...prompts.map(({ length }) => length));
  const length = Math.min(model.maxLength - virtual, Math.ceil(longest / LENGTH_STEP) * LENGTH_STEP);
  const capacity = Math.min(model.maxLength, virtual + length + settings.maxNewTokens);
  const rows = prompts.length * beams;
  const sizes = { prompts: prompts.length, length, rows, capacity };
  return GenerationSession.run(parts, sizes, async (session) => {
    const searches = prompts.map((prompt) => {
      // The last token that fits needs no place in the cache: nothing follows it.
      const fits = model.maxLength - virtual - prompt.length + 1;
      return new Search(Array.from(prompt), { ...settings, maxNewTokens: Math.min(settings.maxNewTokens, fits) });
    });
    const places = new Places(rows, capacity);
    const first = await session.prompts(promptTokens(prompts, length, beams, capacity));
    const ids = new Int32Array(rows);
    searches.forEach((search, i) => {
      places.extend(i * beams, virtual + prompts[i]!.length);
      step(search, [first[i]!], i * beams, beams, places, ids);
    });
    const last = new Int32Array(rows);
    for (let made = 1; searches.some(({ isDone }) => !isDone); made++) {
      onToken?.(made, settings.maxNewTokens);
      const logits = await session.next({ ids, owners: places.owners, starts: places.starts, last });
      searches.forEach((search, i) => {
        if (search.isDone) return;
        for (let row = i * beams; row < i * beams + search.width; row++) places.extend(row, 1);
        step(search, logits.slice(i * beams, i * beams + search.width), i * beams, beams, places, ids);
      });
    }
    return searches.map(({ best }) => best);
  });
}

/** Prompts [prompts, length], padded behind; prompt i lies in the cache row of its first beam. */
function promptTokens(prompts: readonly Prompt[], length: number, beams: number, capacity: number) {
  const ids = new Int32Array(prompts.length * length);
  prompts.forEach((prompt, i) => ids.set(Array.from(prompt), i * length));
  return {
    ids,
    owners: Int32Array.from({ length: prompts.length * capacity }, (_, i) => Math.floor(i / capacity) * beams),
    starts: new Int32Array(prompts.length),
    last: Int32Array.from(prompts, (prompt) => prompt.length - 1),
  };
}

/** One step of a search: its rows from `first` on get their next tokens, rows that it does not need idle. */
function step(
  search: Search,
  logits: readonly Float32Array[],
  first: number,
  beams: number,
  places: Places,
  ids: Int32Array,
): void {
  const { tokens, parents } = search.advance(logits);
  places.descend(first, parents);
  for (let i = 0; i < beams; i++) {
    ids[first + i] = tokens[i] ?? 0;
    if (i >= tokens.length) places.end(first + i);
  }
}
