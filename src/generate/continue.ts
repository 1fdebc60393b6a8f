import { ConfigError, DataError } from "../base/errors";
import { generateSettings } from "./options";
import type { Continuation, GenerateOptions, GenerateSettings, Prompt } from "./options";
import { CacheRows } from "./cache-rows";
import { Search } from "./search";
import { tokensBefore } from "../model/forward";
import type { Inputs } from "../run/executor";
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
  if (!model.output) {
    throw new ConfigError(
      `This ${model.family} model has a head for ${model.task}.`,
      'Load it with { task: "causal_lm" }.',
    );
  }
  const settings = generateSettings(options, parts.loaded.generationConfig);
  const maxPromptLength = model.maxLength - tokensBefore(parts.adapter);
  prompts.forEach((prompt, i) => checkPrompt(prompt, i, maxPromptLength, model.vocabularySize));
  const results: Continuation[] = [];
  for (let first = 0; first < prompts.length; first += settings.batchSize) {
    const group = prompts.slice(first, first + settings.batchSize);
    // Once it is aborted, prompts that were not begun have empty continuations.
    const isAborted = options.signal?.aborted === true;
    const untouched = () => group.map(() => ({ ids: [], score: 0, hasEnded: false }));
    results.push(...(isAborted ? untouched() : await continueGroup(parts, group, first, settings, options)));
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
  allPrompts: readonly Prompt[],
  firstIndex: number,
  settings: GenerateSettings,
  { onToken, onIds, signal }: Pick<GenerateOptions, "onToken" | "onIds" | "signal">,
): Promise<Continuation[]> {
  const { model } = parts.loaded;
  const before = tokensBefore(parts.adapter);
  const { beams } = settings;
  const padded = (texts: readonly Prompt[]): number => {
    const longest = Math.max(...texts.map(({ length }) => length));
    return Math.min(model.maxLength - before, Math.ceil(longest / LENGTH_STEP) * LENGTH_STEP);
  };
  const { kept } = parts;
  const startId = model.encoderDecoder?.startId;
  // An encoder reads the prompts; what the decoder continues is its start id.
  const sources = startId === undefined ? undefined : { texts: allPrompts, length: padded(allPrompts) };
  const prompts = startId === undefined ? allPrompts : allPrompts.map(() => [startId]);
  const beforeTexts = sources ? 0 : before;
  const longest = sources ? 1 : padded(prompts);
  const needed = Math.min(model.maxLength, beforeTexts + longest + settings.maxNewTokens);
  const known = kept?.begin(prompts[0]!, needed, {
    most: model.maxLength,
    limit: (model.constantsChangeAbove ?? Infinity) - before,
  });
  // Positions of kept caches are filled from the first one on.
  const first = known === undefined || known === 0 ? 0 : before + known;
  const unread = prompts.map((prompt) => Array.from(prompt).slice(known ?? 0));
  const capacity = kept?.capacity ?? needed;
  const length = sources ? 1 : Math.min(padded(unread), capacity - first);
  const rows = prompts.length * beams;
  const sizes = {
    prompts: prompts.length,
    length,
    rows,
    capacity,
    sourceLength: sources?.length,
    isContinuing: first > 0,
  };
  return GenerationSession.run(parts, sizes, async (session) => {
    const searches = prompts.map((prompt, i) => {
      // The last token need not be in the cache, since no token follows it.
      const room = model.maxLength - beforeTexts - prompt.length + 1;
      const maxNewTokens = Math.min(settings.maxNewTokens, room);
      return new Search(Array.from(prompt), { ...settings, maxNewTokens }, firstIndex + i);
    });
    const cacheRows = new CacheRows(rows, capacity);
    const read = sources && encodedInputs(sources, before, model.firstPosition);
    const firstLogits = await session.prompts({
      ...promptTokens(unread, { length, beams, capacity, first }),
      ...(read && { encoded: read.prompts }),
    });
    kept?.ids.push(...unread[0]!);
    const encoded = read?.rows(beams);
    const ids = new Int32Array(rows);
    searches.forEach((search, i) => {
      cacheRows.extend(i * beams, beforeTexts + prompts[i]!.length);
      advance(search, [firstLogits[i]!], i * beams, beams, cacheRows, ids);
      onIds?.(firstIndex + i, search.best.ids);
    });
    const last = new Int32Array(rows);
    for (let token = 1; signal?.aborted !== true && searches.some(({ isDone }) => !isDone); token++) {
      onToken?.(token, settings.maxNewTokens);
      const logits = await session.next({
        ids,
        owners: cacheRows.owners,
        starts: cacheRows.starts,
        last,
        ...(encoded && { encoded }),
      });
      kept?.ids.push(ids[0]!);
      searches.forEach((search, i) => {
        if (search.isDone) return;
        for (let row = i * beams; row < i * beams + search.width; row++) cacheRows.extend(row, 1);
        advance(search, logits.slice(i * beams, i * beams + search.width), i * beams, beams, cacheRows, ids);
        onIds?.(firstIndex + i, search.best.ids);
      });
    }
    return searches.map(({ best }) => best);
  });
}

/** Prompts [prompts, length], padded on the right, from position `first` on. Prompt i is written to the cache row of its first beam. */
function promptTokens(
  prompts: readonly Prompt[],
  { length, beams, capacity, first }: Readonly<Record<"length" | "beams" | "capacity" | "first", number>>,
) {
  const ids = new Int32Array(prompts.length * length);
  prompts.forEach((prompt, i) => ids.set(Array.from(prompt), i * length));
  return {
    ids,
    owners: Int32Array.from({ length: prompts.length * capacity }, (_, i) => Math.floor(i / capacity) * beams),
    starts: new Int32Array(prompts.length).fill(first),
    last: Int32Array.from(prompts, (prompt) => prompt.length - 1),
  };
}

/**
 * What an encoder reads, texts padded on the right to `length` tokens and behind `before` virtual tokens, and where their rows are
 * in the caches of its output.
 */
function encodedInputs(
  { texts, length }: { readonly texts: readonly Prompt[]; readonly length: number },
  before: number,
  firstPosition = 0,
): { readonly prompts: Inputs; rows(beams: number): Inputs } {
  const ids = new Int32Array(texts.length * length);
  texts.forEach((text, i) => ids.set(Array.from(text), i * length));
  const total = before + length;
  const isRead = (text: number, position: number): boolean => position < before + texts[text]!.length;
  const whereOf = (beams: number): Inputs => {
    const rows = texts.length * beams;
    return {
      encoded_owners: Int32Array.from({ length: rows * total }, (_, i) => {
        const text = Math.floor(i / total / beams);
        return isRead(text, i % total) ? text : -1;
      }),
      encoded_starts: new Int32Array(rows),
    };
  };
  return {
    prompts: {
      ...whereOf(1),
      seed: new Uint32Array(2 * texts.length),
      input_ids: ids,
      positions: Int32Array.from({ length: total }, (_, i) => firstPosition + i),
      attention_mask: Int32Array.from({ length: texts.length * total }, (_, i) =>
        Number(isRead(Math.floor(i / total), i % total)),
      ),
    },
    rows: whereOf,
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
