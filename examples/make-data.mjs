// Writes the demo's data: sentences of the two domains of a small grammar as TSV in GLUE's layout, and a tokenizer for both.
// The files are always the same, since nothing depends on the machine or the time.
//
//   node examples/make-data.mjs [OUT]
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generate } from "./grammar.mjs";
import { SPECIAL, wordPieceTokenizer } from "./wordpiece.mjs";

const MAX_LENGTH = 40;

/** Contents of the files by their path below `examples/`. */
export function exampleFiles() {
  const [sourceTrain, sourceDev] = generate("source", 1, [8000, 600]);
  const [targetTrain, targetDev] = generate("target", 2, [3000, 600]);
  const words = vocabulary([sourceTrain, sourceDev, targetTrain, targetDev]);
  return {
    "data/source/train.tsv": tsv(sourceTrain),
    "data/source/dev.tsv": tsv(sourceDev),
    "data/sentiment/train.tsv": tsv(targetTrain),
    "data/sentiment/dev.tsv": tsv(targetDev),
    "model/vocab.txt": `${words.join("\n")}\n`,
    "model/tokenizer.json": json(wordPieceTokenizer(words)),
    "model/tokenizer_config.json": json({
      tokenizer_class: "BertTokenizer",
      do_lower_case: true,
      model_max_length: MAX_LENGTH,
      pad_token: "[PAD]",
      unk_token: "[UNK]",
      cls_token: "[CLS]",
      sep_token: "[SEP]",
      mask_token: "[MASK]",
    }),
  };
}

const json = (value) => `${JSON.stringify(value, null, 1)}\n`;

const tsv = (rows) => `sentence\tlabel\n${rows.map(({ text, label }) => `${text}\t${label}\n`).join("")}`;

/** Special tokens, all words in alphabetical order, and then letters with their continuations, for other words. */
function vocabulary(lists) {
  const words = new Set(lists.flat().flatMap(({ text }) => text.split(" ")));
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const pieces = [...letters, ...letters.map((letter) => `##${letter}`)].filter((piece) => !words.has(piece));
  return [...SPECIAL, ...[...words].sort(), ...pieces];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const out = process.argv[2] ?? fileURLToPath(new URL(".", import.meta.url));
  for (const [path, text] of Object.entries(exampleFiles())) {
    mkdirSync(join(out, path, ".."), { recursive: true });
    writeFileSync(join(out, path), text);
  }
}
