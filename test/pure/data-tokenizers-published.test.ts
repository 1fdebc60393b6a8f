import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ChatMessage } from "../../src/data/chat";
import { loadChatTemplate } from "../../src/data/chat-template";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { Encoded, Tokenizer } from "../../src/data/tokenizer";
import { memoryDirectory } from "../../src/io/directory";
import { openDirectory } from "../../src/node/directory";
import { readJson } from "../support/json";
import { sharedData, sharedFile, unless } from "../support/shared-data";

/** What Python's tokenizers make of a text. Offsets count code points. */
interface Encoding {
  readonly ids: number[];
  readonly offsets: [number, number][];
  readonly type_ids?: number[];
  readonly sequence_ids?: (number | null)[];
}

interface Case {
  readonly text: string;
  readonly pair?: string;
  readonly with_special: Encoding;
  readonly without_special: Encoding;
  readonly decode_skip_special?: string;
  readonly decode_keep_special?: string;
}

/** A chat as transformers writes it, and its ids. */
interface Chat {
  readonly messages: readonly ChatMessage[];
  readonly add_generation_prompt: boolean;
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly ids: number[];
}

const shared = sharedData("tokenizers");

describe.skipIf(shared === undefined).each(shared === undefined ? ["twelve models"] : readdirSync(shared))(
  `the published tokenizer of %s${unless(shared)}`,
  (name) => {
    it("gives the ids, types, positions and texts of Python's tokenizers, and its chats", async () => {
      const folder = join(shared!, name);
      const files = ["tokenizer.json", "tokenizer_config.json"].map(
        (file) => [file, sharedFile(folder, file)] as const,
      );
      const directory = memoryDirectory(name, Object.fromEntries(files));
      const tokenizer = await loadTokenizer(directory);
      const expected = readJson<{ cases: Case[]; pairs: Case[]; chat?: Chat[] }>(join(folder, "expected.json"));
      const { cases, pairs, chat = [] } = expected;
      for (const wanted of [...cases, ...pairs]) expectSame(tokenizer, wanted);
      expect(cases.length + pairs.length, "cases").toBe(38);
      const template = await loadChatTemplate(directory);
      for (const { messages, text, ids, kwargs: variables, add_generation_prompt: addGenerationPrompt } of chat) {
        expect(template!.render(messages, { variables, addGenerationPrompt })).toBe(text);
        expect([...tokenizer.encode(text, undefined, { specialTokens: false }).ids], text).toEqual(ids);
      }
    });
  },
);

function expectSame(tokenizer: Tokenizer, wanted: Case): void {
  for (const specialTokens of [true, false]) {
    const encoding = specialTokens ? wanted.with_special : wanted.without_special;
    const encoded = tokenizer.encode(wanted.text, wanted.pair, { specialTokens });
    expect([...encoded.ids], wanted.text).toEqual(encoding.ids);
    expect(codePointSpans(encoded, wanted), wanted.text).toEqual(encoding.offsets);
    if (encoding.type_ids) expect([...encoded.typeIds], wanted.text).toEqual(encoding.type_ids);
    const sources = encoded.sources.map((source) => source ?? null);
    if (encoding.sequence_ids) expect(sources, wanted.text).toEqual(encoding.sequence_ids);
  }
  const { ids } = wanted.with_special;
  if (wanted.decode_skip_special === undefined) return;
  expect(tokenizer.decode(ids)).toBe(wanted.decode_skip_special);
  expect(tokenizer.decode(ids, { keepSpecial: true })).toBe(wanted.decode_keep_special);
}

function codePointSpans({ spans, sources }: Encoded, { text, pair = "" }: Case): number[][] {
  return spans.map((span, i) => span.map((unit) => [...(sources[i] === 1 ? pair : text).slice(0, unit)].length));
}

describe("steps of tokenizers", () => {
  const folder = "test/interop-data/tokenizers";
  const all = readJson<Record<string, { text: string; ids: number[] }[]>>(`${folder}/steps.json`);
  const cases = Object.entries(all).flatMap(([name, list]) => list.map((one) => ({ name, ...one })));

  it.each(cases)("give the ids of Python's tokenizers: $name, $text", async ({ name, text, ids }) => {
    const tokenizer = await loadTokenizer(await openDirectory(`${folder}/${name}`));
    expect([...tokenizer.encode(text).ids]).toEqual(ids);
  });
});
