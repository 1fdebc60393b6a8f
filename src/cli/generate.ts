import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { FileFormatError } from "../base/errors";
import { readE2e } from "../data/e2e";
import { e2eMetricsFiles } from "../data/meteor";
import { loadTokenizer } from "../data/tokenizer";
import type { Tokenizer } from "../data/tokenizer";
import { generate } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import { jsonBytes } from "../io/json";
import { createEngine, loadModel, openDirectory } from "../node/index";
import { loadAdapter } from "../train/files";
import { countOption, numberOption, textOption, UsageError, weightsOption } from "./options";
import type { Given } from "./options";
import { e2eWriting } from "./text-data";
import { Screen } from "./view/screen";
import { stagesOn } from "./view/stage";

/** Beam search and its limits, as `generate`, `train` and `study` take them. */
export function generateOptions(given: Given): GenerateOptions {
  return {
    maxNewTokens: countOption(given, "maxNewTokens", "--max-new-tokens", 64),
    beams: countOption(given, "beams", "--beams", 1),
    lengthPenalty: numberOption(given, "lengthPenalty", "--length-penalty", 1, -Infinity),
    noRepeatNgram: countOption(given, "uniqueNgram", "--unique-ngram", 0, 0),
  };
}

/** What is to be continued, and what is done with the texts. */
interface Work {
  readonly prompts: readonly ArrayLike<number>[];
  readonly options?: GenerateOptions;
  finish(written: readonly Continuation[], texts: readonly string[]): Promise<void>;
}

/** `safetape generate`: continues prompts, or writes E2E's texts and scores them. */
export async function generateCommand(given: Given, print: (line: string) => void): Promise<void> {
  const modelPath = textOption(given, "model", "--model");
  const options = generateOptions(given);
  const tokenizer = await loadTokenizer(await openDirectory(modelPath));
  const work =
    given["e2e"] === undefined ? await promptWork(given, tokenizer, print) : await e2eWork(given, tokenizer, print);
  const screen = new Screen(given["quiet"] === true);
  const watched = stagesOn(screen);
  using engine = await createEngine();
  using loaded = await watched("loading weights", (tick) =>
    loadModel(engine, modelPath, { task: "causal_lm", weights: weightsOption(given), onProgress: tick }),
  );
  const weights =
    given["adapter"] === undefined
      ? undefined
      : await loadAdapter(await openDirectory(textOption(given, "adapter", "--adapter")), loaded);
  const written = await watched("writing", (tick) => {
    const of = work.prompts.length;
    let texts = 0;
    return generate(loaded, work.prompts, {
      ...options,
      ...work.options,
      ...(weights && { weights }),
      onDone(done) {
        texts = done;
        tick(done, of);
      },
      // The way to the next text, token by token.
      onToken: (made, most) => tick(texts + made / most, of),
    });
  });
  screen.end();
  await work.finish(
    written,
    written.map(({ ids }) => tokenizer.decode(ids)),
  );
}

/** `--prompt TEXT`, or `--prompts FILE` with one a line. */
async function promptWork(given: Given, tokenizer: Tokenizer, print: (line: string) => void): Promise<Work> {
  const texts = given["prompts"] === undefined ? [textOption(given, "prompt", "--prompt")] : await promptLines(given);
  return {
    prompts: texts.map((text) => tokenizer.encode(text).ids),
    finish(written, found) {
      found.forEach((text, i) => {
        const { score, hasEnded } = written[i]!;
        print(given["json"] ? JSON.stringify({ prompt: texts[i], text, score, hasEnded }) : `${texts[i]}${text}`);
      });
      return Promise.resolve();
    },
  };
}

async function promptLines(given: Given): Promise<string[]> {
  const path = textOption(given, "prompts", "--prompts");
  const text = await readFile(path, "utf8").catch(() => {
    throw new FileFormatError(`No file ${path}.`, "Give a text file with one prompt a line.");
  });
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length > 0) return lines;
  throw new UsageError(`${path} has no prompts.`, "Give one a line.");
}

/** `--e2e FILE.csv`: a text for every meaning, scored against its references, and the files of the challenge's scorer. */
async function e2eWork(given: Given, tokenizer: Tokenizer, print: (line: string) => void): Promise<Work> {
  const path = textOption(given, "e2e", "--e2e");
  const examples = await readE2e(await openDirectory(dirname(path)), basename(path));
  const outPath = textOption(given, "out", "--out");
  const hasReferences = examples.every(({ references }) => references.length > 0);
  const { prompts, judge } = e2eWriting(examples, tokenizer);
  return {
    prompts,
    // Words of the meaning come back in the text, as in Microsoft's LoRA.
    options: { ngramsOf: "answer" },
    async finish(written, found) {
      const items = examples.map(({ references }, i) => ({ text: found[i]!.trim(), references }));
      const { system, references } = e2eMetricsFiles(items);
      const scores = hasReferences ? await judge(written) : {};
      const encoder = new TextEncoder();
      const texts = items.map(({ text }, i) => ({ meaning: examples[i]?.meaning, text, score: written[i]?.score }));
      const out = await openDirectory(outPath, { create: true });
      await out.writeTogether([
        { file: "system.txt", content: encoder.encode(system) },
        ...(hasReferences ? [{ file: "references.txt", content: encoder.encode(references) }] : []),
        { file: "generated.json", content: jsonBytes({ options: given, scores, texts }) },
      ]);
      const told = Object.entries(scores).map(([name, value]) => `${name} ${value.toFixed(4)}`);
      if (given["json"]) print(JSON.stringify({ scores, out: out.name }));
      else print(`${told.join("  ")}${told.length > 0 ? "  " : ""}${items.length} texts in ${out.name}`);
    },
  };
}
