import { ConfigError, DataError } from "../base/errors";
import { generateSettings } from "./options";
import type { Continuation, GenerateOptions, GenerateSettings, Prompt } from "./options";
import { CacheRows } from "./cache-rows";
import { Search } from "./search";
import { GenerationSession } from "./session";
import type { GenerationParts } from "./session";

/** Prompts are padded to a multiple of this many tokens, so that fewer kernels and plans differ. */
const LENGTH_STEP = 16;

/** Continues prompts as `generate` does, with an executor and tensors that exist already. */
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
  const maxPromptLength = model.maxLength - (parts.adapter?.virtualTokens ?? 0);
  prompts.forEach((prompt, i) => checkPrompt(prompt, i, maxPromptLength, model.vocabularySize));
  const results: Continuation[] = [];
  for (let first = 0; first < prompts.length; first += settings.batchSize) {
    const group = prompts.slice(first, first + settings.batchSize);
    results.push(...(await continueGroup(parts, group, settings, options.onToken)));
    options.onDone?.(results.length, prompts.length);
  }
  return results;
}

function checkPrompt(prompt: Prompt, index: number, maxLength: number, vocabularySize: number): void {
  if (prompt.length === 0) throw new DataError(`prompt ${index + 1} is empty`, "give at least one token");
  if (prompt.length > maxLength) {
    throw new DataError(
      `prompt ${index + 1} has ${prompt.length} tokens; the model takes at most ${maxLength}`,
      "drop tokens from its start",
    );
  }
  const bad = Array.from(prompt).find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (bad === undefined) return;
  throw new DataError(
    `prompt ${index + 1} has the token id ${bad}; the model knows ids below ${vocabularySize}`,
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
  const virtualTokens = parts.adapter?.virtualTokens ?? 0;
  const { beams } = settings;
  const longest = Math.max(...prompts.map(({ length }) => length));
  const length = Math.min(model.maxLength - virtualTokens, Math.ceil(longest / LENGTH_STEP) * LENGTH_STEP);
  const capacity = Math.min(model.maxLength, virtualTokens + length + settings.maxNewTokens);
  const rows = prompts.length * beams;
  const sizes = { prompts: prompts.length, length, rows, capacity };
  return GenerationSession.run(parts, sizes, async (session) => {
    const searches = prompts.map((prompt) => {
      // The last token need not be in the cache, since no token follows it.
      const room = model.maxLength - virtualTokens - prompt.length + 1;
      return new Search(Array.from(prompt), { ...settings, maxNewTokens: Math.min(settings.maxNewTokens, room) });
    });
    const cacheRows = new CacheRows(rows, capacity);
    const firstLogits = await session.prompts(promptTokens(prompts, length, beams, capacity));
    const ids = new Int32Array(rows);
    searches.forEach((search, i) => {
      cacheRows.extend(i * beams, virtualTokens + prompts[i]!.length);
      advance(search, [firstLogits[i]!], i * beams, beams, cacheRows, ids);
    });
    const last = new Int32Array(rows);
    for (let token = 1; searches.some(({ isDone }) => !isDone); token++) {
      onToken?.(token, settings.maxNewTokens);
      const logits = await session.next({ ids, owners: cacheRows.owners, starts: cacheRows.starts, last });
      searches.forEach((search, i) => {
        if (search.isDone) return;
        for (let row = i * beams; row < i * beams + search.width; row++) cacheRows.extend(row, 1);
        advance(search, logits.slice(i * beams, i * beams + search.width), i * beams, beams, cacheRows, ids);
      });
    }
    return searches.map(({ best }) => best);
  });
}

/** Prompts [prompts, length], padded on the right. Prompt i is written to the cache row of its first beam. */
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

/**
 * Advances a search by a token: writes the next tokens of its rows, which start at `firstRow`, into `ids`. Rows that it does
 * not need are ended.
 */
function advance(
  search: Search,
  logits: readonly Float32Array[],
  firstRow: number,
  beams: number,
  cacheRows: CacheRows,
  ids: Int32Array,
): void {
  const { tokens, parents } = search.advance(logits);
  cacheRows.descend(firstRow, parents);
  for (let i = 0; i < beams; i++) {
    ids[firstRow + i] = tokens[i] ?? 0;
    if (i >= tokens.length) cacheRows.end(firstRow + i);
  }
}
